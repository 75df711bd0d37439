"""Rings of contacts: for each slot the last so many intervals and sizes, written a stretch of events at a time.

What is kept of a contact is how many milliseconds after the one before it came and how many bytes it sent, 32 bits
each. Intervals instead of times have no epoch that could overflow: a beacon that calls once a day has months between
the first and the last entry of its ring.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.lru_slots import Stays
from eguard.estimators.beacon_views import SATURATED, Contacts

Whole = NDArray[np.int64]
Rows = NDArray[np.intp]

_NOBODY: Final = -1


class Rings:
    """Contacts of up to `slots` destinations, `length` of each.

    Attributes
    ----------
    gaps, sizes : ndarray of uint32, shape (slots, length)
        Contact number i of a stay (from 0) is in column ``i % length``.
    latest : ndarray of int64, shape (slots,)
        Time of the last event, accepted or not, in milliseconds since the epoch.
    seen, skipped : ndarray of int64, shape (slots,)
        Accepted and skipped contacts of the stay.
    stay : ndarray of int64, shape (slots,)
        Whose stay it is, as `LruSlots` numbers them; -1 for a slot never used.
    """

    def __init__(self, slots: int, length: int) -> None:
        self.length = length
        self.gaps = np.zeros((slots, length), dtype=np.uint32)
        self.sizes = np.zeros((slots, length), dtype=np.uint32)
        self.latest = np.zeros(slots, dtype=np.int64)
        self.seen = np.zeros(slots, dtype=np.int64)
        self.skipped = np.zeros(slots, dtype=np.int64)
        self.stay = np.full(slots, _NOBODY, dtype=np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        columns = (self.gaps, self.sizes, self.latest, self.seen, self.skipped, self.stay)
        return sum(column.nbytes for column in columns)

    def contacts(self, slots: Whole) -> Contacts:
        """Return what the rings of `slots` hold."""
        number, row, offsets = _last(self.seen[slots], self.length)
        held, column = slots[row], number % self.length
        return Contacts(self.gaps[held, column].astype(np.int64), self.sizes[held, column].astype(np.int64), offsets)


class Sightings:
    """A stretch of events on the way into the rings, and what each of them makes of its destination.

    Columns have one entry an event of the stretch.

    Attributes
    ----------
    start : int
        Position of the first event in the batch.
    stays : ndarray of int64
        Stay of the destination in its slot.
    slots : ndarray of int64
        Slot of the destination.
    seen : ndarray of int64
        Accepted contacts of the stay, this one included.
    is_accepted : ndarray of bool
        Whether the contact counts: it is the first, or later than the one before.
    """

    # A destination can lose its slot and another take it within a stretch: everything here goes by stays, and only the
    # last stay of a slot is written.
    __slots__ = (
        "_accepted_cuts", "_gaps", "_group", "_group_slots", "_group_stays", "_is_new", "_last_times", "_rings",
        "_seen_before", "_sizes", "is_accepted", "seen", "slots", "start", "stays",
    )  # fmt: skip

    def __init__(self, rings: Rings, start: int, stays: Stays, milliseconds: Whole, sizes: Whole) -> None:
        self._rings, self.start, self.stays = rings, start, stays
        self.slots = stays % rings.stay.size
        order = _stable_order(stays)
        ordered, times = stays[order], milliseconds[order]
        is_first = np.ones(stays.size, dtype=np.bool_)
        is_first[1:] = ordered[1:] != ordered[:-1]
        first = np.flatnonzero(is_first)
        group = np.cumsum(is_first) - 1
        self._group_stays, self._group_slots = ordered[first], self.slots[order[first]]
        self._is_new = rings.stay[self._group_slots] != self._group_stays
        self._seen_before = np.where(self._is_new, 0, rings.seen[self._group_slots])
        gaps = np.diff(times, prepend=0)
        # A first contact counts, and nothing reads its interval.
        gaps[first] = np.where(self._is_new, 1, times[first] - rings.latest[self._group_slots])
        is_accepted = gaps > 0
        accepted = np.concatenate([[0], np.cumsum(is_accepted)])
        self._accepted_cuts = np.append(accepted[first], accepted[-1])
        self._last_times = times[np.append(first[1:], stays.size) - 1]
        self._gaps = np.minimum(gaps[is_accepted], SATURATED)
        self._sizes = sizes[order[is_accepted]]
        self._group, self.seen = np.empty_like(stays), np.empty_like(stays)
        self.is_accepted = np.empty(stays.size, dtype=np.bool_)
        self._group[order], self.is_accepted[order] = group, is_accepted
        self.seen[order] = accepted[1:] + (self._seen_before - self._accepted_cuts[:-1])[group]

    def __len__(self) -> int:
        return self.stays.size

    def contacts(self, rows: Rows) -> Contacts:
        """Return what the destinations of some events have in their rings right after those events.

        Parameters
        ----------
        rows : ndarray of int
            Positions in the stretch.
        """
        rings, group = self._rings, self._group[rows]
        number, row, offsets = _last(self.seen[rows], rings.length)
        before = self._seen_before[group]
        is_held = number < before[row]
        gaps, sizes = np.empty_like(number), np.empty_like(number)
        held, column = self.slots[rows][row[is_held]], number[is_held] % rings.length
        gaps[is_held], sizes[is_held] = rings.gaps[held, column], rings.sizes[held, column]
        fresh = (number + (self._accepted_cuts[group] - before)[row])[~is_held]
        gaps[~is_held], sizes[~is_held] = self._gaps[fresh], self._sizes[fresh]
        return Contacts(gaps, sizes, offsets)

    def write(self) -> int:
        """Put the stretch into the rings and return how many of its events were skipped."""
        rings, slots = self._rings, self._group_slots
        owner = np.full(rings.stay.size, _NOBODY, dtype=np.int64)
        owner[slots] = self._group_stays  # in rising order, so that the last stay remains
        stays_on = owner[slots] == self._group_stays
        accepted = np.diff(self._accepted_cuts)
        group = np.repeat(np.arange(slots.size), accepted)
        rank = np.arange(group.size) - self._accepted_cuts[group]
        # Of more than a ring holds, the earlier ones would be written over within this very stretch.
        rows = np.flatnonzero((stays_on[group]) & (rank >= (accepted - rings.length)[group]))
        target, column = slots[group[rows]], (self._seen_before[group] + rank)[rows] % rings.length
        rings.gaps[target, column], rings.sizes[target, column] = self._gaps[rows], self._sizes[rows]
        skipped = np.bincount(self._group, minlength=slots.size) - accepted
        kept = slots[stays_on]
        rings.skipped[kept] = (np.where(self._is_new, 0, rings.skipped[slots]) + skipped)[stays_on]
        rings.seen[kept] = (self._seen_before + accepted)[stays_on]
        rings.latest[kept], rings.stay[kept] = self._last_times[stays_on], self._group_stays[stays_on]
        return int(skipped.sum())


def _stable_order(stays: Stays) -> Rows:
    """Return what sorts the stays and keeps equal ones in order; one sort of plain numbers is the fastest way."""
    keys = stays * stays.size + np.arange(stays.size)
    keys.sort()
    order: Rows = keys % stays.size
    return order


def _last(seen: Whole, length: int) -> tuple[Whole, Rows, Whole]:
    """Return the numbers of the last `length` of `seen` contacts, the row each belongs to, and where rows begin."""
    held = np.minimum(seen, length)
    offsets = np.concatenate([[0], np.cumsum(held)])
    row = np.repeat(np.arange(seen.size), held)
    number = np.arange(offsets[-1]) + (seen - held - offsets[:-1])[row]
    return number, row, offsets
