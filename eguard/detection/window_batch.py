"""A batch of events by process key, cut where windows end; and the record of a window that closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from eguard.detection.window_test import WindowScore


@dataclass(frozen=True, slots=True)
class KeyedEvents:
    """Events as layer 3 sees them: columns of shape (n,), in order of delivery.

    `slots` are those of the process keys; a negative class is not counted; `sizes` are payload bytes; `is_tainted`
    marks events that alert High, whose windows are held back from learning; `is_suspect` those that alert High if their
    key's last window ended High.
    """

    slots: NDArray[np.intp]
    classes: NDArray[np.int8]
    times: NDArray[np.float64]
    sizes: NDArray[np.int64]
    is_tainted: NDArray[np.bool_]
    is_suspect: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.slots)

    def take(self, rows: NDArray[np.intp]) -> KeyedEvents:
        """Return the events at `rows`."""
        return KeyedEvents(*(getattr(self, column.name)[rows] for column in fields(self)))


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """One closed window and what the test made of it.

    `index` is the position, in its batch, of the event that closed it. `counts` are the window's events by class,
    `learned_counts` those of them that the profile had learned before the window closed (`WindowBank.settle`).
    `recent_alarms` are the times of the key's last drift and rate alarms, this window's included. `archived` are the
    counts that the key had learned before a drift alarm at this window made it start anew; empty otherwise.
    """

    window_id: str
    index: int
    slot: int
    started_unix: float
    closed_unix: float
    counts: tuple[int, ...]
    learned_counts: tuple[int, ...]
    score: WindowScore
    is_held: bool
    drift_alarm: bool
    rate_alarm: bool
    recent_alarms: tuple[float, ...]
    archived: tuple[int, ...] = ()

    @property
    def unlearned_counts(self) -> NDArray[np.int64]:
        """Events by class that the profile had not learned before the window closed, shape (8,)."""
        return np.array(self.counts, dtype=np.int64) - np.array(self.learned_counts, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class BatchWindows:
    """What a batch did to the windows. Valid until the next batch.

    `closed` lists the windows that closed, in the order of their closing events; `closed_index` says for each event
    which of them was its key's latest at that event, -1 where none had closed in this batch yet. `before` has the
    window before those, or None, for every slot that closed one; `last` has the latest of all slots. `serials` number
    the window that each event falls in among its slot's windows, 0 for events without a slot.
    """

    slots: NDArray[np.intp]
    closed: list[ClosedWindow]
    closed_index: NDArray[np.intp]
    serials: NDArray[np.int64]
    before: Mapping[int, ClosedWindow | None]
    last: Mapping[int, ClosedWindow | None]
    _looked_up: dict[int, ClosedWindow | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    def latest(self, index: int) -> ClosedWindow | None:
        """Return the most recently closed window of the key of event `index`, as of that event."""
        position = int(self.closed_index[index])
        if position >= 0:
            return self.closed[position]
        slot = int(self.slots[index])
        # The mappings make their objects when asked; the events of a batch have few keys.
        if slot not in self._looked_up:
            self._looked_up[slot] = self.before[slot] if slot in self.before else self.last.get(slot)
        return self._looked_up[slot]


class SortedBatch:
    """A batch in the order of slots, each slot's events in order of delivery, cut at the ends of windows.

    `turn` counts the windows of a slot from the one open at the start of the batch, `within` is the position in it.
    An event that is not counted belongs to the window that is open when it comes.
    """

    def __init__(self, events: KeyedEvents, filled: NDArray[np.int64], window_events: int) -> None:
        # Sixteen bits are sorted by radix, which is several times faster.
        narrow = events.slots.astype(np.int16) if len(filled) <= np.iinfo(np.int16).max else events.slots
        self.order = np.argsort(narrow, kind="stable")
        self.slots = events.slots[self.order]
        self.classes = events.classes[self.order]
        self.times = events.times[self.order]
        self.sizes = events.sizes[self.order]
        self.is_tainted = events.is_tainted[self.order]
        self.is_suspect = events.is_suspect[self.order]
        self.is_counted = self.classes >= 0
        counted = np.cumsum(self.is_counted)
        earlier: NDArray[np.intp] = counted - self.is_counted
        self._starts = np.flatnonzero(np.diff(self.slots, prepend=-1))
        lengths = np.diff(self._starts, append=len(events))
        position = earlier - np.repeat(earlier[self._starts], lengths) + filled[self.slots]
        self.turn, self.within = np.divmod(position, window_events)
        self.is_closing = self.is_counted & (self.within == window_events - 1)

    def in_delivery(self, closed: list[tuple[int, ClosedWindow]]) -> tuple[list[ClosedWindow], NDArray[np.intp]]:
        """Return the closed windows in order of their closing events, and for each event the index of its latest one.

        Parameters
        ----------
        closed : list of (int, ClosedWindow)
            Sorted position of the closing event, and its window.
        """
        in_time = sorted(closed, key=lambda pair: pair[1].index)
        rank_of_end = {end: rank for rank, (end, _) in enumerate(in_time)}
        stops = np.append(self._starts[1:], len(self.slots))
        closed_index = np.full(len(self.slots), -1, dtype=np.intp)
        # Ends in the order of slots: a later window of a slot overwrites what follows it.
        for end in sorted(rank_of_end):
            stop = stops[np.searchsorted(self._starts, end, side="right") - 1]
            closed_index[self.order[end:stop]] = rank_of_end[end]
        return [window for _, window in in_time], closed_index
