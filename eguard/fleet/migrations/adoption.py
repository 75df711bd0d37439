"""Databases from before there were migrations: their rows move into the tables of the first one.

Such a database has the table ``fleet_schema_version`` and is a SQLite file. Its tables have the present ones' names and
some of their columns. They are put aside, the new tables are made, and the rows are copied over.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

from eguard.errors import FleetStoreError

#: Table by which such a database is known.
EARLIER_MARK: Final = "fleet_schema_version"
_REVISION_TABLE: Final = "alembic_version"
_KNOWN: Final = (1, 2)
_ASIDE: Final = "earlier_"
#: Every table that such a database may hold, those that others refer to first.
_TABLES: Final[tuple[str, ...]] = (
    "endpoint_agent",
    "endpoint_incarnation",
    "endpoint_baseline",
    "fleet_baseline",
    "fleet_baseline_history",
    "fleet_generation",
    "fleet_health",
)


def set_aside() -> list[str]:
    """Rename the tables of the earlier form, if this is such a database, and return their names.

    Raises
    ------
    FleetStoreError
        It has a form that no released version made, or rows in tables that only a server fills.
    """
    inspector = sa.inspect(op.get_bind())
    present = set(inspector.get_table_names())
    if EARLIER_MARK not in present:
        return []
    version = op.get_bind().exec_driver_sql(f"SELECT MAX(version) FROM {EARLIER_MARK}").scalar()  # noqa: S608 - own name
    if version not in _KNOWN:
        raise FleetStoreError(
            f"the database has the earlier form {version}, and this version takes over {_KNOWN[0]} to {_KNOWN[-1]}",
            remedy="Install the version of eGuard that made the database, or a later one.",
            reason="schema_version",
            found=version,
        )
    for name in sorted(present - {EARLIER_MARK, _REVISION_TABLE}):
        if name not in _TABLES:
            _drop_if_empty(name)
    earlier = [name for name in _TABLES if name in present]
    for name in earlier:
        for index in inspector.get_indexes(name):
            op.drop_index(str(index["name"]))
        op.rename_table(name, _ASIDE + name)
    op.drop_table(EARLIER_MARK)
    return earlier


def restore_rows(earlier: list[str]) -> None:
    """Copy what the earlier tables hold, column by column of the same name, and drop them."""
    inspector = sa.inspect(op.get_bind())
    for name in earlier:
        new = {column["name"] for column in inspector.get_columns(name)}
        shared = [column["name"] for column in inspector.get_columns(_ASIDE + name) if column["name"] in new]
        columns = ", ".join(f'"{column}"' for column in shared)
        op.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {_ASIDE}{name}")  # noqa: S608 - own names
    for name in reversed(earlier):
        op.drop_table(_ASIDE + name)


def _drop_if_empty(name: str) -> None:
    rows = op.get_bind().exec_driver_sql(f'SELECT COUNT(*) FROM "{name}"').scalar_one()  # noqa: S608 - the inspector's
    if rows:
        raise FleetStoreError(
            f"the database has the earlier form, and {rows} rows in {name} that cannot be taken over",
            remedy="Move the database away and let eGuard make a new one; agents upload their baselines again.",
            reason="schema_version",
            found=name,
        )
    op.drop_table(name)
