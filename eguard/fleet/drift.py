"""Drift of the fleet's baseline: every generation goes through the detectors once, in order.

A generation is evaluated from what is stored of it: `fleet_health` has the fleet's two series, and the published rows
have those of single keys. So it does not matter who published it or when it is looked at: normally in the transaction
that publishes, so that a generation without its evaluation is never committed; and a generation that something without
detectors published (an aggregation on the database, an earlier version) is caught up with before the next one. The
counter `drift_generation` says up to where that has come, and changes in the same transaction as the detectors' states.

Only aggregations are cycles of the fleet. What an operator publishes, a rollback or an import, is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import sqlalchemy as sa

from eguard.errors import FleetStoreError
from eguard.fleet.alarms import FLEET, Alarm, Raised, has_open_alarm, raise_alarms
from eguard.fleet.charts import PREVIOUS, REFERENCE, Measured, PreviousChart, ReferenceChart
from eguard.fleet.generations import KEEP_GENERATIONS, current_generation, lock_publication, read_published
from eguard.fleet.health import PublishedKey, key_divergences
from eguard.fleet.key_charts import KeyCharts, KeyMeasured, read_key_charts, write_key_charts
from eguard.fleet.tables import fleet_drift_series, fleet_generation, fleet_health, server_counter
from eguard.fleet.upsert import upsert

Chart = ReferenceChart | PreviousChart

_COUNTER: Final = "drift_generation"
_CHARTS: Final[dict[str, type[ReferenceChart | PreviousChart]]] = {
    PREVIOUS: PreviousChart,
    REFERENCE: ReferenceChart,
}
#: Generations whose keys are caught up with: a block of them takes as long as so many aggregations.
_REPLAYED_KEYS: Final = 8


class _Cycle(NamedTuple):
    """One generation to be evaluated: its number, and whether it is a cycle of the fleet."""

    generation: int
    is_aggregate: bool


def evaluate_drift(connection: sa.Connection, now: float) -> list[Alarm]:
    """Put every generation that was not evaluated yet through the detectors, and return the alarms that are new.

    Called again without a new generation it changes nothing. Call it in the write transaction that publishes, after
    the generation was written.
    """
    lock_publication(connection)
    latest, done = current_generation(connection), evaluated_generation(connection)
    if latest <= done:
        return []
    cycles = _cycles(connection, max(done, latest - KEEP_GENERATIONS))
    charts = read_charts(connection)
    keys = read_key_charts(connection)
    raised: list[Alarm] = []
    for cycle in cycles:
        found = list(_fleet_findings(connection, charts, cycle))
        if cycle.generation > latest - _REPLAYED_KEYS:
            found += _key_findings(connection, keys, cycle)
        raised += raise_alarms(connection, found, cycle.generation, now)
    write_charts(connection, charts, latest)
    write_key_charts(connection, keys, latest)
    connection.execute(upsert(server_counter, ["name"]), {"name": _COUNTER, "value": latest})
    return raised


def evaluated_generation(connection: sa.Connection) -> int:
    """Return the last generation that went through the detectors, 0 if none did."""
    query = sa.select(server_counter.c.value).where(server_counter.c.name == _COUNTER)
    return int(connection.execute(query).scalar() or 0)


def calm_charts(connection: sa.Connection) -> None:
    """Have the fleet's charts go on from their last quiet cycle: what came since was an attack."""
    lock_publication(connection)
    charts = read_charts(connection)
    for chart in charts.values():
        chart.calm()
    write_charts(connection, charts, evaluated_generation(connection))


def read_charts(connection: sa.Connection) -> dict[str, Chart]:
    """Return the fleet's charts by what they compare with; new ones where none are stored."""
    series = fleet_drift_series.c
    query = sa.select(series.compared_with, series.state).where(series.series == FLEET)
    stored = {row.compared_with: row.state for row in connection.execute(query)}
    return {name: chart.decode(stored[name]) if name in stored else chart() for name, chart in _CHARTS.items()}


def write_charts(connection: sa.Connection, charts: dict[str, Chart], generation: int) -> None:
    """Store the fleet's charts as they are after a generation."""
    values = [
        {"series": FLEET, "compared_with": name, "generation": generation, "state": chart.encode().decode()}
        for name, chart in sorted(charts.items())
    ]
    connection.execute(upsert(fleet_drift_series, ["series", "compared_with"]), values)


def _cycles(connection: sa.Connection, after: int) -> list[_Cycle]:
    generation = fleet_generation.c
    query = sa.select(generation.generation, generation.source).where(generation.generation > after)
    return [
        _Cycle(row.generation, row.source == "aggregate") for row in connection.execute(query.order_by("generation"))
    ]


def _fleet_findings(connection: sa.Connection, charts: dict[str, Chart], cycle: _Cycle) -> Iterator[Raised]:
    if not cycle.is_aggregate:
        for chart in charts.values():
            chart.pause()
        return
    health = fleet_health.c
    query = sa.select(fleet_health).where(health.generation == cycle.generation).order_by(health.compared_with)
    for row in connection.execute(query).all():
        if row.js_mean is None or row.compared_with not in charts:
            continue
        value = Measured(row.js_mean, row.js_mean_bias, row.other_generation)
        is_suspected = has_open_alarm(connection, FLEET, row.compared_with)
        detail = {
            "other_generation": row.other_generation,
            "js_mean_nats": row.js_mean,
            "js_mean_bias_nats": row.js_mean_bias,
            "js_max_nats": row.js_max,
            "js_max_key": row.js_max_key,
        }
        for finding in charts[row.compared_with].update(value, is_suspected=is_suspected):
            yield Raised(FLEET, row.compared_with, finding, detail)


def _key_findings(connection: sa.Connection, charts: KeyCharts, cycle: _Cycle) -> list[Raised]:
    if not cycle.is_aggregate:
        charts.pause()
        return []
    current = _published(connection, cycle.generation)
    others = _compared_with(connection, cycle.generation)
    measured = {name: _measure(current, _published(connection, other)) for name, other in others.items()}
    nothing = _measure({}, {})
    found = charts.update(cycle.generation, measured.get(PREVIOUS, nothing), measured.get(REFERENCE, nothing))
    return [
        Raised(key, compared_with, finding, {"other_generation": others[compared_with]})
        for key, compared_with, finding in found
    ]


def _compared_with(connection: sa.Connection, generation: int) -> dict[str, int]:
    health = fleet_health.c
    query = sa.select(health.compared_with, health.other_generation).where(health.generation == generation)
    return {row.compared_with: row.other_generation for row in connection.execute(query)}


def _published(connection: sa.Connection, generation: int) -> dict[str, PublishedKey]:
    """Return the keys of a generation; none if its rows are not kept any more."""
    try:
        return read_published(connection, generation)
    except FleetStoreError:
        return {}


def _measure(current: dict[str, PublishedKey], other: dict[str, PublishedKey]) -> KeyMeasured:
    keys, divergence, bias = key_divergences(current, other)
    agents = np.array([min(current[key].agent_count, other[key].agent_count) for key in keys], dtype=np.int64)
    return KeyMeasured(keys, divergence, bias, agents)


def describe_drift(connection: sa.Connection) -> dict[str, Any]:
    """Return where the fleet's charts stand, by what they compare with."""
    return {name: chart.to_dict() for name, chart in read_charts(connection).items()}
