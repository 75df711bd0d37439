"""From one database to another: every row of every table, as when a server moves from SQLite to MariaDB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from eguard.errors import FleetStoreError
from eguard.fleet.database import Database
from eguard.fleet.tables import metadata

Progress = Callable[[str, int, int], None]

#: Rows that one statement writes.
_BATCH_ROWS: Final = 1000
#: What a migration itself puts into a new database; the source's own rows replace it.
_SEEDED: Final = frozenset({"policy", "server_counter"})


def copy_database(source: Database, target: Database, now: float, progress: Progress | None = None) -> dict[str, int]:
    """Copy all rows of `source` into an empty `target`, in one transaction, and return their number by table.

    No server may work on either meanwhile: the source is read in one snapshot, and what is stored later stays behind.

    Parameters
    ----------
    source : Database
        At the revision of this version.
    target : Database
        Empty, or migrated and unused.
    now : float
        Time of the migration of an empty target, in seconds since the epoch.
    progress : callable, optional
        Called with each table's name, the tables done, and their number.

    Raises
    ------
    FleetStoreError
        The source was not migrated by this version, the target is in use, or a database refused. The target then holds
        no row of the source.
    """
    from eguard.fleet.migrations import current_revision, head_revision, upgrade  # noqa: PLC0415 - loads slowly

    with source.read() as reading:
        found = current_revision(reading)
        if found != head_revision():
            raise FleetStoreError(
                f"the database to copy has schema {found}, and this version works with {head_revision()}",
                remedy="Migrate it first: eguard server migrate.",
                reason="schema_version",
                found=found,
            )
        with target.write() as writing:
            upgrade(writing, now)
        with target.write() as writing:
            _refuse_used(writing, target)
            copied = {}
            tables = metadata.sorted_tables
            for done, table in enumerate(tables):
                copied[table.name] = _copy_table(reading, writing, table)
                if progress is not None:
                    progress(table.name, done + 1, len(tables))
    return copied


def _refuse_used(connection: sa.Connection, target: Database) -> None:
    for table in metadata.sorted_tables:
        if table.name not in _SEEDED and connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).all():
            raise FleetStoreError(
                f"the database {target.address} is in use: there are rows in {table.name}",
                remedy="Copy into an empty database.",
                reason="not_empty",
            )
    for name in sorted(_SEEDED):
        connection.execute(sa.delete(metadata.tables[name]))


def _copy_table(reading: sa.Connection, writing: sa.Connection, table: sa.Table) -> int:
    copied = 0
    query = sa.select(table).order_by(*table.primary_key.columns).execution_options(yield_per=_BATCH_ROWS)
    for rows in reading.execute(query).mappings().partitions():
        writing.execute(sa.insert(table), [dict(row) for row in rows])
        copied += len(rows)
    return copied
