"""Alerts that wait for a server: first in, first out, bounded on the disk, and there again after any crash.

What is promised:

* An alert whose `AlertBuffer.append` returned survives SIGKILL and a power cut (see `eguard.agent.alert_file`).
* The database file never exceeds `max_bytes`; SQLite itself is told so. While a batch is written the journal stands
  beside it: at most about twice the batch, and at rest nothing.
* The oldest alerts are dropped for new ones. Drops are counted in the transaction that drops.
* Nothing about the file or the disk stops detection: the caller gets an `AlertBufferError`, none of the batch was
  stored, and the next call starts afresh. A damaged file is renamed aside and a new one begun.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import structlog

from eguard.agent.alert_file import PAGE_BYTES, DamagedFileError, damage, files_bytes, number, open_file, set_aside
from eguard.clock import Clock, SystemClock
from eguard.detection.alert import Alert
from eguard.errors import AlertBufferError, ConfigError

FILE_NAME: Final = "alerts.db"
DEFAULT_MAX_BYTES: Final = 100_000_000
MIN_MAX_BYTES: Final = 262_144
#: Pages that one insert may take beyond those of its body: leaves, and splits of both trees down from their roots.
_SPARE_PAGES: Final = 12
#: A page of a long body carries this much of it.
_OVERFLOW_BYTES: Final = PAGE_BYTES - 4
#: How long a commit waits for somebody who reads; a reader holds its lock for milliseconds. Whoever held it for longer
#: has it still, probably, and detection does not wait for him a second time.
_BUSY_SECONDS: Final = 1.0
_BUSY_AGAIN_SECONDS: Final = 0.01
#: A full buffer drops with every batch; the log says so this often.
_LOG_SECONDS: Final = 60.0
#: Free pages that stay in the file; more than twice as many are given back to the disk.
_KEPT_FREE_PAGES: Final = 256
_REASONS: Final = {
    sqlite3.SQLITE_FULL: ("disk_full", "Make room on the disk; the next alert is kept again."),
    sqlite3.SQLITE_BUSY: ("busy", "Stop whatever holds the file open: fuser -v on it names the process."),
    sqlite3.SQLITE_READONLY: ("read_only", "Make the state folder and the file writable for the agent."),
    sqlite3.SQLITE_CANTOPEN: ("unusable_file", "Make the state folder and the file writable for the agent."),
}

_log = structlog.get_logger("eguard.agent")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class BufferedAlert:
    """An alert that waits. `sequence` rises with every alert and is never used twice; `body` is its JSON."""

    sequence: int
    alert_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class BufferCounts:
    """What the buffer holds and has done.

    `waiting` alerts are in it; `bytes` is the length of its files on the disk. `appended_total` and `dropped_total`
    count since the file was made; `set_aside_total` counts damaged files since this process opened the buffer.
    """

    waiting: int
    bytes: int
    dropped_total: int
    appended_total: int
    set_aside_total: int = 0


class AlertBuffer:
    """Alerts on their way to a server. One caller at a time; opened at the first call, not before.

    Parameters
    ----------
    path : Path
        The file. Its folder has to exist.
    max_bytes : int
        Most bytes of the database file.
    clock : Clock, optional
        Its monotonic time spaces the log's lines about drops.

    Raises
    ------
    ConfigError
        `max_bytes` is too small to hold anything.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> buffer = AlertBuffer(Path(mkdtemp()) / "alerts.db")
    >>> alert = Alert(alert_id="a1", host_id="h", observed_at_unix=1.0, event_class="process_exec",
    ...     process_key="sh:cron", confidence="high", response="alert_only", reasons=("rule",))
    >>> buffer.append([alert, alert])
    >>> [(waiting.sequence, waiting.alert_id) for waiting in buffer.oldest(10)]
    [(1, 'a1')]
    >>> buffer.acknowledge([1])
    >>> buffer.counts().waiting, buffer.counts().appended_total
    (0, 1)
    >>> buffer.close()
    """

    def __init__(self, path: Path, max_bytes: int = DEFAULT_MAX_BYTES, clock: Clock | None = None) -> None:
        if max_bytes < MIN_MAX_BYTES:
            raise ConfigError(f"an alert buffer of {max_bytes} bytes holds nothing; use {MIN_MAX_BYTES} or more")
        self._path = path
        self._max_pages = max_bytes // PAGE_BYTES
        self._connection: sqlite3.Connection | None = None
        self._was_busy = False
        self._waiting = 0
        self._last_sequence = 0
        self._set_aside_total = 0
        self._clock = clock or SystemClock()
        self._unlogged, self._next_log = 0, -math.inf

    def append(self, alerts: Sequence[Alert]) -> None:
        """Keep alerts, all or none. One that already waits is left as it is.

        Raises
        ------
        AlertBufferError
            Nothing was kept. The same call may be made again.
        """
        if alerts:
            self._do("append", lambda: self._append([(_text(alert.alert_id), alert.to_json()) for alert in alerts]))

    def oldest(self, limit: int) -> list[BufferedAlert]:
        """Return the `limit` alerts that have waited longest.

        Raises
        ------
        AlertBufferError
            The file cannot be read.
        """
        query = "SELECT sequence, alert_id, body FROM alert ORDER BY sequence LIMIT ?"
        return self._do("read", lambda: [BufferedAlert(*row) for row in self._open().execute(query, (limit,))])

    def acknowledge(self, sequences: Sequence[int]) -> None:
        """Forget alerts that have arrived. Numbers that are not there are no error.

        Raises
        ------
        AlertBufferError
            All of them still wait; the server will see them again.
        """
        if sequences:
            self._do("acknowledge", lambda: self._acknowledge(sequences))

    def counts(self) -> BufferCounts:
        """Return what the buffer holds and has done.

        Raises
        ------
        AlertBufferError
            The file cannot be read.
        """
        totals = self._do("count", lambda: dict(self._open().execute("SELECT name, value FROM total")))
        return BufferCounts(
            waiting=self._waiting,
            bytes=files_bytes(self._path),
            dropped_total=totals["dropped"],
            appended_total=totals["appended"],
            set_aside_total=self._set_aside_total,
        )

    def close(self) -> None:
        """Give the file back. The next call opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _append(self, rows: Sequence[tuple[str, bytes]]) -> None:
        connection, appended, dropped = self._open(), 0, 0
        with self._transaction(connection):
            for identifier, body in rows:
                need = _SPARE_PAGES + len(body) // _OVERFLOW_BYTES
                if connection.execute("SELECT 1 FROM alert WHERE alert_id = ?", (identifier,)).fetchone():
                    continue
                appended += 1
                if need + _SPARE_PAGES > self._max_pages:
                    dropped += 1  # larger than the whole buffer
                    continue
                dropped += self._make_room(connection, need)
                cursor = connection.execute("INSERT INTO alert (alert_id, body) VALUES (?, ?)", (identifier, body))
                self._last_sequence = max(self._last_sequence, cursor.lastrowid or 0)
            _add(connection, appended=appended, dropped=dropped)
        self._waiting += appended - dropped
        if dropped:
            self._log_drops(dropped)

    def _log_drops(self, dropped: int) -> None:
        self._unlogged += dropped
        now = self._clock.monotonic()
        if now < self._next_log:
            return
        _log.warning("dropped buffered alerts", dropped=self._unlogged, waiting=self._waiting, path=str(self._path))
        self._unlogged, self._next_log = 0, now + _LOG_SECONDS

    def _make_room(self, connection: sqlite3.Connection, pages: int) -> int:
        """Drop the oldest alerts until `pages` are free below the bound; return how many were dropped."""
        dropped = 0
        while self._max_pages - _used_pages(connection) < pages:
            gone = connection.execute("DELETE FROM alert WHERE sequence = (SELECT min(sequence) FROM alert)").rowcount
            if not gone:
                break
            dropped += gone
        return dropped

    def _acknowledge(self, sequences: Sequence[int]) -> None:
        connection = self._open()
        with self._transaction(connection):
            rows = [(sequence,) for sequence in sequences]
            gone = connection.executemany("DELETE FROM alert WHERE sequence = ?", rows).rowcount
        self._waiting -= gone
        self._give_back(connection, keep=_KEPT_FREE_PAGES)

    @staticmethod
    def _give_back(connection: sqlite3.Connection, *, keep: int) -> None:
        """Shorten the file where many of its pages are free."""
        free = number(connection, "PRAGMA freelist_count")
        if free > 2 * keep:
            # On a full disk the file stays as long as it is, and what was to be done before has been done.
            with suppress(sqlite3.OperationalError):
                # `execute` steps the statement once, which would free one page.
                connection.executescript(f"PRAGMA incremental_vacuum({free - keep});")

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = open_file(self._path, _BUSY_AGAIN_SECONDS if self._was_busy else _BUSY_SECONDS)
            try:
                self._settle(connection)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _settle(self, connection: sqlite3.Connection) -> None:
        """Bring the file below a bound that was lowered, and go on with the numbers where they were."""
        if self._max_pages < number(connection, "PRAGMA page_count"):
            with self._transaction(connection):
                dropped = self._make_room(connection, _SPARE_PAGES)
                _add(connection, appended=0, dropped=dropped)
            self._give_back(connection, keep=0)
        connection.execute(f"PRAGMA max_page_count = {self._max_pages}")
        stored = number(connection, "SELECT seq FROM sqlite_sequence WHERE name = 'alert'")
        if stored < self._last_sequence:
            # A new file after a damaged one: numbers already handed out must not name other alerts.
            connection.execute("DELETE FROM sqlite_sequence")
            connection.execute("INSERT INTO sqlite_sequence VALUES ('alert', ?)", (self._last_sequence,))
        self._last_sequence = max(stored, self._last_sequence)
        self._waiting = number(connection, "SELECT count(*) FROM alert")

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _do(self, what: str, action: Callable[[], _Result]) -> _Result:
        """Run an action; a damaged file is replaced by a new one, once, and everything else becomes one error."""
        for _ in range(2):
            try:
                result = action()
            except DamagedFileError as error:
                self._replace(error.reason, error)
            except sqlite3.Error as error:
                self._was_busy = _code(error) == sqlite3.SQLITE_BUSY
                self.close()  # what the handle believes about the file may be wrong now
                reason = damage(error)
                if not reason:
                    raise self._refusal(what, error) from error
                self._replace(reason, error)
            else:
                self._note_unblocked()
                return result
        raise AlertBufferError(
            f"the alert buffer {self._path} is damaged again right after it was made anew",
            reason="damaged",
            remedy="Test the disk: eguard store exercise, and the kernel's log.",
            path=str(self._path),
        )

    def _note_unblocked(self) -> None:
        if self._was_busy and self._connection is not None:
            self._connection.execute(f"PRAGMA busy_timeout = {round(1000 * _BUSY_SECONDS)}")
            self._was_busy = False

    def _replace(self, reason: str, cause: Exception) -> None:
        self.close()
        try:
            aside = set_aside(self._path, reason)
        except OSError as error:
            raise AlertBufferError(
                f"the alert buffer {self._path} is damaged ({reason}) and cannot be set aside: {error.strerror}",
                reason="damaged",
                remedy="Move the file away by hand.",
                path=str(self._path),
            ) from cause
        self._set_aside_total += 1
        _log.error("set aside damaged alert buffer", path=str(aside), reason=reason)

    def _refusal(self, what: str, error: sqlite3.Error) -> AlertBufferError:
        reason, remedy = _REASONS.get(
            _code(error), ("disk_error", "Look at the disk: the kernel's log says what failed.")
        )
        return AlertBufferError(
            f"cannot {what} alerts in the buffer {self._path}: {error}",
            reason=reason,
            remedy=remedy,
            path=str(self._path),
        )


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _used_pages(connection: sqlite3.Connection) -> int:
    return number(connection, "PRAGMA page_count") - number(connection, "PRAGMA freelist_count")


def _add(connection: sqlite3.Connection, *, appended: int, dropped: int) -> None:
    values = [(appended, "appended"), (dropped, "dropped")]
    connection.executemany("UPDATE total SET value = value + ? WHERE name = ?", values)


def _text(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()
