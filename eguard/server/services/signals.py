"""The fleet at a glance: what operators watch, from the database, over a range of time, and what alerts.

Numbers follow the ten signals of the operations manual. One that nobody measures here, such as process trees in a fleet
whose agents have no classifier, is null and named in `not_measured`; a zero always means that something was counted and
there was none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import sqlalchemy as sa

from eguard.clock import Clock
from eguard.errors import ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import (
    audit_log,
    endpoint_agent,
    endpoint_event,
    fleet_generation,
    fleet_health,
    maintenance_run,
)
from eguard.server.services.alerts import alert_views
from eguard.server.services.calibrations import health_of
from eguard.server.services.count_measures import destinations, sums
from eguard.server.services.fleet_measures import AGGREGATION_TASK, changes, drift_alarms
from eguard.server.services.signal_counts import (
    ACCEPTED_ROWS,
    BUCKET_SECONDS,
    KEYS_APPLIED,
    KEYS_ASKED,
    REJECTS,
    ROWS_APPLIED,
    SEEDS_FETCHED,
    STALE_TRANSITIONS,
    TREES_ANOMALOUS,
    TREES_SEEN,
    bucket_of,
)

_UNIT_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400}
_LONGEST_SECONDS: Final = 400 * 86_400
_PARTS: Final = 10
#: What is done to stop something or to go back, as the audit log names it.
_SAFETY_ACTIONS: Final = ("%rollback%", "%kill%", "%.halt")
_POINTS: Final = 200

Counted = Mapping[str, int]


def parse_range(text: str) -> float:
    """Return the seconds of ``30m``, ``24h`` or ``7d``.

    Raises
    ------
    ServerRefusalError
        422: it is none, or longer than anything is kept.

    Examples
    --------
    >>> parse_range("24h")
    86400.0
    """
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    seconds = int(match[1]) * _UNIT_SECONDS[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise ServerRefusalError(
            422, "invalid_range", "range is a number of m, h or d, such as 24h", errors=[("range", text[:32])]
        )
    return float(seconds)


class Signals:
    """What operators watch.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        For the range's end.
    flush : callable
        Writes down what this server counted.
    """

    def __init__(self, database: Database, clock: Clock, flush: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._clock = clock
        self._flush = flush

    def summary(self, range_text: str) -> dict[str, Any]:
        """Return the signals over the range that ends now, and how the alert rules stand."""
        seconds = parse_range(range_text)
        self._flush()
        now = self._clock.now()
        since = now - seconds
        with self._database.read() as connection:
            counted = sums(connection, bucket_of(since), now + BUCKET_SECONDS)
            signals: dict[str, Any] = {
                "baseline_upload": _uploads(connection, counted, since, seconds),
                "fleet_seed": _seeds(counted),
                "aggregation": _aggregation(connection, since),
                "baseline_state": _states(connection),
                "stale_transitions": counted.get(STALE_TRANSITIONS),
                "safety": _safety(connection, since, now),
                "js_divergence": _divergence(connection, since),
                "adwin_alarms": drift_alarms(connection, now, seconds).numbers,
                "conformal_p_values": _p_values(connection, since),
                "calibration": health_of(connection),
                "high_mi_destinations": destinations(connection, now).numbers or None,
                "process_trees": _trees(connection, counted),
                "beacons": _beacons(connection, since),
            }
            return {
                "range": range_text,
                "since_unix": since,
                "until_unix": now,
                **signals,
                "alerts": alert_views(connection),
                "not_measured": sorted(name for name, value in signals.items() if value is None),
            }


def _count(connection: sa.Connection, query: sa.Select[Any]) -> int:
    return int(connection.execute(query.select_from(endpoint_agent)).scalar() or 0)


def _uploads(connection: sa.Connection, counted: Counted, since: float, seconds: float) -> dict[str, Any] | None:
    if not counted:
        return None
    recent = sa.select(sa.func.count()).where(endpoint_agent.c.last_upload_at >= since)
    rows = counted[ACCEPTED_ROWS]
    return {
        "rows_accepted": rows,
        "rows_per_minute": rows / (seconds / 60.0),
        "rejected": counted[REJECTS],
        "agents_uploading": _count(connection, recent),
    }


def _seeds(counted: Counted) -> dict[str, Any] | None:
    if not counted:
        return None
    asked, applied = counted[KEYS_ASKED], counted[KEYS_APPLIED]
    return {
        "rows_fetched": counted[SEEDS_FETCHED],
        "rows_applied": counted[ROWS_APPLIED],
        "keys_asked": asked,
        "keys_applied": applied,
        "hit_rate": applied / asked if asked else None,
    }


def _trees(connection: sa.Connection, counted: Counted) -> dict[str, Any] | None:
    reporting = sa.select(sa.func.count()).where(endpoint_agent.c.trees_seen.is_not(None))
    if not counted or not _count(connection, reporting):
        return None
    seen, anomalous = counted[TREES_SEEN], counted[TREES_ANOMALOUS]
    return {"seen": seen, "anomalous": anomalous, "rate": anomalous / seen if seen else None}


def _aggregation(connection: sa.Connection, since: float) -> dict[str, Any]:
    run, generation = maintenance_run.c, fleet_generation.c
    runs = connection.execute(
        sa.select(run.status, sa.func.count())
        .where(run.task_id == AGGREGATION_TASK, run.started_at >= since)
        .group_by(run.status)
    )
    latest = connection.execute(
        sa.select(generation.generation, generation.computed_at, generation.source, generation.report)
        .order_by(generation.generation.desc())
        .limit(1)
    ).one_or_none()
    described: dict[str, Any] = {"runs": {str(status): int(count) for status, count in runs}, "latest": None}
    if latest is not None:
        report = (latest.report or {}).get("report", {})
        names = ("aggregated", "updated", "skipped", "removed", "duration_ms")
        described["latest"] = {
            "generation": latest.generation,
            "computed_at_unix": latest.computed_at,
            "source": latest.source,
            **{name: report.get(name) for name in names},
        }
    return described


def _states(connection: sa.Connection) -> dict[str, int]:
    agent = endpoint_agent.c
    rows = connection.execute(
        sa.select(agent.baseline_status, sa.func.count())
        .where(agent.status == "active")
        .group_by(agent.baseline_status)
    )
    return {str(status or "unknown"): int(count) for status, count in rows}


def _safety(connection: sa.Connection, since: float, now: float) -> dict[str, Any]:
    log = audit_log.c
    actions = connection.execute(
        sa.select(log.action, sa.func.count())
        .where(log.at >= since, sa.or_(*(log.action.like(each) for each in _SAFETY_ACTIONS)))
        .group_by(log.action)
    )
    counted = {str(action): int(count) for action, count in actions}
    found = changes(connection, now).numbers
    return {"actions": counted, **{name: found[name] for name in ("rollouts", "frozen_rollouts", "changes")}}


def _divergence(connection: sa.Connection, since: float) -> list[dict[str, Any]]:
    health = fleet_health.c
    rows = connection.execute(
        sa.select(
            health.generation,
            health.computed_at,
            health.compared_with,
            health.js_mean,
            health.js_mean_bias,
            health.js_max,
            health.js_max_bias,
        )
        .where(health.computed_at >= since)
        .order_by(health.generation.desc(), health.compared_with)
        .limit(_POINTS)
    )
    return [
        {
            "generation": row.generation,
            "computed_at_unix": row.computed_at,
            "compared_with": row.compared_with,
            "js_mean_nats": row.js_mean,
            "js_mean_bias_nats": row.js_mean_bias,
            "js_max_nats": row.js_max,
            "js_max_bias_nats": row.js_max_bias,
        }
        for row in rows
    ]


def _p_values(connection: sa.Connection, since: float) -> dict[str, Any]:
    event = endpoint_event.c
    # Which tenth it falls into, 1.0 into the last; the same on every dialect.
    tenths = [
        sa.func.sum(sa.case((sa.and_(event.p_value >= part / _PARTS, event.p_value < (part + 1) / _PARTS), 1), else_=0))
        for part in range(_PARTS - 1)
    ]
    counted = connection.execute(
        sa.select(sa.func.count(event.p_value), *tenths).where(event.received_at >= since)
    ).one()
    total, *low = (int(value or 0) for value in counted)
    return {"count": total, "histogram": [*low, total - sum(low)]}


def _beacons(connection: sa.Connection, since: float) -> dict[str, Any]:
    event = endpoint_event.c
    rows = connection.execute(
        sa.select(event.agent_id, sa.func.count())
        .where(event.received_at >= since, event.search_text.like("%beacon to %"))
        .group_by(event.agent_id)
    )
    return {"alerts_by_agent": {str(agent): int(count) for agent, count in rows}}
