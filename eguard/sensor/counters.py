"""What a sensor counts: nothing that it saw, missed or thinned out goes unsaid."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eguard.events import N_EVENT_CLASSES, UNCOUNTED, EventClass

#: Names of the slots, in their order: the eight classes, then what belongs to none of them or cannot be told.
SLOT_NAMES: Final[tuple[str, ...]] = (*(each.name.lower() for each in EventClass), "other")


class Lag(NamedTuple):
    """How late events were handed over, after the kernel saw them: over `events` of them."""

    events: int
    mean_seconds: float
    max_seconds: float


class LagMeter:
    """Lags since the last time that somebody read them.

    Examples
    --------
    >>> meter = LagMeter()
    >>> meter.add(0.25)
    >>> meter.add(0.75)
    >>> meter.read()
    Lag(events=2, mean_seconds=0.5, max_seconds=0.75)
    >>> meter.peek()
    Lag(events=0, mean_seconds=0.0, max_seconds=0.0)
    """

    __slots__ = ("_events", "_max_seconds", "_sum_seconds")

    def __init__(self) -> None:
        self._events = 0
        self._sum_seconds = self._max_seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one event. The two processors that stamped and read it may differ by a hair; no lag is negative."""
        seconds = max(seconds, 0.0)
        self._events += 1
        self._sum_seconds += seconds
        self._max_seconds = max(self._max_seconds, seconds)

    def peek(self) -> Lag:
        """Return the figures since the last `read`."""
        return Lag(self._events, self._sum_seconds / self._events if self._events else 0.0, self._max_seconds)

    def read(self) -> Lag:
        """Return the figures since the last `read`, and begin anew."""
        lag = self.peek()
        self._events = 0
        self._sum_seconds = self._max_seconds = 0.0
        return lag


class SensorCounters:
    """Totals since a sensor was opened, by event class.

    Each array is int64 of shape (9,). `EventClass` values index the first eight; `UNCOUNTED` (-1) indexes the last,
    which also takes losses whose class nobody knows.

    Attributes
    ----------
    received : ndarray
        Events that were handed over.
    lost : ndarray
        Events that happened and that the sensor knows it missed: a full buffer, a gap in sequence numbers.
    sampled : ndarray
        Events left out on purpose, because their class came faster than its cap.
    unresolved : int
        Events handed over without the process's name, because it was gone before it could be asked for.
    lag : LagMeter
        How late events were handed over, where the kernel says when they happened.

    Examples
    --------
    >>> counters = SensorCounters()
    >>> counters.received[EventClass.PROCESS_EXEC] += 2
    >>> counters.lost[UNCOUNTED] += 1
    >>> counters.to_dict()["received"], counters.to_dict()["lost"]
    ({'process_exec': 2}, {'other': 1})
    """

    __slots__ = ("lag", "lost", "received", "sampled", "unresolved")

    def __init__(self) -> None:
        self.received: NDArray[np.int64] = np.zeros(N_EVENT_CLASSES + 1, np.int64)
        self.lost: NDArray[np.int64] = np.zeros(N_EVENT_CLASSES + 1, np.int64)
        self.sampled: NDArray[np.int64] = np.zeros(N_EVENT_CLASSES + 1, np.int64)
        self.unresolved = 0
        self.lag = LagMeter()

    def to_dict(self) -> dict[str, Any]:
        """Return the totals by name, and the lag since it was last read; classes without any are left out."""
        return {
            "received": _named(self.received),
            "lost": _named(self.lost),
            "sampled": _named(self.sampled),
            "unresolved": self.unresolved,
            "lag": self.lag.peek()._asdict(),
        }


def _named(totals: NDArray[np.int64]) -> dict[str, int]:
    return {name: int(total) for name, total in zip(SLOT_NAMES, totals, strict=True) if total}


# numpy's last index and the mark of uncounted telemetry are the same number; everything above rests on it.
if UNCOUNTED != -1:  # pragma: no cover
    raise AssertionError("UNCOUNTED must index the last slot")
