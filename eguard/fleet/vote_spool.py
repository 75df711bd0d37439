"""Votes on their way from the order of the table to the order of the keys: sorted runs on disk, read back by shard.

What is held in memory is one run, and later one shard.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from io import BufferedIOBase
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray

from eguard.fleet.blocks import VOTE, Block, Records
from eguard.fleet.ingest import KEY_SHARDS
from eguard.fleet.vote_reader import Electorate, KeyNumbers

#: Votes in a run.
RUN_VOTES: Final = 32_768
#: Votes in a block, unless a single key has more.
BLOCK_VOTES: Final = 32_768
#: What is smaller stays in memory.
MEMORY_BYTES: Final = 4 << 20


class _Run(NamedTuple):
    """Where a run begins in the file, and the first vote of each shard within it, shape (KEY_SHARDS + 1,)."""

    offset: int
    bounds: NDArray[np.intp]


class _Source(NamedTuple):
    """A file with runs, and the numbers that the keys of its records have here; None if they are the same."""

    file: BufferedIOBase
    runs: list[_Run]
    numbers: NDArray[np.int32] | None

    def count(self, shard: int) -> int:
        """Return how many votes of a shard there are."""
        return sum(int(run.bounds[shard + 1] - run.bounds[shard]) for run in self.runs)

    def read(self, shard: int, records: Records) -> None:
        """Read a shard's votes to where they are wanted: there are several MiB of them."""
        at = 0
        for run in self.runs:
            first, last = int(run.bounds[shard]), int(run.bounds[shard + 1])
            if last > first:
                self.file.seek(run.offset + first * VOTE.itemsize)
                self.file.readinto(records[at : at + last - first].view(np.uint8).data)
                at += last - first
        if self.numbers is not None:
            records["key"] = self.numbers[records["key"]]


class SpooledPart(NamedTuple):
    """A part of the votes that another process left in a file, with the names of its keys in its own order."""

    path: Path
    runs: list[_Run]
    names: list[str]
    votes: int


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
        self.folder = folder
        self._files = ExitStack()
        where = None if folder is None else str(folder)
        temporary = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES, dir=where)  # noqa: SIM115 - the stack closes it
        self._file = cast("BufferedIOBase", self._files.enter_context(temporary))
        self._runs: list[_Run] = []
        self._sources = [_Source(self._file, self._runs, None)]
        self._pending: list[Records] = []
        self.votes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._files.close()

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

    def adopt(self, part: SpooledPart) -> None:
        """Take in what another process spooled; its file may be removed afterwards."""
        numbers = np.array([self._keys[name] for name in part.names], dtype=np.int32)
        self._sources.append(_Source(self._files.enter_context(part.path.open("rb")), part.runs, numbers))
        self.votes += part.votes

    def save(self, path: Path) -> SpooledPart:
        """Leave everything in a file for another process to adopt."""
        self._file.seek(0)
        with path.open("wb") as file:
            shutil.copyfileobj(self._file, file)
        return SpooledPart(path, self._runs, self._keys.names, self.votes)

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
        counts = [source.count(shard) for source in self._sources]
        records = np.empty(sum(counts), dtype=VOTE)
        ends = np.cumsum(counts).tolist()
        for source, count, end in zip(self._sources, counts, ends, strict=True):
            source.read(shard, records[end - count : end])
        return records

    def _cut(self, records: Records, electorate: Electorate) -> Iterator[Block]:
        numbers, places = np.unique(records["key"], return_inverse=True)
        names = [self._keys.names[number] for number in numbers.tolist()]
        order = sorted(range(len(names)), key=names.__getitem__)
        rank = np.empty(len(names), dtype=np.intp)
        rank[order] = np.arange(len(names))
        by_key = rank[places]
        in_order = np.lexsort((records["voter"], by_key))
        ends = np.cumsum(np.bincount(by_key, minlength=len(names)))
        first, start = 0, 0
        while first < len(names):
            # As many keys as fit, and at least one.
            last = max(first + 1, int(np.searchsorted(ends, start + BLOCK_VOTES, side="right")))
            end = int(ends[last - 1])
            part = records[in_order[start:end]]
            yield Block(
                keys=[names[place] for place in order[first:last]],
                starts=np.append(start, ends[first : last - 1]) - start,
                records=part,
                tokens=electorate.tokens[part["voter"]],
            )
            first, start = last, end
