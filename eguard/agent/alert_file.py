"""The SQLite file of the alert buffer: opened safely, checked, and set aside when it is damaged.

The journal is a rollback journal (``journal_mode=TRUNCATE``), not a write-ahead log, for three reasons. SQLite before
3.51.3 can corrupt a database when a write-ahead log is reset while two connections work on it, and the standard
library of the interpreters that this runs on carries such versions. A log grows for as long as one reader, even a
stopped one, holds an old state; a bound on the disk would then depend on readers. And one writer that commits a batch
at a time gains nothing from a log. With ``synchronous=FULL`` a commit returns after the pages and then the emptied
journal were fsynced: TRUNCATE syncs that last step, which DELETE leaves to chance.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from pathlib import Path
from typing import Final

from eguard.baseline.portable_calls import replace_file, sync_folder
from eguard.errors import AlertBufferError

PAGE_BYTES: Final = 4096
JOURNAL_SUFFIX: Final = "-journal"
_APPLICATION_ID: Final = 0x65474142  # "eGAB"
_FORMAT: Final = 1
_INCREMENTAL: Final = 2
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT: "malformed", sqlite3.SQLITE_NOTADB: "not-a-database"}
_SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE alert (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, alert_id TEXT NOT NULL UNIQUE, body BLOB NOT NULL
);
CREATE TABLE total (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO total VALUES ('appended', 0), ('dropped', 0);
"""


class DamagedFileError(Exception):
    """The file is no alert buffer. Never leaves the buffer; ``reason`` becomes part of the name it is kept under."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def open_file(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """Open or create the buffer's file for its one writer, who waits `busy_seconds` for those who read.

    Raises
    ------
    DamagedFileError
        The bytes are not what an alert buffer writes.
    AlertBufferError
        The file is a link, somebody else's or unreadable.
    sqlite3.Error
        The disk refused.
    """
    _claim(path)
    connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        if reason := damage(error):
            raise DamagedFileError(reason) from error
        raise
    except DamagedFileError:
        connection.close()
        raise
    return connection


def _claim(path: Path) -> None:
    """Make the file where it is missing, close it to others, and refuse what is no file of ours."""
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK"):
        flags |= getattr(os, name, 0)  # Windows has none of them
    try:
        handle = os.open(path, flags, 0o600)
    except OSError as error:
        raise AlertBufferError(
            f"cannot open the alert buffer {path}: {error.strerror}",
            reason="unusable_file",
            remedy="Give the agent a state folder that it owns and may write to, with no links in it.",
            path=str(path),
        ) from error
    try:
        found = os.fstat(handle)
        user = os.geteuid() if hasattr(os, "geteuid") else found.st_uid
        if not stat.S_ISREG(found.st_mode) or found.st_uid != user:
            raise AlertBufferError(
                f"{path} is not a regular file of this user (user {user})",
                reason="unusable_file",
                remedy="Remove it; the agent makes the file that it needs.",
                path=str(path),
            )
        if hasattr(os, "fchmod"):
            os.fchmod(handle, 0o600)
    finally:
        os.close(handle)


def _prepare(connection: sqlite3.Connection) -> None:
    if number(connection, "PRAGMA page_count") == 0:
        # Only here: on a file that exists the second one would write.
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = TRUNCATE")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA trusted_schema = OFF")
    is_ours = number(connection, "PRAGMA auto_vacuum") == _INCREMENTAL
    if is_ours and number(connection, "SELECT count(*) FROM sqlite_schema") == 0:
        _create(connection)  # new, or begun on a full disk
    identity = (number(connection, "PRAGMA application_id"), number(connection, "PRAGMA user_version"))
    if identity != (_APPLICATION_ID, _FORMAT):
        raise DamagedFileError("foreign-format")
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise DamagedFileError("malformed")


def _create(connection: sqlite3.Connection) -> None:
    marks = f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {_FORMAT}; COMMIT;"
    try:
        connection.executescript(_SCHEMA + marks)
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def number(connection: sqlite3.Connection, statement: str) -> int:
    """Return the one number that a statement gives."""
    row = connection.execute(statement).fetchone()
    return int(row[0]) if row else 0


def damage(error: sqlite3.Error) -> str:
    """Return why the file cannot be used any more, or nothing if the file is not to blame."""
    code = getattr(error, "sqlite_errorcode", 0)
    if isinstance(error, sqlite3.OperationalError) and str(error).startswith(("no such table", "no such column")):
        return "foreign-format"
    return _DAMAGED.get(code & 0xFF, "")


def set_aside(path: Path, reason: str) -> Path:
    """Rename a damaged file so that it can be looked into, and return its new name. Only the latest one is kept.

    Its journal needs no care: SQLite played it back when it opened the file, and discards one beside an empty file.
    """
    target = path.with_name(f"{path.name}.damaged-{reason}")
    for earlier in path.parent.glob(f"{path.name}.damaged-*"):
        earlier.unlink()
    replace_file(path, target)
    sync_folder(path.parent)
    return target


def files_bytes(path: Path) -> int:
    """Return the length of the file and of its journal."""
    total = 0
    for part in (path, path.with_name(path.name + JOURNAL_SUFFIX)):
        with contextlib.suppress(FileNotFoundError):
            total += part.stat().st_size
    return total
