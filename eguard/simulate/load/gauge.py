"""Memory and processor time of a server's processes and of this one."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from eguard.sensor.psutil_poll import load_psutil

_MIB: Final = 2**20


class OwnGauge:
    """Memory and processor time of the process that asks, without the server that it started."""

    def __init__(self) -> None:
        self._process = load_psutil().Process()
        self._before = self._process.memory_info().rss
        self._began = sum(self._process.cpu_times()[:2])
        self._peak = self._before

    def look(self) -> None:
        """Note the memory now."""
        self._peak = max(self._peak, self._process.memory_info().rss)

    def report(self) -> dict[str, float]:
        """Return what was before, the most there was, and the processor's time since."""
        return {
            "before_mib": round(self._before / _MIB, 1),
            "peak_mib": round(self._peak / _MIB, 1),
            "cpu_seconds": round(sum(self._process.cpu_times()[:2]) - self._began, 2),
        }


class Gauge:
    """Memory and processor time of a process and its children.

    Parameters
    ----------
    process_id : int
    """

    def __init__(self, process_id: int) -> None:
        self._psutil = load_psutil()
        self._process = self._psutil.Process(process_id)
        self._began = self._times()
        self.peak_mib = 0.0

    def memory_mib(self) -> float:
        """Return the memory now: proportional shares, so that what processes share is not counted twice."""
        total = 0
        for process in [self._process, *self._process.children(recursive=True)]:
            with suppress(self._psutil.Error):
                total += getattr(process.memory_full_info(), "pss", 0) or process.memory_info().rss
        found = total / _MIB
        self.peak_mib = max(self.peak_mib, found)
        return found

    def cpu_seconds(self) -> float:
        """Return the time that processors spent since this was made."""
        return self._times() - self._began

    def _times(self) -> float:
        total = 0.0
        for process in [self._process, *self._process.children(recursive=True)]:
            with suppress(self._psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total
