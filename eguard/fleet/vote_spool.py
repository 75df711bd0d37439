"""Votes on their way from the order of the table to the order of the keys: sorted runs on disk, read back by shard.

What is held in memory is one run, and later one shard.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from eguard.fleet.blocks import VOTE, Block, Records
from eguard.fleet.ingest import KEY_SHARDS
from eguard.fleet.vote_reader import Electorate, KeyNumbers

#: Votes in a run.
RUN_VOTES: Final = 65_536
#: Votes in a block, unless a single key has more.
BLOCK_VOTES: Final = 65_536
#: What is smaller stays in memory.
MEMORY_BYTES: Final = 4 << 20


class _Run(NamedTuple):
    """Where a run begins in the file, and the first vote of each shard within it, shape (KEY_SHARDS + 1,)."""

    offset: int
    bounds: NDArray[np.intp]


class VoteSpool:
    """Votes sorted by shard.

    Parameters
    ----------
    keys : KeyNumbers
        Names and shards of the keys that records speak of.
    folder : Path, optional
        Where a file is made if one is needed; it has no name and is gone with this process. By default where temporary
        files go.
    """

    def __init__(self, keys: KeyNumbers, folder: Path | None = None) -> None:
        self._keys = keys
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES, dir=str(folder) if folder else None)  # noqa: SIM115 - closed in close()
        self._runs: list[_Run] = []
        self._pending: list[Records] = []
        self.votes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def fill(self, portions: Iterable[Records]) -> Iterator[int]:
        """Take votes in, and yield how many there are by now."""
        pending = 0
        for records in portions:
            self._pending.append(records)
            pending += len(records)
            self.votes += len(records)
            if pending >= RUN_VOTES:
                self._write_run()
                pending = 0
            yield self.votes
        self._write_run()

    def blocks(self, electorate: Electorate) -> Iterator[Block]:
        """Yield all votes in blocks of whole keys, shard by shard."""
        for shard in range(KEY_SHARDS):
            records = self._read(shard)
            if len(records):
                yield from self._cut(records, electorate)

    def _write_run(self) -> None:
        if not self._pending:
            return
        records = np.concatenate(self._pending)
        self._pending.clear()
        shards = self._keys.shards(records["key"])
        bounds = np.append(0, np.cumsum(np.bincount(shards, minlength=KEY_SHARDS)))
        self._runs.append(_Run(self._file.seek(0, 2), bounds))
        self._file.write(records[np.argsort(shards, kind="stable")].tobytes())

    def _read(self, shard: int) -> Records:
        parts = []
        for run in self._runs:
            first, last = run.bounds[shard], run.bounds[shard + 1]
            if last > first:
                self._file.seek(run.offset + int(first) * VOTE.itemsize)
                parts.append(self._file.read(int(last - first) * VOTE.itemsize))
        return np.frombuffer(b"".join(parts), dtype=VOTE)

    def _cut(self, records: Records, electorate: Electorate) -> Iterator[Block]:
        numbers, places = np.unique(records["key"], return_inverse=True)
        names = [self._keys.names[number] for number in numbers.tolist()]
        order = sorted(range(len(names)), key=names.__getitem__)
        rank = np.empty(len(names), dtype=np.intp)
        rank[order] = np.arange(len(names))
        by_key = rank[places]
        records = records[np.lexsort((records["voter"], by_key))]
        ends = np.cumsum(np.bincount(by_key, minlength=len(names)))
        first, start = 0, 0
        while first < len(names):
            # As many keys as fit, and at least one.
            last = max(first + 1, int(np.searchsorted(ends, start + BLOCK_VOTES, side="right")))
            end = int(ends[last - 1])
            part = records[start:end]
            yield Block(
                keys=[names[place] for place in order[first:last]],
                starts=np.append(start, ends[first : last - 1]) - start,
                records=part,
                tokens=electorate.tokens[part["voter"]],
            )
            first, start = last, end
