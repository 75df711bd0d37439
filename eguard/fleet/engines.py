"""How connections to each database are made and set up, and how transactions begin on them."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.pool import QueuePool, StaticPool

#: How long a transaction waits for another one's lock.
BUSY_TIMEOUT_SECONDS: Final = 10.0
#: How long a database server may take to accept a connection, and to send the next bytes of an answer.
CONNECT_TIMEOUT_SECONDS: Final = 5.0
ANSWER_TIMEOUT_SECONDS: Final = 60.0
#: Statements that a connection to SQLite keeps prepared: one for a thousand rows takes 20 ms to prepare.
KEPT_STATEMENTS: Final = 512
#: Connections that a process keeps to a database server, each for writers and for readers, and those beyond in a rush.
POOL_SIZE: Final = 8
POOL_OVERFLOW: Final = 24

_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
)
# The writer alone: what a statement may have to undo stays in memory and makes no file (readers sort, and may well need
# one); 8 MiB of pages; pages that change again and again are written back once in 16 MiB of log instead of 4.
_WRITER_PRAGMAS: Final = (
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-8192",
    "PRAGMA wal_autocheckpoint=4000",
)
# There are many readers, and what none of them keeps is in the system's own cache of the file.
_READER_PRAGMAS: Final = ("PRAGMA query_only=ON", "PRAGMA cache_size=-512")
# Wrong values are errors and never cut to size; times are UTC whatever the server's zone is.
_SERVER_SESSION: Final = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
    "NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', foreign_key_checks = 1, "
    f"innodb_lock_wait_timeout = {BUSY_TIMEOUT_SECONDS:.0f}, tx_isolation = '{{isolation}}'"
)


def sqlite_engine(url: sa.URL, *, is_memory: bool, is_writer: bool) -> sa.Engine:
    """Return an engine on a SQLite file: one connection for writers, or a pool of read-only ones.

    A writer begins with ``BEGIN IMMEDIATE``, so that it waits for its turn instead of failing half-way. In memory there
    is one connection for all.
    """
    pool: dict[str, Any] = {"poolclass": StaticPool} if is_memory else {"poolclass": QueuePool}
    if is_writer and not is_memory:
        pool |= {"pool_size": 1, "max_overflow": 0}
    connect_args = {
        "timeout": BUSY_TIMEOUT_SECONDS,
        "check_same_thread": False,
        "cached_statements": KEPT_STATEMENTS,
    }
    engine = _engine(url, connect_args=connect_args, **pool)
    pragmas = (*_PRAGMAS, *_WRITER_PRAGMAS) if is_writer else (*_PRAGMAS[1:], *_READER_PRAGMAS)
    begin = "BEGIN IMMEDIATE" if is_writer else "BEGIN"

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where this module says so
        for pragma in pragmas:
            connection.execute(pragma)

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)
        if not is_writer:
            # SQLite takes its snapshot at the first read.
            connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1")

    return engine


def server_engines(url: sa.URL) -> tuple[sa.Engine, sa.Engine]:
    """Connect to a MariaDB or MySQL server and return engines for writers and for readers.

    The address does not tell which of the two answers, and they differ in collations: it is tried as MariaDB first.

    Writers are isolated as READ COMMITTED: what a statement reads and locks is the latest committed state, so that
    ``SELECT ... FOR UPDATE`` followed by a change is safe, and gaps between keys are not locked, which is what most
    deadlocks of upserts come from. Readers get REPEATABLE READ on a snapshot taken as the transaction begins, so that
    they see a generation whole.

    Raises
    ------
    sqlalchemy.exc.SQLAlchemyError
        The server does not answer or refuses.
    """
    writer = _server_engine(url.set(drivername="mariadb+pymysql"), is_writer=True)
    try:
        writer.connect().close()
    except InvalidRequestError:
        writer.dispose()
        writer = _server_engine(url.set(drivername="mysql+pymysql"), is_writer=True)
        writer.connect().close()
    return writer, _server_engine(writer.url, is_writer=False)


def _server_engine(url: sa.URL, *, is_writer: bool) -> sa.Engine:
    engine = _engine(
        url,
        connect_args={
            "charset": "utf8mb4",
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "read_timeout": ANSWER_TIMEOUT_SECONDS,
            "write_timeout": ANSWER_TIMEOUT_SECONDS,
        },
        poolclass=QueuePool,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=BUSY_TIMEOUT_SECONDS,
        pool_pre_ping=True,
    )
    isolation = "READ-COMMITTED" if is_writer else "REPEATABLE-READ"

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            name = "tx_isolation" if "MariaDB" in connection.get_server_info() else "transaction_isolation"
            cursor.execute(_SERVER_SESSION.format(isolation=isolation).replace("tx_isolation", name))

    if not is_writer:

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    return engine


def _engine(url: sa.URL, **options: Any) -> sa.Engine:
    return sa.create_engine(
        url,
        json_serializer=_json_text,
        json_deserializer=msgspec.json.decode,
        # Errors name no values of a statement: a value may be a secret's hash or a whole batch.
        hide_parameters=True,
        # Whoever begins a transaction here ends it. One ROLLBACK more would cost a round trip, and fail if the server
        # was lost after the commit.
        pool_reset_on_return=None,
        **options,
    )


def _json_text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
