"""Several processes read one SQLite file: each spools a part of the table, and one takes all parts in.

Each part is read in a snapshot of its own, for processes cannot share one. A vote is a row and lies in one part, so it
still counts wholly or not at all; one that changes meanwhile is marked for the next cycle, whether it was seen or not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from eguard.fleet.database import Database
from eguard.fleet.executors import Executor
from eguard.fleet.tables import endpoint_baseline
from eguard.fleet.vote_reader import ROW_NUMBER, VoteReader
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
        What they read as; it is told whose votes they met.
    spool : VoteSpool
        Takes everything in.
    """
    with tempfile.TemporaryDirectory(prefix="eguard-votes-", dir=spool.folder) as folder:
        agents = list(reader.numbers)
        calls = (
            (address, rows, agents, reader.now, Path(folder) / f"{number}.votes") for number, rows in enumerate(parts)
        )
        for part, has_voted in executor.map(spool_part, calls):
            reader.has_voted |= has_voted
            spool.adopt(part)
            part.path.unlink()
            yield spool.votes


def spool_part(
    address: str, rows: range, agents: list[str], now: float, path: Path
) -> tuple[SpooledPart, NDArray[np.bool_]]:
    """Read a part of the table into a file, and tell which agents have votes in it. It runs in a process of its own.

    Parameters
    ----------
    address : str
        URL of the database.
    rows : range
        By row numbers.
    agents : list of str
        Those that may vote, in the order of their numbers.
    now : float
        Rows that expired by then are passed over.
    path : Path
        Of the file.
    """
    database = Database(address)
    try:
        reader = VoteReader({agent_id: number for number, agent_id in enumerate(agents)}, now)
        with VoteSpool(reader.keys, path.parent) as spool, database.read() as connection:
            for _ in spool.fill(reader.all_votes(connection, rows)):
                pass
            return spool.save(path), reader.has_voted
    finally:
        database.dispose()
