"""Generations of fleet seeds: published whole, kept for a while, gone back to by publishing anew.

Readers see one generation or the next, never a mixture: a generation, its health rows and the move of its predecessor
into the history are one transaction. Numbers only rise. Going back to an earlier generation publishes its rows under a
new number, so that no agent ever has to accept a lower one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import sqlalchemy as sa

from eguard.errors import FleetStoreError
from eguard.fleet.health import HealthComparison, PublishedKey, compare_generations
from eguard.fleet.tables import fleet_baseline, fleet_baseline_history, fleet_generation, fleet_health, server_counter
from eguard.wire.distribution import vector_from_distribution
from eguard.wire.fleet import FleetRow, ImportSource, Source

#: Generations kept besides the current and the pinned one: 30 days of four cycles a day.
KEEP_GENERATIONS: Final = 120

#: Row of `server_counter` with the number of the latest generation.
_COUNTER: Final = "fleet_generation"
_KEYS_A_QUERY: Final = 500
_HISTORY_COLUMNS: Final = [column.name for column in fleet_baseline_history.c]


def current_generation(connection: sa.Connection) -> int:
    """Return the number of the latest generation, 0 before the first."""
    return int(connection.execute(sa.select(sa.func.max(fleet_generation.c.generation))).scalar() or 0)


def reference_generation(connection: sa.Connection) -> int:
    """Return the number of the pinned generation, 0 if none is."""
    query = sa.select(fleet_generation.c.generation).where(fleet_generation.c.is_reference)
    return int(connection.execute(query).scalar() or 0)


def read_rows(
    connection: sa.Connection, generation: int | None = None, limit: int | None = None, cursor: str = ""
) -> list[FleetRow]:
    """Return published rows in key order, those after `cursor`, at most `limit`.

    Raises
    ------
    FleetStoreError
        There is no such generation, or its rows are no longer kept.
    """
    table, condition = _table_of(connection, generation)
    query = (
        sa.select(
            table.c.process_key,
            table.c.median_distribution,
            table.c.agent_count,
            table.c.stddev_kl,
            table.c.tolerated_faults,
            table.c.source,
        )
        .where(condition, table.c.process_key > cursor)
        .order_by(table.c.process_key)
        .limit(limit)
    )
    return [FleetRow(**row) for row in connection.execute(query).mappings()]


def read_details(connection: sa.Connection, generation: int | None = None) -> list[dict[str, Any]]:
    """Return every column of the published rows of a generation, in key order.

    Raises
    ------
    FleetStoreError
        There is no such generation, or its rows are no longer kept.
    """
    table, condition = _table_of(connection, generation)
    query = sa.select(table).where(condition).order_by(table.c.process_key)
    return [dict(row) for row in connection.execute(query).mappings()]


def read_health(connection: sa.Connection, limit: int | None = None) -> list[dict[str, Any]]:
    """Return the columns of `fleet_health`, latest generation first, two rows a generation."""
    query = (
        sa.select(fleet_health).order_by(fleet_health.c.generation.desc(), fleet_health.c.compared_with).limit(limit)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def read_published(connection: sa.Connection, generation: int) -> dict[str, PublishedKey]:
    """Return what health compares: distribution, agents and events of every key of a generation."""
    if generation == 0:
        return {}
    table, condition = _table_of(connection, generation)
    query = sa.select(
        table.c.process_key, table.c.median_distribution, table.c.agent_count, table.c.voter_samples
    ).where(condition)
    return {
        key: PublishedKey(vector_from_distribution(distribution), agents, samples)
        for key, distribution, agents, samples in connection.execute(query)
    }


def lock_publication(connection: sa.Connection) -> None:
    """Let nobody else publish or pin until this write transaction ends; call it before anything is read for it.

    On SQLite the transaction is alone anyway. Servers that share a database take turns at this row.
    """
    row = server_counter.c.name == _COUNTER
    connection.execute(sa.select(server_counter.c.value).where(row).with_for_update()).all()


def publish(
    connection: sa.Connection,
    rows: Sequence[Mapping[str, Any]],
    comparisons: Iterable[HealthComparison],
    *,
    computed_at: float,
    source: Source,
    source_version: str | None = None,
    report: Mapping[str, Any] | None = None,
    replaced: Collection[str] | None = None,
) -> int:
    """Make `rows` the current generation and return its number.

    `rows` hold the columns of `fleet_baseline` without generation, computed_at, source and source_version. They take
    the place of the keys `replaced`, and of all keys if that is None; rows of other keys go over into the new
    generation as they are. The first generation with rows becomes the reference until an operator pins another.
    """
    generation = current_generation(connection) + 1
    stamp = {
        "generation": generation,
        "computed_at": computed_at,
        "source": source,
        "source_version": source_version,
    }
    connection.execute(
        sa.insert(fleet_baseline_history).from_select(
            _HISTORY_COLUMNS, sa.select(*(fleet_baseline.c[name] for name in _HISTORY_COLUMNS))
        )
    )
    _remove(connection, replaced)
    connection.execute(sa.update(fleet_baseline).values(stamp))
    if rows:
        connection.execute(sa.insert(fleet_baseline), [{**row, **stamp} for row in rows])
    key_count = int(connection.execute(sa.select(sa.func.count()).select_from(fleet_baseline)).scalar_one())
    connection.execute(
        sa.insert(fleet_generation).values(
            **stamp,
            key_count=key_count,
            is_reference=key_count > 0 and reference_generation(connection) == 0,
            is_pruned=False,
            report=report,
        )
    )
    row = server_counter.c.name == _COUNTER
    connection.execute(sa.update(server_counter).where(row).values(value=generation))
    for comparison in comparisons:
        connection.execute(sa.insert(fleet_health).values(_health_values(generation, computed_at, comparison)))
    _prune(connection, generation)
    return generation


def _remove(connection: sa.Connection, keys: Collection[str] | None) -> None:
    """Remove rows of the current generation, all of them if `keys` is None."""
    if keys is None:
        connection.execute(sa.delete(fleet_baseline))
        return
    ordered = sorted(keys)
    for start in range(0, len(ordered), _KEYS_A_QUERY):
        chosen = fleet_baseline.c.process_key.in_(ordered[start : start + _KEYS_A_QUERY])
        connection.execute(sa.delete(fleet_baseline).where(chosen))


def pin_reference(connection: sa.Connection, generation: int) -> None:
    """Make `generation` the one that later ones are compared with.

    Raises
    ------
    FleetStoreError
        There is no such generation, or its rows are no longer kept.
    """
    lock_publication(connection)
    _table_of(connection, generation)
    connection.execute(sa.update(fleet_generation).values(is_reference=fleet_generation.c.generation == generation))


def compare_with_earlier(connection: sa.Connection, current: Mapping[str, PublishedKey]) -> list[HealthComparison]:
    """Compare keys about to be published with the current generation and with the pinned one."""
    comparisons = []
    for name, generation in (
        ("previous", current_generation(connection)),
        ("reference", reference_generation(connection)),
    ):
        if generation:
            other = read_published(connection, generation)
            comparisons.append(compare_generations(name, generation, current, other))
    return comparisons


def roll_back(connection: sa.Connection, generation: int, now: float) -> int:
    """Publish the rows of an earlier generation again, under a new number, and return it.

    Raises
    ------
    FleetStoreError
        There is no such generation, or its rows are no longer kept.
    """
    lock_publication(connection)
    table, condition = _table_of(connection, generation)
    rows = [dict(row) for row in connection.execute(sa.select(table).where(condition)).mappings()]
    comparisons = compare_with_earlier(connection, read_published(connection, generation))
    return publish(
        connection,
        rows,
        comparisons,
        computed_at=now,
        source="rollback",
        source_version=str(generation),
        report={"origin": origin_of(connection, generation)},
    )


def origin_of(connection: sa.Connection, generation: int) -> dict[str, Any]:
    """Return where the rows of a generation came from in the first place, however often they were gone back to."""
    column = fleet_generation.c
    query = sa.select(column.source, column.source_version, column.report).where(column.generation == generation)
    found = connection.execute(query).one()
    if found.source == "rollback" and found.report and "origin" in found.report:
        return dict(found.report["origin"])
    return {"generation": generation, "source": found.source, "source_version": found.source_version}


def import_rows(
    connection: sa.Connection,
    rows: Sequence[FleetRow],
    source_version: str,
    now: float,
    source: ImportSource = "import",
) -> int:
    """Publish rows of an operator's own as a new generation and return its number.

    Raises
    ------
    FleetStoreError
        A key comes twice.
    """
    values = {row.process_key: _imported(row) for row in rows}
    if len(values) != len(rows):
        raise FleetStoreError("a process key comes twice", remedy="Send every key once.", reason="invalid_import")
    published = {
        key: PublishedKey(vector_from_distribution(item["median_distribution"]), item["agent_count"], 0)
        for key, item in values.items()
    }
    comparisons = compare_with_earlier(connection, published)
    ordered = [values[key] for key in sorted(values)]
    return publish(connection, ordered, comparisons, computed_at=now, source=source, source_version=source_version)


def _imported(row: FleetRow) -> dict[str, Any]:
    # What voters there were elsewhere is not known here: the row says how many, and nothing of their events.
    return {
        "process_key": row.process_key,
        "median_distribution": row.median_distribution,
        "agent_count": row.agent_count,
        "voter_samples": 0,
        "stddev_kl": row.stddev_kl,
        "pre_norm_mass": 1.0,
        "tolerated_faults": row.tolerated_faults,
        "continuous": None,
    }


def _table_of(connection: sa.Connection, generation: int | None) -> tuple[sa.Table, sa.ColumnElement[bool]]:
    """Return where the rows of a generation are, and the condition that selects them."""
    if generation is None or generation == current_generation(connection):
        return fleet_baseline, sa.true()
    query = sa.select(fleet_generation.c.is_pruned).where(fleet_generation.c.generation == generation)
    is_pruned = connection.execute(query).scalar()
    if is_pruned is None or is_pruned:
        raise FleetStoreError(
            f"there is no generation {generation}" if is_pruned is None else f"generation {generation} is not kept",
            remedy=f"The latest {KEEP_GENERATIONS} generations and the pinned one are kept.",
            reason="unknown_generation" if is_pruned is None else "pruned_generation",
            generation=generation,
        )
    return fleet_baseline_history, fleet_baseline_history.c.generation == generation


def _prune(connection: sa.Connection, generation: int) -> None:
    old = sa.and_(
        fleet_generation.c.generation < generation - KEEP_GENERATIONS,
        sa.not_(fleet_generation.c.is_reference),
        sa.not_(fleet_generation.c.is_pruned),
    )
    numbers = list(connection.execute(sa.select(fleet_generation.c.generation).where(old)).scalars())
    if numbers:
        connection.execute(sa.delete(fleet_baseline_history).where(fleet_baseline_history.c.generation.in_(numbers)))
        connection.execute(sa.update(fleet_generation).where(old).values(is_pruned=True))


def _health_values(generation: int, computed_at: float, comparison: HealthComparison) -> dict[str, Any]:
    values = {name.removesuffix("_nats"): value for name, value in asdict(comparison).items()}
    return {"generation": generation, "computed_at": computed_at, **values}
