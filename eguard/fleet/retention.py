"""What is older than it is to be kept goes, in small transactions that hold nobody up.

Times that count are the server's own: an agent with a wrong clock neither keeps its alerts for ever nor has them
removed at once. Verdicts of analysts stay for ever. The audit log is not touched: a chain that loses its beginning must
say so in a record of its own, which is the work of whoever writes the chain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from eguard.detection.confidence import Confidence
from eguard.fleet.database import Database
from eguard.fleet.tables import (
    calibration_sample,
    endpoint_baseline,
    endpoint_event,
    fleet_health,
    incident,
    maintenance_run,
    notification,
    signal_count,
)

Progress = Callable[[str, int, int], None]

#: Rows that one transaction removes at most.
BATCH_ROWS: Final = 500
#: Severities that are kept as alerts; what is lower is kept as events.
ALERT_SEVERITIES: Final = tuple(step.name.lower() for step in Confidence if step >= Confidence.HIGH)

_DAY_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long rows are kept, in days.

    Parameters
    ----------
    events_days : float
        Events, and alerts below `ALERT_SEVERITIES`, since the server received them; what servers counted.
    alerts_days : float
        Alerts, since the server received them, incidents since their last alert, and messages to operators.
    health_days : float
        Fleet health and the runs of maintenance tasks.
    calibration_days : float
        Calibration samples.
    """

    events_days: float = 30.0
    alerts_days: float = 180.0
    health_days: float = 400.0
    calibration_days: float = 30.0


class _Sweep(NamedTuple):
    """What is removed from one table: rows whose `time` is before `cutoff`, if `also` holds."""

    name: str
    time: sa.Column[float]
    cutoff: float
    also: sa.ColumnElement[bool]


def purge(
    database: Database, now: float, retention: Retention | None = None, progress: Progress | None = None
) -> dict[str, int]:
    """Remove what is older than `retention` allows, and baselines that were not updated for 30 days.

    Parameters
    ----------
    database : Database
    now : float
        Seconds since the epoch.
    retention : Retention, optional
    progress : callable, optional
        Called after each transaction with what is swept, how many kinds are done, and how many there are. If it raises,
        what was removed so far stays removed.

    Returns
    -------
    dict of str to int
        Rows removed, by kind: ``alerts``, ``baselines``, ``calibration``, ``events``, ``health``, ``incidents``,
        ``maintenance``, ``notifications``, ``signals``.

    Raises
    ------
    FleetStoreError
        The database refused.
    """
    sweeps = _sweeps(now, retention or Retention())
    removed = {}
    for done, sweep in enumerate(sweeps):
        removed[sweep.name] = 0
        after: float | None = None
        while True:
            count, after = _remove_batch(database, sweep, after)
            removed[sweep.name] += count
            if progress is not None:
                progress(sweep.name, done, len(sweeps))
            if after is None:
                break
    return removed


def purge_baselines(database: Database, now: float) -> int:
    """Remove baselines that were not updated for 30 days and return how many those were."""
    removed = 0
    after: float | None = None
    while True:
        count, after = _remove_batch(database, _expired_baselines(now), after)
        removed += count
        if after is None:
            return removed


def _expired_baselines(now: float) -> _Sweep:
    return _Sweep("baselines", endpoint_baseline.c.expires_at, now, sa.true())


def _sweeps(now: float, retention: Retention) -> list[_Sweep]:
    events, alerts, health, calibration = (
        now - days * _DAY_SECONDS
        for days in (
            retention.events_days,
            retention.alerts_days,
            retention.health_days,
            retention.calibration_days,
        )
    )
    event = endpoint_event.c
    is_alert = event.severity.in_(ALERT_SEVERITIES)
    return [
        _Sweep("alerts", event.received_at, alerts, is_alert),
        _expired_baselines(now),
        _Sweep("calibration", calibration_sample.c.received_at, calibration, sa.true()),
        _Sweep("events", event.received_at, events, sa.not_(is_alert)),
        _Sweep("health", fleet_health.c.computed_at, health, sa.true()),
        _Sweep("incidents", incident.c.last_at, alerts, sa.true()),
        _Sweep("maintenance", maintenance_run.c.started_at, health, sa.true()),
        _Sweep("notifications", notification.c.created_at, alerts, sa.true()),
        _Sweep("signals", signal_count.c.bucket_at, events, sa.true()),
    ]


def _one_of(key: list[sa.Column[Any]], values: list[tuple[Any, ...]]) -> sa.ColumnElement[bool]:
    if len(key) == 1:
        return key[0].in_([value for (value,) in values])
    return sa.tuple_(*key).in_(values)


def _remove_batch(database: Database, sweep: _Sweep, after: float | None) -> tuple[int, float | None]:
    """Remove the oldest rows in one transaction; return their number and the time to go on from, None at the end.

    To begin where the last batch ended spares looking again at the rows before that are to stay.
    """
    table = sweep.time.table
    is_old = sa.and_(sweep.time <= sweep.cutoff, sweep.also)
    if after is not None:
        is_old = sa.and_(is_old, sweep.time >= after)
    key = list(table.primary_key.columns)
    query = sa.select(*key, sweep.time.label("at")).where(is_old).order_by(sweep.time, *key).limit(BATCH_ROWS)

    def remove(connection: sa.Connection) -> tuple[int, float | None]:
        rows = connection.execute(query).all()
        if not rows:
            return 0, None
        chosen = _one_of(key, [tuple(row[:-1]) for row in rows])
        # The condition again: a server may have renewed a row since it was chosen.
        count = connection.execute(sa.delete(table).where(chosen, is_old)).rowcount
        return int(count), rows[-1].at if len(rows) == BATCH_ROWS else None

    return database.retrying(remove, is_idempotent=True)
