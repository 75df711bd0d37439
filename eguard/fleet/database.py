"""Transactions on the fleet database, whichever it is: whole or not at all, and no driver error past this module."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from eguard.errors import FleetStoreError
from eguard.fleet.engines import server_engines, sqlite_engine
from eguard.fleet.turns import Turns

T = TypeVar("T")

#: How often `Database.retrying` runs a transaction again at most.
MAX_RETRIES: Final = 3
#: Wait before each of them when the server was lost; a restart takes a moment. Deadlocks wait a hundredth of it.
RETRY_SECONDS: Final = (0.2, 1.0, 3.0)

_SERVER_BACKENDS: Final = frozenset({"mysql", "mariadb"})
# Deadlock, lock wait timeout, and (MariaDB 11.6 on) a row that changed since the transaction's snapshot.
_CONFLICT_CODES: Final = frozenset({1213, 1205, 1020})
# No connection, connection lost, too many connections, server shutting down, network errors.
_LOST_CODES: Final = frozenset({2002, 2003, 2006, 2013, 2055, 1040, 1053, 1158, 1159, 1160, 1161})
_REMEDIES: Final = {
    "database_unavailable": "Check that the database runs and answers, then try again; nothing was half done.",
    "conflict": "Somebody else stored it in the meantime: read it again.",
}


class Database:
    """SQLite, MariaDB or MySQL behind one face: write transactions, read transactions, transactions run again.

    A SQLite file has one writer connection and a pool of read-only ones. A second writer in one process buys nothing
    and invites ``database is locked``; with a single connection writers queue, first come, first served. A database in
    memory has one connection for everything. On a server writers run side by side: whoever reads a row in order to
    change it says ``with_for_update()``, and may be told of a deadlock; `retrying` runs a transaction again then.

    Readers see the snapshot of the moment they began, everywhere.

    Parameters
    ----------
    url : str
        ``sqlite:///PATH``, ``sqlite://`` for memory, or ``mysql://USER:PASSWORD@HOST/NAME`` (or ``mariadb://``). A
        server is connected to when it is first needed.

    Raises
    ------
    FleetStoreError
        The URL is not one of these.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url = sa.make_url(url)
        except (SQLAlchemyError, ValueError) as error:
            raise _store_error("invalid_url", "this is not a database URL") from error
        backend = self._url.get_backend_name()
        if backend not in {"sqlite", *_SERVER_BACKENDS}:
            raise _store_error("unsupported_dialect", f"no support for {backend} databases")
        self.is_server = backend in _SERVER_BACKENDS
        self.is_memory = not self.is_server and self._url.database in {None, "", ":memory:"}
        self._connecting = threading.Lock()
        self._turns = Turns()
        self._engines: tuple[sa.Engine, sa.Engine] | None = None
        if not self.is_server:
            writer = sqlite_engine(self._url, is_memory=self.is_memory, is_writer=True)
            reader = writer if self.is_memory else sqlite_engine(self._url, is_memory=False, is_writer=False)
            self._engines = writer, reader

    def __repr__(self) -> str:
        return f"Database({self.address!r})"

    @property
    def address(self) -> str:
        """The URL without its password."""
        return self._url.render_as_string(hide_password=True)

    @property
    def folder(self) -> Path | None:
        """The folder of a SQLite file: what has room for the database has room for a copy of its votes."""
        if self.is_server or self.is_memory:
            return None
        return Path(self._url.database or "").absolute().parent

    @property
    def dialect_name(self) -> str:
        """SQLAlchemy's name of the dialect: sqlite, mariadb or mysql. A server is asked which it is."""
        with self._translated():
            return self._connected()[0].dialect.name

    @property
    def waiting_writers(self) -> int:
        """How many threads of this process wait for their turn to write; on a server none."""
        return self._turns.waiting

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Run one write transaction: all of it is committed and on disk when the block ends, or nothing of it.

        Raises
        ------
        FleetStoreError
            ``reason`` is ``database_unavailable`` if it cannot be reached or is busy for too long, ``conflict`` if a
            unique key is taken or a foreign one missing, else ``database``.
        """
        with self._turn(), self._translated(), self._connected()[0].begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Run one read transaction: a consistent snapshot for as long as the block lasts.

        Raises
        ------
        FleetStoreError
            As for `write`.
        """
        if self.is_memory:
            with self.write() as connection:
                yield connection
            return
        with self._translated(), self._connected()[1].begin() as connection:
            yield connection

    def retrying(self, function: Callable[[sa.Connection], T], *, is_idempotent: bool = False) -> T:
        """Run a whole write transaction, and again if it lost against another one or lost its connection.

        Parameters
        ----------
        function : callable
            Does the transaction's work. It may run several times, so it changes nothing but the database.
        is_idempotent : bool
            Whether running it after it was committed changes nothing more. If so, it also runs again when the
            connection was lost during COMMIT, where nobody can tell whether the transaction is in the database.

        Returns
        -------
        object
            What the run that was committed returned.

        Raises
        ------
        FleetStoreError
            As for `write`, after at most `MAX_RETRIES` further runs.
        """
        for pause in RETRY_SECONDS[:MAX_RETRIES]:
            is_committing = False
            try:
                with self._turn(), self._connected()[0].connect() as connection, connection.begin() as transaction:
                    result = function(connection)
                    is_committing = True
                    transaction.commit()
                    return result
            except DBAPIError as error:
                if is_conflict(error):
                    time.sleep(pause / 100.0 * (0.5 + random.random()))  # noqa: S311 - keeps rivals from meeting again
                elif self.is_server and is_lost(error) and (is_idempotent or not is_committing):
                    time.sleep(pause)
                else:
                    raise self._refusal(error) from error
            except SQLAlchemyError as error:
                raise self._refusal(error) from error
        with self.write() as connection:
            return function(connection)

    def dispose(self) -> None:
        """Close all connections, the writer's last: SQLite leaves one file behind then, without a write-ahead log."""
        if self._engines is not None:
            writer, reader = self._engines
            reader.dispose()
            writer.dispose()

    def _connected(self) -> tuple[sa.Engine, sa.Engine]:
        if self._engines is None:
            with self._connecting:
                if self._engines is None:
                    self._engines = server_engines(self._url)
        return self._engines

    def _turn(self) -> Turns | nullcontext[None]:
        """Return what writers hold: on a server nothing."""
        return nullcontext() if self.is_server else self._turns

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: SQLAlchemyError) -> FleetStoreError:
        # The driver's own words: the toolkit's would repeat the statement.
        told = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        words = str(told.args[-1]) if told.args else str(told)
        if isinstance(error, IntegrityError):
            return _store_error("conflict", f"the fleet database refused: {words}")
        if isinstance(error, sa.exc.TimeoutError) or (
            isinstance(error, DBAPIError) and (is_lost(error) or is_conflict(error))
        ):
            return _store_error("database_unavailable", f"the fleet database {self.address} does not answer: {words}")
        return _store_error("database", f"the fleet database refused: {words}")


def is_conflict(error: DBAPIError) -> bool:
    """Tell whether a transaction lost against another one: run again it may well succeed."""
    return _code(error) in _CONFLICT_CODES


def is_lost(error: DBAPIError) -> bool:
    """Tell whether the database was not reached, or not any more, or is held by others for too long."""
    if error.connection_invalidated or _code(error) in _LOST_CODES:
        return True
    return "database is locked" in str(error.orig)


def _code(error: DBAPIError) -> int | None:
    arguments = error.orig.args if error.orig is not None else ()
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def _store_error(reason: str, message: str) -> FleetStoreError:
    remedy = _REMEDIES.get(reason, "Check EGUARD_DATABASE_URL, and make or bring up its tables: eguard server migrate.")
    return FleetStoreError(message, remedy=remedy, reason=reason)
