"""Which shard has a process key: a hash of the key's text, the same in every run and on every machine."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from eguard.baseline.slots import ProcessKey, SlotIndex


def shard_of_key(key: ProcessKey, n_shards: int) -> int:
    """Return the shard of a process key, 0 to `n_shards` - 1.

    Examples
    --------
    >>> [shard_of_key((name, "init"), 2) for name in ("sh", "cron", "sshd", "login")]
    [1, 0, 1, 0]
    """
    text = "\0".join(key).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) % n_shards


class KeyRouter:
    """The shards of the keys in a slot index, remembered by slot.

    Parameters
    ----------
    n_shards : int
        Number of shards.
    index : SlotIndex
        Which key has which slot.
    """

    def __init__(self, n_shards: int, index: SlotIndex) -> None:
        self.n_shards = n_shards
        self._index = index
        self._shard_of = np.full(index.capacity, -1, dtype=np.int16)

    def parts(self, slots: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """Return, for each shard, the positions of the events that are its own, ascending.

        Events without a slot change no window; they go round, each to another shard.
        """
        known = slots[slots >= 0]
        for slot in np.unique(known[self._shard_of[known] < 0]).tolist():
            self._shard_of[slot] = shard_of_key(self._index.key_of(slot), self.n_shards)
        turns = np.arange(len(slots)) % self.n_shards
        owners = np.where(slots >= 0, self._shard_of[slots], turns)
        return [np.flatnonzero(owners == shard) for shard in range(self.n_shards)]

    def slots_of(self, shard: int) -> NDArray[np.intp]:
        """Return the slots whose keys have had events and belong to `shard`, ascending."""
        return np.flatnonzero(self._shard_of == shard)

    def forget(self, slots: NDArray[np.intp]) -> dict[int, list[int]]:
        """Forget evicted slots; return those of each shard that had some."""
        given_up: dict[int, list[int]] = {}
        for slot, shard in zip(slots.tolist(), self._shard_of[slots].tolist(), strict=True):
            if shard >= 0:
                given_up.setdefault(shard, []).append(slot)
        self._shard_of[slots] = -1
        return given_up
