"""The events of open windows, eleven bytes each, from which a key learns once its window has proven ordinary."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Payload sizes saturate here, at 4 GiB: what is learned of them are moments of log1p.
MAX_SIZE_BYTES: Final = int(np.iinfo(np.uint32).max)
#: Part of an open window: slot, first position, position after the last.
Part = tuple[int, int, int]


class WindowEvents:
    """Class, time and payload of every event of the open windows, addressed by slot and position in the window.

    Parameters
    ----------
    n_slots : int
        Slots to begin with; `grow` adds more.
    window_events : int
        Events of a window.

    Attributes
    ----------
    started_unix : ndarray of float64, shape (n_slots,)
        Time of each window's first event, exact.

    Notes
    -----
    A time is kept as its distance from the window's first event: a float64 without the last 16 of the 52 bits of its
    fraction. A float64 tells times from 2004 to 2038 to 2**-22 s, so whatever lies within 2**15 s (nine hours) of the
    first event is exact. Farther events are cut towards it: to 1 us after a day, 31 us after a month, 4 ms where the
    clock was set by ten years. The cut keeps the order of events, and changes log1p of a gap by no more than its size.

    Examples
    --------
    >>> events = WindowEvents(n_slots=2, window_events=4)
    >>> one = np.array([1])
    >>> events.put(one, np.array([0]), np.array([3]), np.array([1.7e9]), np.array([5]))
    >>> events.put(one, np.array([1]), np.array([0]), np.array([1.7e9 + 0.25]), np.array([2**40]))
    >>> [column.tolist() for column in events.take([(1, 0, 2)])]
    [[1, 1], [3, 0], [1700000000.0, 1700000000.25], [5, 4294967295]]
    """

    def __init__(self, n_slots: int, window_events: int) -> None:
        self._size = window_events
        self.started_unix = np.zeros(n_slots)
        self._classes = np.zeros((n_slots, window_events), dtype=np.int8)
        self._offsets = np.zeros((n_slots, window_events, 3), dtype="<u2")
        self._sizes = np.zeros((n_slots, window_events), dtype=np.uint32)

    def grow(self, n_slots: int) -> None:
        """Make room for `n_slots` slots, at least as many as there are."""
        for name in ("started_unix", "_classes", "_offsets", "_sizes"):
            kept: NDArray[Any] = getattr(self, name)
            grown = np.zeros((n_slots, *kept.shape[1:]), kept.dtype)
            grown[: len(kept)] = kept
            setattr(self, name, grown)

    def put(
        self,
        slots: NDArray[np.intp],
        within: NDArray[np.integer[Any]],
        classes: NDArray[np.integer[Any]],
        times: NDArray[np.float64],
        sizes: NDArray[np.integer[Any]],
    ) -> None:
        """Keep events, shape (n,) each, at the positions `within` of their windows, none before its window's first."""
        first = np.flatnonzero(within == 0)
        self.started_unix[slots[first]] = times[first]
        self._classes[slots, within] = classes
        self._offsets[slots, within] = _narrow(times - self.started_unix[slots])
        self._sizes[slots, within] = np.clip(sizes, 0, MAX_SIZE_BYTES)

    def counts(self, slot: int, stop: int, n_classes: int) -> NDArray[np.int64]:
        """Return the events by class of the first `stop` of a window."""
        return np.bincount(self._classes[slot, :stop], minlength=n_classes)

    def times(self, slot: int, start: int, stop: int) -> NDArray[np.float64]:
        """Return the times of a part of a window, in the order of delivery."""
        return _widen(self._offsets[slot, start:stop]) + float(self.started_unix[slot])

    def take(
        self, parts: list[Part]
    ) -> tuple[NDArray[np.intp], NDArray[np.int8], NDArray[np.float64], NDArray[np.uint32]]:
        """Return slots, classes, times and payload sizes of the events of several parts, one after the other."""
        slots = np.repeat([slot for slot, _, _ in parts], [stop - start for _, start, stop in parts])
        classes, offsets, sizes = (
            np.concatenate([column[slot, start:stop] for slot, start, stop in parts])
            for column in (self._classes, self._offsets, self._sizes)
        )
        return slots, classes, self.started_unix[slots] + _widen(offsets), sizes


def _narrow(seconds: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Return the upper 48 bits of float64 values, as three integers of 16 bits each: shape (n, 3)."""
    return np.asarray(seconds, dtype="<f8").view("<u2").reshape(-1, 4)[:, 1:]


def _widen(narrow: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Return the float64 values, shape (n,), whose upper bits are `narrow`; the bits below are zero."""
    whole = np.zeros((len(narrow), 4), dtype="<u2")
    whole[:, 1:] = narrow
    return whole.view("<f8")[:, 0]
