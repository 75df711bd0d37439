"""Process keys and the array rows they own: a bounded index with least-recently-seen eviction in O(1)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eguard.wire.process_key import UNKNOWN_COMM

#: (comm, parent comm), as the sensor reports them; a blank one is called ``unknown``.
ProcessKey = tuple[str, str]

#: The slot of a key that is not tracked.
NO_SLOT: Final = -1


def named(key: ProcessKey) -> ProcessKey:
    """Return a key whose blank parts are called what the wire calls them.

    Were they kept as they are, two keys of this machine could be one for the server, and neither would ever find what
    comes back: an acknowledgement, a seed.

    Examples
    --------
    >>> named(("svchost.exe", "")), named(("sh", "cron"))
    (('svchost.exe', 'unknown'), ('sh', 'cron'))
    """
    comm, parent = key
    if comm.strip() and parent.strip():
        return key
    return comm if comm.strip() else UNKNOWN_COMM, parent if parent.strip() else UNKNOWN_COMM


class KeyColumns(Collection[ProcessKey]):
    """The keys of a batch as the two columns that they are: a tuple for each event would keep the collector busy.

    Parameters
    ----------
    comm, parent_comm : sequence of str
        Of equal length.

    Examples
    --------
    >>> keys = KeyColumns(["sh", "ls"], ["init", "sh"])
    >>> len(keys), list(keys)
    (2, [('sh', 'init'), ('ls', 'sh')])
    """

    __slots__ = ("_comm", "_parent_comm")

    def __init__(self, comm: Sequence[str], parent_comm: Sequence[str]) -> None:
        self._comm = comm
        self._parent_comm = parent_comm

    def __len__(self) -> int:
        return len(self._comm)

    def __iter__(self) -> Iterator[ProcessKey]:
        return zip(self._comm, self._parent_comm, strict=True)

    def __contains__(self, key: object) -> bool:
        return any(each == key for each in self)


class _BatchSlots(dict[ProcessKey, int]):
    """Slots of the distinct keys of a batch, in the order of their first occurrence; each is named and found once."""

    def __init__(self, slot_of: Mapping[ProcessKey, int]) -> None:
        super().__init__()
        self._slot_of = slot_of

    def __missing__(self, key: ProcessKey) -> int:
        slot = self[key] = self._slot_of.get(named(key), NO_SLOT)
        return slot


class Assignment(NamedTuple):
    """What `SlotIndex.assign` did: the slot of each key, the slots newly taken, the keys that gave theirs up."""

    slots: NDArray[np.intp]
    created: list[int]
    evicted: list[tuple[ProcessKey, int]]


class SlotIndex:
    """Maps at most `capacity` process keys to slots 0..capacity-1.

    A key keeps its slot until it is evicted, so that counts, windows and drift state can live in arrays indexed by
    slot. When all slots are taken, the key that was not seen for the longest time makes room. Keys of one batch are
    never evicted for one another: a batch with more distinct keys than slots leaves the surplus untracked.

    Parameters
    ----------
    capacity : int
        Most keys tracked at once, at least 1.

    Examples
    --------
    >>> index = SlotIndex(capacity=2)
    >>> index.assign([("sh", "init"), ("ls", "sh"), ("sh", "init")]).slots.tolist()
    [0, 1, 0]
    >>> index.assign([("sh", "init"), ("ps", "sh")]).evicted  # "ls" was seen longest ago
    [(('ls', 'sh'), 1)]
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self._slot_of: OrderedDict[ProcessKey, int] = OrderedDict()
        # As long as the slots used so far; those beyond have never had a key.
        self._key_of: list[ProcessKey | None] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._slot_of)

    def __contains__(self, key: ProcessKey) -> bool:
        return key in self._slot_of

    def key_of(self, slot: int) -> ProcessKey:
        """Return the key that owns `slot`; KeyError if nobody does."""
        key = self._key_of[slot] if 0 <= slot < len(self._key_of) else None
        if key is None:
            raise KeyError(slot)
        return key

    def items(self) -> list[tuple[ProcessKey, int]]:
        """Return (key, slot) of all tracked keys, least recently seen first."""
        return list(self._slot_of.items())

    def used(self) -> NDArray[np.intp]:
        """Return the slots in use, ascending."""
        return np.sort(np.fromiter(self._slot_of.values(), dtype=np.intp, count=len(self._slot_of)))

    def restore(self, entries: Sequence[tuple[ProcessKey, int]]) -> None:
        """Become the index that holds `entries`, distinct keys and slots, least recently seen first."""
        self._slot_of = OrderedDict(entries)
        self._key_of = [None] * (1 + max((slot for _, slot in entries), default=-1))
        for key, slot in entries:
            self._key_of[slot] = key
        self._free = [slot for slot in range(len(self._key_of) - 1, -1, -1) if self._key_of[slot] is None]

    def by_recency(self, slots: set[int]) -> list[int]:
        """Return `slots`, all of them in use, least recently seen first; fast for slots that were seen lately."""
        found: list[int] = []
        for slot in reversed(self._slot_of.values()):
            if len(found) == len(slots):
                break
            if slot in slots:
                found.append(slot)
        return found[::-1]

    def lookup(self, keys: Collection[ProcessKey]) -> NDArray[np.intp]:
        """Return the slot of each key, `NO_SLOT` where it is not tracked. Counts as no sighting."""
        return _by_event(keys, _BatchSlots(self._slot_of))

    def assign(self, keys: Collection[ProcessKey]) -> Assignment:
        """Return a slot for each key of a batch and mark those keys as seen.

        Keys that are known already count as seen in the order of their last occurrence, new keys after them.
        """
        slot_of = _BatchSlots(self._slot_of)
        slots = _by_event(keys, slot_of)
        seen_in_batch = self._touch(slots)
        created: list[int] = []
        evicted: list[tuple[ProcessKey, int]] = []
        unknown = [key for key, slot in slot_of.items() if slot < 0]
        for given in unknown:
            key = named(given)
            slot = self._slot_of.get(key, NO_SLOT)
            if slot < 0 and seen_in_batch < self.capacity:
                if len(self) == self.capacity:
                    evicted.append(self._evict_oldest())
                slot = self._take_slot()
                self._slot_of[key] = slot
                self._key_of[slot] = key
                created.append(slot)
                seen_in_batch += 1
            slot_of[given] = slot
        return Assignment(_by_event(keys, slot_of) if unknown else slots, created, evicted)

    def _touch(self, slots: NDArray[np.intp]) -> int:
        last_position = np.full(len(self._key_of), -1, dtype=np.intp)
        known = np.flatnonzero(slots >= 0)
        last_position[slots[known]] = known  # of equal slots the last assignment stays
        touched = np.flatnonzero(last_position >= 0)
        move_to_end = self._slot_of.move_to_end
        for slot in touched[np.argsort(last_position[touched])].tolist():
            move_to_end(self.key_of(slot))
        return len(touched)

    def _take_slot(self) -> int:
        """Return the slot freed last, or the lowest one never used."""
        if self._free:
            return self._free.pop()
        self._key_of.append(None)
        return len(self._key_of) - 1

    def _evict_oldest(self) -> tuple[ProcessKey, int]:
        key, slot = self._slot_of.popitem(last=False)
        self._key_of[slot] = None
        self._free.append(slot)
        return key, slot


def _by_event(keys: Collection[ProcessKey], slot_of: _BatchSlots) -> NDArray[np.intp]:
    return np.fromiter(map(slot_of.__getitem__, keys), dtype=np.intp, count=len(keys))
