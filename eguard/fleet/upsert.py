"""Insert a row, or change the one that is there: one statement for every dialect.

SQLite says ``ON CONFLICT ... DO UPDATE``, MariaDB and MySQL say ``ON DUPLICATE KEY UPDATE``. The second has no WHERE,
so a guard becomes a condition on every column, and it assigns from left to right: conditions see a column that is
assigned already with its new value. Columns of the guard therefore come last, the least significant first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal


class _Conflict(NamedTuple):
    keys: tuple[str, ...]
    update: tuple[str, ...] | None
    guard: tuple[str, ...]


class Upsert(sa.Insert):
    """An INSERT that says what becomes of a row whose key is taken."""

    _traverse_internals = [  # noqa: RUF012 - the toolkit's own name and form
        *sa.Insert._traverse_internals,  # noqa: SLF001 - by these it finds its compiled form again
        ("conflict", InternalTraversal.dp_plain_obj),
    ]

    def __init__(self, table: sa.Table, conflict: _Conflict) -> None:
        super().__init__(table)
        self.conflict = conflict


def upsert(
    table: sa.Table, keys: Sequence[str], update: Sequence[str] | None = None, guard: Sequence[str] = ()
) -> Upsert:
    """Return an INSERT for `table` that changes the row which has the same `keys` already.

    Parameters
    ----------
    table : sqlalchemy.Table
    keys : sequence of str
        Columns of the primary key or of one unique index. On MariaDB and MySQL a conflict on any other unique index
        counts as well.
    update : sequence of str, optional
        Columns to change. By default all that the statement is given a value for, except `keys`. Empty: a row that is
        there stays as it is.
    guard : sequence of str, optional
        Columns, most significant first, that must not be NULL. A row is changed only if these rise when compared one
        after the other, and then all of `update` is changed; else nothing is.

    Returns
    -------
    Upsert
        To be executed like any INSERT, with one row or with many. Its count of affected rows means something else on
        every dialect.

    Raises
    ------
    ValueError
        A column is named that the table does not have, or one of `guard` may be NULL or is not changed.

    Examples
    --------
    >>> from sqlalchemy.dialects import mysql, sqlite
    >>> seen = sa.Table("seen", sa.MetaData(), sa.Column("host", sa.Text, primary_key=True),
    ...                 sa.Column("at", sa.Integer, nullable=False), sa.Column("address", sa.Text))
    >>> statement = upsert(seen, ["host"], guard=["at"])
    >>> print(statement.compile(dialect=sqlite.dialect()))
    INSERT INTO seen (host, at, address) VALUES (?, ?, ?) ON CONFLICT (host) DO UPDATE \
SET address = excluded.address, at = excluded.at WHERE excluded.at > seen.at
    >>> print(statement.compile(dialect=mysql.dialect()))
    INSERT INTO seen (host, at, address) VALUES (%s, %s, %s) ON DUPLICATE KEY UPDATE \
address = IF(VALUES(at) > seen.at, VALUES(address), seen.address), at = IF(VALUES(at) > seen.at, VALUES(at), seen.at)
    """
    conflict = _Conflict(tuple(keys), None if update is None else tuple(update), tuple(guard))
    unknown = {*conflict.keys, *(conflict.update or ()), *conflict.guard} - set(table.c.keys())
    if unknown or not keys:
        raise ValueError(f"{table.name}: no such columns: {', '.join(sorted(unknown)) or 'keys must name one'}")
    for name in conflict.guard:
        if table.c[name].nullable or name in conflict.keys or (update is not None and name not in update):
            raise ValueError(f"{table.name}.{name} cannot guard: it must be NOT NULL, no key, and updated")
    return Upsert(table, conflict)


@compiles(Upsert, "sqlite")
def _for_sqlite(statement: Upsert, compiler: Any, **options: Any) -> str:
    keys = ", ".join(compiler.preparer.quote(name) for name in statement.conflict.keys)
    insert = f"{compiler.visit_insert(statement, **options)} ON CONFLICT ({keys})"
    names = _assigned(statement, compiler)
    if not names:
        return f"{insert} DO NOTHING"
    quoted = [compiler.preparer.quote(name) for name in names]
    changes = ", ".join(f"{name} = excluded.{name}" for name in quoted)
    rises = _rises(statement, compiler, "excluded.{}")
    return f"{insert} DO UPDATE SET {changes}" + (f" WHERE {rises}" if rises else "")


@compiles(Upsert, "mysql", "mariadb")
def _for_mysql(statement: Upsert, compiler: Any, **options: Any) -> str:
    insert = f"{compiler.visit_insert(statement, **options)} ON DUPLICATE KEY UPDATE"
    table = compiler.preparer.quote(statement.table.name)
    # To assign a key to itself is how this dialect says DO NOTHING; INSERT IGNORE would forgive every other error too.
    names = _assigned(statement, compiler)
    if not names:
        key = compiler.preparer.quote(statement.conflict.keys[0])
        return f"{insert} {key} = {table}.{key}"
    quoted = [compiler.preparer.quote(name) for name in names]
    rises = _rises(statement, compiler, "VALUES({})")
    if not rises:
        return f"{insert} " + ", ".join(f"{name} = VALUES({name})" for name in quoted)
    return f"{insert} " + ", ".join(f"{name} = IF({rises}, VALUES({name}), {table}.{name})" for name in quoted)


def _assigned(statement: Upsert, compiler: SQLCompiler) -> list[str]:
    """Return the columns to change in the order of their assignment."""
    conflict = statement.conflict
    names: Sequence[str] = conflict.update if conflict.update is not None else _given(statement, compiler)
    assigned = [name for name in names if name not in conflict.keys and name not in conflict.guard]
    return [*assigned, *reversed(conflict.guard)]


def _given(statement: Upsert, compiler: SQLCompiler) -> list[str]:
    """Return the columns that the statement has values for, in the table's order."""
    given = set(compiler.column_keys or ())
    for value in (statement._values, *(statement._multi_values or ())):  # noqa: SLF001 - no public way to ask
        for row in value if isinstance(value, list) else [value or {}]:
            given |= {getattr(column, "key", column) for column in row}
    return [name for name in list(statement.table.c.keys()) if not given or name in given]


def _rises(statement: Upsert, compiler: SQLCompiler, new: str) -> str:
    """Return the condition that the guard's columns rise, empty without a guard."""
    quoted = [compiler.preparer.quote(name) for name in statement.conflict.guard]
    table = compiler.preparer.quote(statement.table.name)
    incoming, held = [new.format(name) for name in quoted], [f"{table}.{name}" for name in quoted]
    if len(quoted) > 1:
        return f"({', '.join(incoming)}) > ({', '.join(held)})"
    return f"{incoming[0]} > {held[0]}" if quoted else ""
