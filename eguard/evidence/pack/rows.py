"""Rows of the fleet's database: the statements of manual 12.4 and 8.2, and the history of policies."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from eguard.evidence.database_values import plain
from eguard.evidence.pack.writer import PackWriter
from eguard.evidence.tables import load_table
from eguard.fleet.database import Database

#: Rows of one answer; a larger one is cut, and says so.
MAX_ROWS: Final = 10_000


def collect_rows(pack: PackWriter, database: Database | None) -> None:
    """Ask every statement and write down what was asked and answered."""
    _collect(pack, "sql", "sql_statements", database)
    _collect(pack, "policy", "policy_history", database)


def _collect(pack: PackWriter, name: str, table: str, database: Database | None) -> None:
    with pack.section(name) as section:
        if database is None:
            pack.miss(section, "there is no fleet database on this machine (EGUARD_DATABASE_URL)")
            return
        with database.read() as connection:
            for row in load_table(table):
                pack.add_json(section, row["name"], ask(connection, row["statement"], row.get("title", "")))


def ask(connection: sa.Connection, statement: str, title: str = "") -> dict[str, Any]:
    """Return a statement with its answer: columns, and rows by their names."""
    found = connection.execute(sa.text(statement))
    columns = list(found.keys())
    rows = found.fetchmany(MAX_ROWS + 1)
    answer = {
        "statement": statement.strip(),
        "columns": columns,
        "rows": [dict(zip(columns, map(plain, row), strict=True)) for row in rows[:MAX_ROWS]],
        "is_cut": len(rows) > MAX_ROWS,
    }
    return {"title": title, **answer} if title else answer
