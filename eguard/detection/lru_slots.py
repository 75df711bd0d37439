"""Which array rows the most recently used keys own: an index that forgets, key by key, the one used longest ago.

`eguard.baseline.slots` never evicts one key of a batch for another, which suits baselines; here the outcome is that of
one key at a time, so that it does not depend on how a stream is cut into batches.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Stays = NDArray[np.int64]


class LruSlots:
    """Maps at most `capacity` keys to slots 0 to capacity - 1, in constant time a key.

    The time that a key spends in a slot is a *stay*. Stays of one slot are numbered slot, slot + capacity, slot +
    2 capacity and so on: the number tells the slot, and tells a key that came back from one that never left.

    Parameters
    ----------
    capacity : int
        Keys kept, at least 1.

    Examples
    --------
    >>> index = LruSlots(capacity=2)
    >>> index.take(["a", "b", "a", "c", "b"]).tolist()  # "c" takes the slot of "b", "b" that of "a"
    [0, 1, 0, 3, 2]
    >>> index.keys(), index.stays().tolist(), index.evicted_total
    (['c', 'b'], [3, 2], 2)
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self.evicted_total = 0
        self._stay_of: OrderedDict[Hashable, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._stay_of)

    def keys(self) -> list[Hashable]:
        """Return the keys, the one used longest ago first."""
        return list(self._stay_of)

    def stays(self) -> Stays:
        """Return the stays of `keys`, in that order."""
        return np.fromiter(self._stay_of.values(), np.int64, len(self._stay_of))

    def take(self, keys: Sequence[Hashable]) -> Stays:
        """Use keys one after another and return the stay that each was found or put in."""
        stay_of, capacity = self._stay_of, self.capacity
        get, move_to_end, popitem = stay_of.get, stay_of.move_to_end, stay_of.popitem
        stays: list[int] = []
        append = stays.append
        for key in keys:
            stay = get(key)
            if stay is not None:
                move_to_end(key)
            elif len(stay_of) < capacity:
                stay = stay_of[key] = len(stay_of)
            else:
                stay = stay_of[key] = popitem(last=False)[1] + capacity
                self.evicted_total += 1
            append(stay)
        return np.array(stays, dtype=np.int64)
