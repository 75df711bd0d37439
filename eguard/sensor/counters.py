"""What a sensor counts: nothing that it saw, missed or thinned out goes unsaid."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.events import N_EVENT_CLASSES, UNCOUNTED, EventClass

#: Names of the slots, in their order: the eight classes, then what belongs to none of them or cannot be told.
SLOT_NAMES: Final[tuple[str, ...]] = (*(each.name.lower() for each in EventClass), "other")


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

    Examples
    --------
    >>> counters = SensorCounters()
    >>> counters.received[EventClass.PROCESS_EXEC] += 2
    >>> counters.lost[UNCOUNTED] += 1
    >>> counters.to_dict()["received"], counters.to_dict()["lost"]
    ({'process_exec': 2}, {'other': 1})
    """

    __slots__ = ("lost", "received", "sampled", "unresolved")

    def __init__(self) -> None:
        self.received: NDArray[np.int64] = np.zeros(N_EVENT_CLASSES + 1, np.int64)
        self.lost: NDArray[np.int64] = np.zeros(N_EVENT_CLASSES + 1, np.int64)
        self.sampled: NDArray[np.int64] = np.zeros(N_EVENT_CLASSES + 1, np.int64)
        self.unresolved = 0

    def to_dict(self) -> dict[str, dict[str, int] | int]:
        """Return the totals by name; classes without any are left out."""
        return {
            "received": _named(self.received),
            "lost": _named(self.lost),
            "sampled": _named(self.sampled),
            "unresolved": self.unresolved,
        }


def _named(totals: NDArray[np.int64]) -> dict[str, int]:
    return {name: int(total) for name, total in zip(SLOT_NAMES, totals, strict=True) if total}


# numpy's last index and the mark of uncounted telemetry are the same number; everything above rests on it.
if UNCOUNTED != -1:  # pragma: no cover
    raise AssertionError("UNCOUNTED must index the last slot")
