"""What machine this is, as far as the standard library can tell, on any system."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from eguard import __version__
from eguard.agent.control.client import ControlClient, Request
from eguard.agent.control.credentials import server_address
from eguard.wire.bodies import encode_body
from eguard.wire.control import InventoryReport

#: How often a change is looked for.
LOOK_SECONDS: Final = 60.0
_MAX_TEXT: Final = 255
_MULTICAST_BIT: Final = 1 << 40
_RELEASE_FIELDS: Final = ("ID", "VERSION_ID", "VERSION_CODENAME", "PRETTY_NAME", "VARIANT")
_MEMORY_NAMES: Final = ("SC_PAGE_SIZE", "SC_PHYS_PAGES")


class Inventories:
    """The duty that reports the machine: at every interval, and within a minute of a change.

    Parameters
    ----------
    client : ControlClient
    agent_id : str
    sensor_name : callable
        Returns what watches the machine.
    interval_seconds : float
    """

    def __init__(
        self, client: ControlClient, *, agent_id: str, sensor_name: Callable[[], str], interval_seconds: float
    ) -> None:
        self._client = client
        self._agent_id = agent_id
        self._sensor_name = sensor_name
        self._interval_seconds = interval_seconds
        self._sent: tuple[InventoryReport, float] | None = None

    def report(self) -> None:
        """Send what machine this is, if it is time to, or if it has changed.

        Raises
        ------
        AgentBusyError, ServerRefusalError, ServerUnavailableError
            It is sent at the next look.
        """
        found = collect(self._agent_id, self._sensor_name(), self._client.server)
        now = time.monotonic()
        if self._sent is not None:
            earlier, at = self._sent
            if _is_same(found, earlier) and now - at < self._interval_seconds:
                return
        self._client.send(Request("/endpoint/inventory", encode_body(found)))
        self._sent = (found, now)


def collect(agent_id: str, sensor: str, server: str) -> InventoryReport:
    """Return the report; what the system does not say stays empty."""
    release = _os_release()
    return InventoryReport(
        agent_id=agent_id,
        hostname=_text(socket.gethostname()),
        os_type=_text(platform.system().lower()),
        os_version=_text(release.get("PRETTY_NAME") or platform.version()),
        kernel_version=_text(platform.release()),
        architecture=_text(platform.machine()),
        ip_address=_text(_own_address(server)),
        mac_address=_mac_address(),
        cpu_count=os.cpu_count() or 0,
        memory_bytes=_memory_bytes(),
        boot_time_unix=_boot_time(),
        agent_version=__version__,
        sensor=_text(sensor),
        collected_at_unix=time.time(),
        facts={f"os_release.{name.lower()}": _text(release[name]) for name in _RELEASE_FIELDS if release.get(name)}
        | {"python": platform.python_version()},
    )


def _is_same(report: InventoryReport, earlier: InventoryReport) -> bool:
    """Compare but for the time; a boot time that moved by seconds was a clock that was set."""
    names = set(InventoryReport.__struct_fields__) - {"collected_at_unix", "boot_time_unix"}
    if any(getattr(report, name) != getattr(earlier, name) for name in names):
        return False
    was, now = earlier.boot_time_unix, report.boot_time_unix
    return (was is None) == (now is None) and abs((was or 0.0) - (now or 0.0)) < LOOK_SECONDS


def _text(value: str) -> str:
    r"""Return a text that fits the wire.

    Examples
    --------
    >>> _text("Linux\n6.1")
    'Linux?6.1'
    """
    printed = "".join("?" if ord(char) < 32 or ord(char) == 127 else char for char in value[:_MAX_TEXT])
    return printed.encode(errors="replace").decode()


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _own_address(server: str) -> str:
    """Return the address that this machine reaches its server from. Choosing a route sends nothing."""
    host, port, _ = server_address(server)
    with contextlib.suppress(OSError):
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    return ""


def _mac_address() -> str:
    """Return a hardware address of this machine; nothing if Python had to make one up."""
    number = uuid.getnode()
    if number & _MULTICAST_BIT:
        return ""
    return ":".join(f"{number >> shift & 0xFF:02x}" for shift in range(40, -8, -8))


def _memory_bytes() -> int:
    if sys.platform == "win32":
        return 0
    try:
        page, pages = (os.sysconf(name) for name in _MEMORY_NAMES)
    except (OSError, ValueError):
        return 0
    return max(page * pages, 0)


def _boot_time() -> float | None:
    try:
        lines = Path("/proc/stat").read_text("ascii").splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("btime "))
    except (OSError, ValueError, StopIteration):
        return None
