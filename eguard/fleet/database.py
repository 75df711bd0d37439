"""Connections and transactions: one writer, many readers, and no driver error past this module."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool, StaticPool

from eguard.errors import FleetStoreError

#: How long a transaction waits for another process's lock.
BUSY_TIMEOUT_SECONDS: Final = 10.0

_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
)


class Database:
    """A SQLite database behind one writer connection and a pool of read-only ones.

    A second writer in one process buys nothing and invites ``database is locked``; with a single connection and
    ``BEGIN IMMEDIATE`` writers queue instead. Readers see the snapshot of the moment they began (WAL). An in-memory
    database has one connection for everything.

    Parameters
    ----------
    url : str
        ``sqlite:///PATH`` or ``sqlite://`` for memory.

    Raises
    ------
    FleetStoreError
        The URL is not one of these, or the file cannot be opened.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = sa.make_url(url)
        except SQLAlchemyError as error:
            raise _store_error("invalid_url", f"not a database URL: {error}") from error
        if parsed.get_backend_name() != "sqlite":
            raise _store_error("unsupported_dialect", f"no support for {parsed.get_backend_name()} databases")
        self.url = url
        self.is_memory = parsed.database in {None, "", ":memory:"}
        self._lock = threading.RLock()
        self._writer = self._engine(parsed, is_writer=True)
        self._reader = self._writer if self.is_memory else self._engine(parsed, is_writer=False)

    @property
    def dialect_name(self) -> str:
        """SQLAlchemy's name of the dialect."""
        return self._writer.dialect.name

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Run one write transaction: all of it is committed and on disk when the block ends, or nothing of it."""
        with self._lock, _translated(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Run one read transaction: a consistent snapshot for as long as the block lasts."""
        if self.is_memory:
            with self.write() as connection:
                yield connection
            return
        with _translated(), self._reader.begin() as connection:
            yield connection

    def dispose(self) -> None:
        """Close all connections, the writer's last: it leaves one file behind, without a write-ahead log."""
        self._reader.dispose()
        self._writer.dispose()

    def _engine(self, url: sa.URL, *, is_writer: bool) -> sa.Engine:
        pool: dict[str, Any] = {"poolclass": StaticPool} if self.is_memory else {"poolclass": QueuePool}
        if is_writer and not self.is_memory:
            pool |= {"pool_size": 1, "max_overflow": 0}
        engine = sa.create_engine(
            url,
            json_serializer=_json_text,
            json_deserializer=msgspec.json.decode,
            connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            **pool,
        )
        pragmas = _PRAGMAS if is_writer else (*_PRAGMAS[1:], "PRAGMA query_only=ON")
        begin = "BEGIN IMMEDIATE" if is_writer else "BEGIN"

        @sa.event.listens_for(engine, "connect")
        def _configure(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # transactions begin where this module says so
            for pragma in pragmas:
                connection.execute(pragma)

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql(begin)

        return engine


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise _store_error("database", f"the fleet database refused: {error}") from error


def _store_error(reason: str, message: str) -> FleetStoreError:
    return FleetStoreError(
        message,
        remedy="Check EGUARD_DATABASE_URL and that the store was created with migrate().",
        reason=reason,
    )


def _json_text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
