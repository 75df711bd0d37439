"""What migrations are written with: column types as they are today, and tables made only where they are missing.

A migration must make the same tables in years to come, so these types are copies and not those of
`eguard.fleet.tables`. SQLite runs a migration as one transaction. A server commits every statement for itself; a
migration that was killed there is run again from its start, so each step first looks whether it was done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect

#: Text that is not an exact type of its own compares byte by byte too: on a server as in SQLite.
_SERVER_OPTIONS: Final[Mapping[str, Any]] = {
    "mariadb_engine": "InnoDB",
    "mariadb_default_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_nopad_bin",
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_0900_bin",
}


_WRITTEN: Final[dict[tuple[tuple[FrozenTable, ...], str], list[tuple[str, str, dict[str, str]]]]] = {}


@dataclass(frozen=True, slots=True, eq=False)
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


def long_bytes() -> sa.types.TypeEngine[bytes]:
    """Return up to 16 MiB of bytes."""
    return sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")


def fixed_bytes(length: int) -> sa.types.TypeEngine[bytes]:
    """Return exactly `length` bytes."""
    return sa.LargeBinary(length).with_variant(mysql.BINARY(length), "mysql", "mariadb")


def moment() -> sa.types.TypeEngine[Any]:
    """Return a UTC date and time to the microsecond."""
    return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def create_tables(tables: tuple[FrozenTable, ...]) -> None:
    """Make the tables and indexes that are missing, in the order given."""
    inspector = sa.inspect(op.get_bind())
    present = set(inspector.get_table_names())
    for name, text, indexes in _statements(tables, op.get_bind().dialect):
        if name not in present:
            op.execute(text)
        there = {index["name"] for index in inspector.get_indexes(name)} if name in present else set()
        for index, index_text in indexes.items():
            if index not in there:
                op.execute(index_text)


def _statements(tables: tuple[FrozenTable, ...], dialect: Dialect) -> list[tuple[str, str, dict[str, str]]]:
    """Return each table's name, its statement, and its indexes' statements by name; written once a process."""
    key = tables, dialect.name
    if key not in _WRITTEN:
        _WRITTEN[key] = [
            (
                table.name,
                str(sa.schema.CreateTable(table).compile(dialect=dialect)),
                {
                    str(index.name): str(sa.schema.CreateIndex(index).compile(dialect=dialect))
                    for index in sorted(table.indexes, key=lambda index: str(index.name))
                },
            )
            for table in _toolkit_tables(tables)
        ]
    return _WRITTEN[key]


@cache
def _toolkit_tables(tables: tuple[FrozenTable, ...]) -> list[sa.Table]:
    """Return the tables as the toolkit's; once, since a column belongs to one table for good."""
    together = sa.MetaData()
    made = []
    for table in tables:
        made.append(sa.Table(table.name, together, *table.items, **_SERVER_OPTIONS))
        for name, columns in table.indexes.items():
            sa.Index(name, *(made[-1].c[column] for column in columns))
    return made


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
