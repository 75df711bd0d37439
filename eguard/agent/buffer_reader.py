"""Look into an alert buffer while an agent writes to it: nothing is changed, and nobody waits long.

Two short queries under one shared lock are read at once into memory, and the file is closed before anything is done
with the answer, so a reader that is stopped or slow afterwards holds up no agent.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eguard.agent.alert_file import JOURNAL_SUFFIX
from eguard.agent.buffer import BufferedAlert
from eguard.errors import AlertBufferError

#: How long a reader waits while a batch is committed.
_PATIENCE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class BufferContents:
    """The newest waiting alerts, newest first, and how many wait, were appended and were dropped in all."""

    waiting: int
    appended_total: int
    dropped_total: int
    newest: list[BufferedAlert]


def read_buffer(path: Path, limit: int) -> BufferContents:
    """Return what waits in the buffer `path`, its newest `limit` alerts in full.

    Raises
    ------
    AlertBufferError
        There is no buffer, or it cannot be read.
    """
    if not path.is_file():
        raise AlertBufferError(
            f"there is no alert buffer {path}",
            reason="missing",
            remedy="Name the state folder of an agent that has run: --state.",
            path=str(path),
        )
    try:
        return _read(path, limit)
    except sqlite3.OperationalError:
        # An agent was killed while it committed, and the half-done batch has to be taken back first: on a copy.
        journal = path.with_name(path.name + JOURNAL_SUFFIX)
        if not (journal.exists() and journal.stat().st_size):
            raise _unreadable(path) from None
    except sqlite3.DatabaseError as error:
        raise _unreadable(path) from error
    with tempfile.TemporaryDirectory(prefix="eguard-alerts-") as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        shutil.copyfile(journal, copy.with_name(journal.name))
        try:
            return _read(copy, limit, mode="rw")
        except sqlite3.DatabaseError as error:
            raise _unreadable(path) from error


def _read(path: Path, limit: int, mode: str = "ro") -> BufferContents:
    with closing(
        sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_PATIENCE_SECONDS, isolation_level=None
        )
    ) as connection:
        connection.execute("BEGIN")
        totals = dict(connection.execute("SELECT name, value FROM total"))
        (waiting,) = connection.execute("SELECT count(*) FROM alert").fetchone()
        query = "SELECT sequence, alert_id, body FROM alert ORDER BY sequence DESC LIMIT ?"
        rows = connection.execute(query, (limit,)).fetchall()
    return BufferContents(waiting, totals["appended"], totals["dropped"], [BufferedAlert(*row) for row in rows])


def _unreadable(path: Path) -> AlertBufferError:
    return AlertBufferError(
        f"the alert buffer {path} cannot be read",
        reason="unreadable",
        remedy="Read it as the user of the agent. A damaged file is set aside when the agent starts.",
        path=str(path),
    )
