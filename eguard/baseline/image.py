"""The store's state while it is being put together from a snapshot and journals."""

from __future__ import annotations

from collections import OrderedDict

from eguard.baseline.changes import Changes
from eguard.baseline.facts import StoreFacts
from eguard.baseline.held import HeldWindow
from eguard.baseline.profile import ProfileTable
from eguard.baseline.row_block import RowBlock
from eguard.baseline.slots import ProcessKey
from eguard.errors import StoreCorruptError


class StoreImage:
    """A profile table in the making, with its facts.

    An operation is checked whole before any of it is applied, so that a record which cannot be leaves no trace.

    Parameters
    ----------
    capacity : int
        Slots of the table.
    """

    def __init__(self, capacity: int) -> None:
        self.facts = StoreFacts()
        self._table = ProfileTable(capacity)
        self._owners: OrderedDict[int, ProcessKey] = OrderedDict()
        self._keys: set[ProcessKey] = set()
        self._held: dict[str, HeldWindow] = {}

    def apply(self, changes: Changes) -> None:
        """Apply one operation.

        Raises
        ------
        StoreCorruptError
            It names slots or windows that do not exist, or a key that has another slot.
        """
        self._check(changes)
        for slot in changes.evicted:
            self._keys.remove(self._owners.pop(slot))
        for block, is_sighting in ((changes.seen, True), (changes.changed, False)):
            if block is not None:
                self._put(block, is_sighting=is_sighting)
        if changes.seeds is not None:
            self._table.seeds.replace(changes.seeds.priors, changes.seeds.generation)
        for window_id in changes.released:
            del self._held[window_id]
        self._held.update(changes.held)
        self.facts = changes.facts

    def _check(self, changes: Changes) -> None:
        owned = self._owners.keys() - set(changes.evicted)
        if len(owned) != len(self._owners) - len(changes.evicted):
            raise StoreCorruptError("a slot is evicted that nobody owns")
        keys = self._keys - {self._owners[slot] for slot in changes.evicted} if changes.evicted else self._keys
        added: set[ProcessKey] = set()
        for block in (changes.seen, changes.changed):
            if block is None:
                continue
            if len(block.slots) and block.slots.max() >= self._table.capacity:
                raise StoreCorruptError(f"slot {block.slots.max()} is beyond the capacity of {self._table.capacity}")
            slots = block.slots.tolist()
            for row, slot in enumerate(slots):
                key = block.keys.get(row)
                if key is None and slot not in owned:
                    raise StoreCorruptError(f"a row changes slot {slot}, which nobody owns")
                if key is not None and (slot in owned or key in keys or key in added):
                    raise StoreCorruptError(f"slot {slot} or its key is taken already")
                if key is not None:
                    added.add(key)
            owned |= {slots[row] for row in block.keys}
        released = set(changes.released)
        if not released <= self._held.keys() or len(released) != len(changes.released):
            raise StoreCorruptError("a window is released that is not held")
        ids = [window_id for window_id, _ in changes.held]
        if len(set(ids)) != len(ids) or set(ids) & (self._held.keys() - released):
            raise StoreCorruptError("a window is held twice")

    def _put(self, block: RowBlock, *, is_sighting: bool) -> None:
        block.put(self._table)
        slots = block.slots.tolist()
        for row, key in block.keys.items():
            self._owners[slots[row]] = key
            self._keys.add(key)
        if is_sighting:
            for slot in slots:
                self._owners.move_to_end(slot)

    def finish(self, capacity: int) -> ProfileTable:
        """Return the table with at most `capacity` profiles, the most recently seen ones, and its seeds in place."""
        table = self._table if capacity == self._table.capacity else self._moved(capacity)
        if table is self._table:
            table.index.restore([(key, slot) for slot, key in self._owners.items()])
        table.sequence = self.facts.sequence
        for window_id, window in self._held.items():
            table.held.hold(window_id, *window)
        table.restore_seeds()
        return table

    def _moved(self, capacity: int) -> ProfileTable:
        old, new = self._table, ProfileTable(capacity)
        kept = list(self._owners.items())[-capacity:]
        new.evictions_total = len(self._owners) - len(kept)
        new.index.restore([(key, slot) for slot, (_, key) in enumerate(kept)])
        source = [slot for slot, _ in kept]
        target = slice(0, len(kept))
        new.reserve(len(kept))
        for name in (
            "counts", "sample_count", "first_seen", "last_seen", "last_learned", "relearn_since", "seq", "dirty_since",
        ):  # fmt: skip
            getattr(new, name)[target] = getattr(old, name)[source]
        for name in ("interarrival", "payload"):
            for part in ("count", "mean", "m2"):
                getattr(getattr(new, name), part)[target] = getattr(getattr(old, name), part)[source]
        new.seeds.replace(dict(old.seeds.items()), old.seeds.generation)
        return new
