"""Which form a database's tables have: asked without the migration tool, which a server that is current never needs."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

#: What this version works with: the latest step of `eguard.fleet.migrations`.
HEAD_REVISION: Final = "0001"

_NAME: Final = "alembic_version"
_STORED: Final = sa.select(sa.table(_NAME, sa.column("version_num", sa.String)).c.version_num)


def stored_revision(connection: sa.Connection) -> str | None:
    """Return the revision of a database, None if it was never migrated."""
    if not sa.inspect(connection).has_table(_NAME):
        return None
    found = connection.execute(_STORED).scalar()
    return None if found is None else str(found)
