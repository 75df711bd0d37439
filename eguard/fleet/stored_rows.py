"""Which rows of the database stand in the way of rows that come: those that are not older."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple

import sqlalchemy as sa

from eguard.fleet.bulk import pieces

_LOOKUP_KEYS: Final = 400
_COLUMNS: Final = "incarnation_ordinal, seq, sample_count, distribution_vector"

#: Per process key the lowest (incarnation ordinal, seq) that comes.
Lowest = Mapping[str, tuple[int, int]]


class StoredRow(NamedTuple):
    """What of a stored row is compared: its age, the events behind it, its distribution as it is stored."""

    ordinal: int
    seq: int
    sample_count: int
    vector: bytes


def find_in_the_way(connection: sa.Connection, coming: Mapping[str, Lowest]) -> dict[str, dict[str, StoredRow]]:
    """Return stored rows by agent and process key; those that are older than what comes may be left out.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    coming : mapping of str to mapping
        By agent and process key the lowest (incarnation ordinal, seq) that comes.

    Returns
    -------
    dict
        An entry for every agent of `coming`.
    """
    if connection.dialect.name == "sqlite":
        return _compared_by_sqlite(connection, coming)
    return {agent_id: _all_held(connection, agent_id, list(lowest)) for agent_id, lowest in coming.items()}


def _compared_by_sqlite(connection: sa.Connection, coming: Mapping[str, Lowest]) -> dict[str, dict[str, StoredRow]]:
    """Have SQLite compare: a fresh upload's rows are all newer, and each that it returned would cost a hand-over."""
    found: dict[str, dict[str, StoredRow]] = {agent_id: {} for agent_id in coming}
    values = [(agent_id, key, *age) for agent_id, lowest in coming.items() for key, age in lowest.items()]
    for piece in pieces(values):
        rows = connection.exec_driver_sql(_comparison(len(piece)), tuple(chain.from_iterable(piece)))
        for agent_id, key, *held in rows.all():
            found[agent_id][key] = StoredRow(*held)
    return found


@lru_cache(maxsize=32)
def _comparison(rows: int) -> str:
    # Only marks are put in; the values travel beside the text. CROSS JOIN keeps SQLite from looping over the table.
    return (
        f"WITH coming (agent_id, process_key, ordinal, seq) AS (VALUES {', '.join(['(?, ?, ?, ?)'] * rows)}) "  # noqa: S608
        f"SELECT agent_id, process_key, {', '.join(f'held.{name}' for name in _COLUMNS.split(', '))} FROM coming "
        "CROSS JOIN endpoint_baseline AS held USING (agent_id, process_key) "
        "WHERE (held.incarnation_ordinal, held.seq) >= (coming.ordinal, coming.seq)"
    )


def _all_held(connection: sa.Connection, agent_id: str, keys: list[str]) -> dict[str, StoredRow]:
    found: dict[str, StoredRow] = {}
    for start in range(0, len(keys), _LOOKUP_KEYS):
        part = keys[start : start + _LOOKUP_KEYS]
        rows = connection.exec_driver_sql(_lookup(len(part)), (agent_id, *part)).all()
        found.update((row[0], StoredRow(*row[1:])) for row in rows)
    return found


@lru_cache(maxsize=2 * _LOOKUP_KEYS)
def _lookup(keys: int) -> str:
    """Return the text of the lookup: making it anew for every upload would cost as much as running it."""
    marks = ", ".join(["%s"] * keys)
    return f"SELECT process_key, {_COLUMNS} FROM endpoint_baseline WHERE agent_id = %s AND process_key IN ({marks})"  # noqa: S608
