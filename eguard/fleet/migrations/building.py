"""What migrations are written with: column types as they are today, and tables made only where they are missing.

A migration must make the same tables in years to come, so these types are copies and not those of
`eguard.fleet.tables`. SQLite runs a migration as one transaction. A server commits every statement for itself; a
migration that was killed there is run again from its start, so each step first looks whether it was done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

#: Text that is not an exact type of its own compares byte by byte too: on a server as in SQLite.
_SERVER_OPTIONS: Final[Mapping[str, Any]] = {
    "mariadb_engine": "InnoDB",
    "mariadb_default_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_nopad_bin",
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_0900_bin",
}


@dataclass(frozen=True, slots=True)
class FrozenTable:
    """A table as one migration makes it.

    Parameters
    ----------
    name : str
    items : tuple of sqlalchemy.Column or constraint
        In the order in which they are made.
    indexes : mapping of str to tuple of str
        Columns by the index's name.
    """

    name: str
    items: tuple[sa.Column[Any] | sa.Constraint, ...]
    indexes: Mapping[str, tuple[str, ...]]


def exact(length: int) -> sa.types.TypeEngine[str]:
    """Return text that tells apart case, accents, normal forms and trailing blanks."""
    return (
        sa.String(length)
        .with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_nopad_bin"), "mariadb")
        .with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_0900_bin"), "mysql")
    )


def long_text(length: int) -> sa.types.TypeEngine[str]:
    """Return text of up to 16 MiB."""
    return sa.Text(length).with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


def fixed_bytes(length: int) -> sa.types.TypeEngine[bytes]:
    """Return exactly `length` bytes."""
    return sa.LargeBinary(length).with_variant(mysql.BINARY(length), "mysql", "mariadb")


def moment() -> sa.types.TypeEngine[Any]:
    """Return a UTC date and time to the microsecond."""
    return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def create_tables(tables: Iterable[FrozenTable]) -> None:
    """Make the tables and indexes that are missing, in the order given."""
    inspector = sa.inspect(op.get_bind())
    present = set(inspector.get_table_names())
    for table in tables:
        if table.name not in present:
            op.create_table(table.name, *table.items, **_SERVER_OPTIONS)
        there = {index["name"] for index in inspector.get_indexes(table.name)} if table.name in present else set()
        for name, columns in table.indexes.items():
            if name not in there:
                op.create_index(name, table.name, list(columns))


def drop_tables(tables: Iterable[FrozenTable]) -> None:
    """Drop those of the tables that are there, the last first."""
    present = set(sa.inspect(op.get_bind()).get_table_names())
    for table in reversed(list(tables)):
        if table.name in present:
            op.drop_table(table.name)


def insert_missing(name: str, key: str, rows: Iterable[Mapping[str, Any]], types: Mapping[str, Any]) -> None:
    """Insert the rows whose `key` is not there yet."""
    table = sa.table(name, *(sa.column(column, type_) for column, type_ in types.items()))
    connection = op.get_bind()
    there = set(connection.execute(sa.select(table.c[key])).scalars())
    for row in rows:
        if row[key] not in there:
            connection.execute(sa.insert(table).values(**row))


def now() -> float:
    """Return the time that whoever migrates gave, in seconds since the epoch."""
    return float(op.get_context().opts["now"])
