"""The profiles that all shards see: arrays in one block of memory without a name, with a version in its header.

Who writes what is a matter of turns. While the shards work on a batch, each writes rows of its own keys and nobody
else writes anything; between batches, when no shard works, the agent's process alone writes: slots, seeds, evictions,
relearning. So a new fleet generation reaches all shards at once, however many rows it changes: no batch sees half of
it. The header's `version` numbers the turns. It is part of every request, of what a shard reads, and of its answer.

The memory belongs to a file descriptor and not to a name: it is gone with the last process that has it open, however
that process ended.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.baseline.profile import ProfileTable
from eguard.errors import ShardLostError

_ALIGNMENT_BYTES: Final = 64
_HEADER_WORDS: Final = 8
_VERSION: Final = 0
_GENERATION: Final = 1
#: Columns that shards only read.
_READ_ONLY: Final = frozenset({"prior", "prior_generation"})

Columns = dict[str, NDArray[Any]]


class SharedBlock:
    """Columns of profiles in shared memory.

    Parameters
    ----------
    descriptor : int
        Of the memory; stays the caller's.
    capacity : int
        Slots of the profile table.

    Attributes
    ----------
    columns : dict of str to ndarray
        Those of `ProfileTable.learning_columns`.
    serials : ndarray of int64, shape (capacity,)
        Those of `WindowBank.serials`.

    Raises
    ------
    ShardLostError
        The memory is not as large as this capacity asks.

    Examples
    --------
    >>> table = ProfileTable(capacity=4)
    >>> descriptor = open_memory(table.capacity)
    >>> one, other = (SharedBlock(descriptor, table.capacity) for _ in range(2))
    >>> one.columns["counts"][2, 7] = 5
    >>> one.begin(generation=3), other.version, other.generation, int(other.columns["counts"][2, 7])
    (1, 1, 3, 5)
    >>> os.close(descriptor)
    """

    def __init__(self, descriptor: int, capacity: int) -> None:
        template = _template(capacity)
        size = _size_bytes(template)
        if os.fstat(descriptor).st_size != size:
            raise ShardLostError(f"the shared profiles have {os.fstat(descriptor).st_size} bytes, not {size}")
        # Unmapped when the last array over it is gone.
        memory = mmap.mmap(descriptor, size)
        self._header = np.frombuffer(memory, np.int64, _HEADER_WORDS)
        offset = _aligned(self._header.nbytes)
        self.columns: Columns = {}
        for name, column in template.items():
            view = np.frombuffer(memory, column.dtype, column.size, offset).reshape(column.shape)
            self.columns[name] = view
            offset += _aligned(column.nbytes)
        self.serials: NDArray[np.int64] = self.columns.pop("serials")

    @property
    def version(self) -> int:
        """Number of the present turn of the shards; 0 before the first."""
        return int(self._header[_VERSION])

    @property
    def generation(self) -> int:
        """Fleet generation of the seeds during the present turn."""
        return int(self._header[_GENERATION])

    def begin(self, generation: int) -> int:
        """Begin a turn of the shards: what is written here now is what they will see; return its version."""
        self._header[_GENERATION] = generation
        self._header[_VERSION] += 1
        return self.version

    def detach(self) -> None:
        """Go on with copies of all arrays; the memory is given back when nobody else holds an array over it."""
        self._header = self._header.copy()
        self.columns = {name: column.copy() for name, column in self.columns.items()}
        self.serials = self.serials.copy()

    def fill(self, columns: Mapping[str, NDArray[Any]], serials: NDArray[np.int64]) -> None:
        """Take over what other arrays hold."""
        for name, column in self.columns.items():
            column[...] = columns[name]
        self.serials[...] = serials

    def save(self, rows: NDArray[np.intp]) -> Columns:
        """Return copies of the rows that a shard may write, for `restore`."""
        kept = {name: column[rows] for name, column in self.columns.items() if name not in _READ_ONLY}
        return kept | {"serials": self.serials[rows]}

    def restore(self, rows: NDArray[np.intp], saved: Mapping[str, NDArray[Any]]) -> None:
        """Put rows back as they were."""
        for name, column in saved.items():
            (self.serials if name == "serials" else self.columns[name])[rows] = column


class ShardTable(ProfileTable):
    """A shard's view of the profiles: it learns into shared rows; slots, seeds, marks and held windows are not its own.

    Parameters
    ----------
    block : SharedBlock
        Where the rows are.
    """

    def __init__(self, block: SharedBlock) -> None:
        super().__init__(len(block.serials))
        self.adopt(block.columns)

    def hold_back(self, window_id: str, slot: int, counts: NDArray[np.int64], held_at: float) -> None:
        """Do nothing: the agent's process holds the window when it has this shard's answer."""

    def mark_changed(self, slots: NDArray[np.intp]) -> None:
        """Do nothing: the agent's process numbers the changes of all shards in one sequence."""


def open_memory(capacity: int) -> int:
    """Return a descriptor of new shared memory for profiles of `capacity` slots, all zero."""
    size = _size_bytes(_template(capacity))
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("eguard-profiles")
    else:
        with tempfile.TemporaryFile() as file:  # has no name either
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def _template(capacity: int) -> Columns:
    columns = ProfileTable(capacity).learning_columns()
    return columns | {"serials": np.zeros(capacity, dtype=np.int64)}


def _size_bytes(template: Columns) -> int:
    header = _HEADER_WORDS * np.dtype(np.int64).itemsize
    return _aligned(header) + sum(_aligned(column.nbytes) for column in template.values())


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
