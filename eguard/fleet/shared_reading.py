"""Several processes read one SQLite file: each spools a part of the table, and one takes all parts in.

Each part is read in a snapshot of its own, for processes cannot share one. A vote is a row and lies in one part, so it
still counts wholly or not at all; one that changes meanwhile is marked for the next cycle, whether it was seen or not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from eguard.fleet.database import Database
from eguard.fleet.executors import Executor
from eguard.fleet.tables import endpoint_baseline
from eguard.fleet.vote_reader import ROW_NUMBER, Electorate, Voter, VoteReader
from eguard.fleet.vote_spool import SpooledPart, VoteSpool

#: Rows in a part, about.
PART_ROWS: Final = 1_000_000
#: Fewer rows than this are read sooner than they are handed out.
SMALLEST_TABLE: Final = 200_000


def parts_of(connection: sa.Connection) -> list[range]:
    """Return the parts of the table by row numbers; none if it is small."""
    query = sa.select(sa.func.min(ROW_NUMBER), sa.func.max(ROW_NUMBER)).select_from(endpoint_baseline)
    first, last = connection.execute(query).one()
    if first is None or last - first < SMALLEST_TABLE:
        return []
    step = min(PART_ROWS, (last - first) // 4 + 1)
    return [range(start, start + step) for start in range(first, last + 1, step)]


def read_together(
    executor: Executor, address: str, parts: list[range], reader: VoteReader, spool: VoteSpool
) -> Iterator[int]:
    """Have an executor's processes read, and yield how many votes there are by now.

    Parameters
    ----------
    executor : Executor
        One that sees files.
    address : str
        URL of the database.
    parts : list of range
        By row numbers.
    reader : VoteReader
        What they read as.
    spool : VoteSpool
        Takes everything in.
    """
    with tempfile.TemporaryDirectory(prefix="eguard-votes-", dir=spool.folder) as folder:
        calls = (
            (address, rows, reader.electorate.voters, reader.now, Path(folder) / f"{number}.votes")
            for number, rows in enumerate(parts)
        )
        for part in executor.map(spool_part, calls):
            spool.adopt(part)
            part.path.unlink()
            yield spool.votes


def spool_part(address: str, rows: range, voters: dict[str, Voter], now: float, path: Path) -> SpooledPart:
    """Read a part of the table into a file. It runs in a process of its own."""
    database = Database(address)
    try:
        reader = VoteReader(Electorate(voters), now)
        with VoteSpool(reader.keys, path.parent) as spool, database.read() as connection:
            for _ in spool.fill(reader.all_votes(connection, rows)):
                pass
            return spool.save(path)
    finally:
        database.dispose()
