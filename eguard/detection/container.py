"""How far a process is inside a container, and whether it tries to leave: feature 20."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: Supervisors under which every process of a container runs.
CONTAINER_SUPERVISORS: Final = frozenset(
    {"conmon", "containerd-shim", "containerd-shim-runc-v2", "crun", "docker-init"}
)
_ENTERING: Final = frozenset({"nsenter", "unshare"})
_PRIVILEGED_TEXTS: Final = ("--privileged", "/var/run/docker.sock", "release_agent", "/proc/1/root", "--pid=host")


def container_risk(comm: str, ancestors: Sequence[str], command_line: str) -> float:
    """Return 1 for a privileged container or a way out of one, 0.5 inside a container, else 0.

    Examples
    --------
    >>> container_risk("sh", ("containerd-shim", "systemd"), "sh"), container_risk("sh", ("sshd",), "sh")
    (0.5, 0.0)
    >>> container_risk("docker", ("bash",), "docker run --privileged alpine")
    1.0
    """
    is_inside = not CONTAINER_SUPERVISORS.isdisjoint(ancestors)
    if is_inside and comm in _ENTERING:
        return 1.0
    if command_line and any(text in command_line for text in _PRIVILEGED_TEXTS):
        return 1.0
    return 0.5 if is_inside else 0.0
