"""How large training may be on this machine: processors and memory, and the profile that follows from them.

A container's limits come first (cgroup v2, then v1), then ``/proc/meminfo`` and ``sysconf``. The profile is the only
thing that the machine decides, and only where it is ``auto``: results depend on the profile, never on the detection.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eguard.errors import ConfigError
from eguard.settings import ResourceProfileName

GIBIBYTE: Final = 2**30
#: cgroup v1 says "no limit" by a number near 2^63.
_NO_LIMIT_BYTES: Final = 2**60


@dataclass(frozen=True, slots=True)
class ResourceProfile:
    """Sizes of training.

    Parameters
    ----------
    name : str
        ``tiny``, ``modest``, ``balanced`` or ``high``.
    max_iterations : int
        Boosting rounds, and most Newton steps of the logistic regression.
    holdout_fraction : float
        Share of rows held out at least.
    max_samples : int
        Rows trained on at most.
    l2_grid_points : int
        Penalties tried.
    max_cpus, max_memory_gib : float
        ``auto`` takes the first profile with either at or above the machine's.
    """

    name: str
    max_iterations: int
    holdout_fraction: float
    max_samples: int
    l2_grid_points: int
    max_cpus: float
    max_memory_gib: float


PROFILES: Final[tuple[ResourceProfile, ...]] = (
    ResourceProfile("tiny", 40, 0.18, 30_000, 4, 2, 4),
    ResourceProfile("modest", 52, 0.20, 90_000, 5, 4, 8),
    ResourceProfile("balanced", 60, 0.20, 180_000, 6, 8, 16),
    ResourceProfile("high", 72, 0.22, 320_000, 7, float("inf"), float("inf")),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What training may use: processors and memory."""

    cpu_count: int
    memory_bytes: int

    @property
    def memory_gib(self) -> float:
        """Memory in GiB."""
        return self.memory_bytes / GIBIBYTE


def detect_machine(root: Path = Path("/")) -> Machine:
    """Return the processors and memory that this process may use.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are mounted; tests pass a folder.
    """
    return Machine(_cpu_count(root), _memory_bytes(root))


def resolve_profile(name: ResourceProfileName, machine: Machine) -> ResourceProfile:
    """Return the profile of that name; ``auto`` chooses by the machine.

    Raises
    ------
    ConfigError
        There is no such profile.

    Examples
    --------
    >>> resolve_profile("auto", Machine(cpu_count=4, memory_bytes=24 * GIBIBYTE)).name
    'modest'
    >>> resolve_profile("auto", Machine(cpu_count=64, memory_bytes=6 * GIBIBYTE)).name
    'modest'
    >>> resolve_profile("high", Machine(cpu_count=1, memory_bytes=GIBIBYTE)).max_samples
    320000
    """
    for profile in PROFILES:
        fits = machine.cpu_count <= profile.max_cpus or machine.memory_gib <= profile.max_memory_gib
        if profile.name == name or (name == "auto" and fits):
            return profile
    known = ", ".join(("auto", *(profile.name for profile in PROFILES)))
    raise ConfigError(f"no such resource profile: {name!r}", remedy=f"Known profiles: {known}.")


def _cpu_count(root: Path) -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota_v2(root) or _quota_v1(root)
    return max(1, min(available, int(quota))) if quota else max(1, available)


def _quota_v2(root: Path) -> float | None:
    fields = _read(root / "sys/fs/cgroup/cpu.max").split()
    if len(fields) != 2 or fields[0] == "max" or not float(fields[1]):
        return None
    return float(fields[0]) / float(fields[1])


def _quota_v1(root: Path) -> float | None:
    folder = root / "sys/fs/cgroup/cpu"
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def _memory_bytes(root: Path) -> int:
    physical = _meminfo_bytes(root) or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (
        _number(root / "sys/fs/cgroup/memory.max"),
        _number(root / "sys/fs/cgroup/memory/memory.limit_in_bytes"),
    )
    return min([physical, *(limit for limit in limits if limit and limit < _NO_LIMIT_BYTES)])


def _meminfo_bytes(root: Path) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
