"""Rows as people and programs read them: times say their unit, hashes stay inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from eguard.fleet.tables import UtcTime

_HIDDEN: Final = frozenset({"token_hash", "password_hash", "session_hash", "csrf_token"})


def row_view(row: Mapping[str, Any] | sa.RowMapping, *tables: sa.Table) -> dict[str, Any]:
    """Return a row of `tables` without what lets anybody in, its times named after their unit.

    Examples
    --------
    >>> from eguard.fleet.tables import access_token
    >>> row_view({"token_id": "ab", "token_hash": "…", "created_at": 1.0}, access_token)
    {'token_id': 'ab', 'created_at_unix': 1.0}
    """
    times = {column.name for table in tables for column in table.c if isinstance(column.type, UtcTime)}
    values = {str(name): value for name, value in row.items()}
    return {f"{name}_unix" if name in times else name: values[name] for name in values if name not in _HIDDEN}
