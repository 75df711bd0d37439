"""Signals of what the server did: aggregations, rollouts and what was changed under them, drift."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from eguard.fleet.tables import (
    fleet_alarm,
    fleet_generation,
    fleet_health,
    maintenance_run,
    policy,
    policy_assignment,
    rollout,
)
from eguard.server.services import alert_rules as rules
from eguard.server.services.alert_rules import Verdict
from eguard.server.services.cohorts import governed_agents, populate, shares
from eguard.server.services.policy_state import load_state
from eguard.server.services.policy_writes import is_switched_off, latest_policy

AGGREGATION_TASK: Final = "fleet_aggregate"
DAY_SECONDS: Final = 86_400.0
ADWIN_KINDS: Final = ("adwin", "rank_adwin")
_FAILED: Final = ("failed", "lost")
#: Runs that are looked at for failures in a row, changes that are named.
_LATEST: Final = 20

_run = maintenance_run.c
_generation = fleet_generation.c
_health = fleet_health.c


def aggregations(connection: sa.Connection, now: float) -> Verdict:
    """Measure aggregations: how many runs in a row have failed since a generation was last published."""
    ended = sa.select(_run.status, _run.started_at).where(_run.task_id == AGGREGATION_TASK, _run.status != "running")
    latest = connection.execute(ended.order_by(_run.started_at.desc(), _run.run_id.desc()).limit(_LATEST)).all()
    newest = connection.execute(
        sa.select(_generation.generation, _generation.computed_at, _generation.report)
        .where(_generation.source == "aggregate")
        .order_by(_generation.generation.desc())
        .limit(1)
    ).one_or_none()
    published = -1.0 if newest is None else float(newest.computed_at)
    failures = 0
    for row in latest:
        if row.status not in _FAILED or row.started_at < published:
            break
        failures += 1
    since = sa.and_(_run.task_id == AGGREGATION_TASK, _run.started_at >= now - DAY_SECONDS)
    runs = sa.select(_run.status, sa.func.count()).where(since).group_by(_run.status)
    report = {} if newest is None else (newest.report or {}).get("report", {})
    return _with(
        rules.aggregation(failures if latest or newest else None),
        runs_24h={str(row[0]): int(row[1]) for row in connection.execute(runs)},
        generation=None if newest is None else newest.generation,
        **{name: report.get(name) for name in ("duration_ms", "aggregated", "skipped", "removed")},
    )


def changes(connection: sa.Connection, now: float) -> Verdict:
    """Measure rollouts: real sizes of cohorts, kill switch, and what was changed while one is frozen."""
    rows = connection.execute(sa.select(rollout).order_by(rollout.c.rollout_id)).all()
    state = load_state(connection) if rows else None
    described, changed = [], []
    for row in rows:
        stored = latest_policy(connection, row.policy_id)
        if stored is None or state is None:
            continue
        population = populate(governed_agents(connection, state, row.policy_id), row.rollout_id)
        described.append(
            {
                "rollout_id": row.rollout_id,
                "agents": len(population),
                "cohort_size": population.size(max(shares(stored.document))),
                "is_frozen": row.frozen_at is not None,
                "is_switched_off": is_switched_off(stored.document),
            }
        )
        if row.frozen_at is not None:
            changed += _changes_since(connection, row.policy_id, row.frozen_at)
    frozen = [row for row in rows if row.frozen_at is not None]
    if frozen:
        changed += _generations_since(connection, min(row.frozen_at for row in frozen))
    verdict = rules.safety([row.rollout_id for row in frozen], sorted(set(changed))[:_LATEST])
    return _with(verdict, rollouts=described, rollbacks_24h=rollbacks(connection, now - DAY_SECONDS))


def divergence(connection: sa.Connection) -> Verdict:
    """Measure how far the fleet's mean moved beyond its bias, from the generation before and from the pinned one."""

    def latest(compared_with: str) -> list[float | None]:
        query = sa.select(_health.js_mean, _health.js_mean_bias).where(_health.compared_with == compared_with)
        rows = connection.execute(query.order_by(_health.generation.desc()).limit(rules.JS_CYCLES)).all()
        return [None if row.js_mean is None else row.js_mean - (row.js_mean_bias or 0.0) for row in rows]

    return rules.js_trend(latest("previous"), latest("reference"))


def drift_alarms(connection: sa.Connection, now: float, seconds: float = DAY_SECONDS) -> Verdict:
    """Measure the alarms of ADWIN, on all monitored series, of 24 h or another time."""
    alarm = fleet_alarm.c
    query = (
        sa.select(alarm.kind, sa.func.count())
        .where(alarm.raised_at >= now - seconds, alarm.kind.in_(ADWIN_KINDS))
        .group_by(alarm.kind)
    )
    by_kind = {str(row[0]): int(row[1]) for row in connection.execute(query)}
    return _with(rules.adwin_alarms(sum(by_kind.values())), by_kind=by_kind)


def rollbacks(connection: sa.Connection, since: float) -> int:
    """Return how many generations were published anew since a time."""
    query = sa.select(sa.func.count()).where(_generation.source == "rollback", _generation.computed_at >= since)
    return int(connection.execute(query.select_from(fleet_generation)).scalar() or 0)


def _changes_since(connection: sa.Connection, policy_id: str, frozen_at: float) -> list[str]:
    """Return what was decided about a policy after its rollout was frozen; the freeze itself came with its time."""
    made, given = policy.c, policy_assignment.c
    revisions = sa.select(made.revision, made.created_by).where(
        made.policy_id == policy_id, made.created_at > frozen_at
    )
    assigned = sa.select(given.scope, given.scope_id, given.assigned_by).where(
        given.policy_id == policy_id, given.assigned_at > frozen_at
    )
    return [
        *(
            f"revision {row.revision} of {policy_id} by {row.created_by}"
            for row in connection.execute(revisions.order_by(made.revision).limit(_LATEST))
        ),
        *(
            f"{policy_id} assigned to {row.scope} {row.scope_id} by {row.assigned_by}"
            for row in connection.execute(assigned.order_by(given.revision).limit(_LATEST))
        ),
    ]


def _generations_since(connection: sa.Connection, frozen_at: float) -> list[str]:
    query = sa.select(_generation.generation, _generation.source, _generation.source_version).where(
        _generation.source.in_(("rollback", "import", "workflow_bundle")), _generation.computed_at > frozen_at
    )
    return [
        f"generation {row.generation} by {row.source} of {row.source_version}"
        for row in connection.execute(query.order_by(_generation.generation).limit(_LATEST))
    ]


def _with(verdict: Verdict, **numbers: Any) -> Verdict:
    return replace(verdict, numbers={**verdict.numbers, **numbers})
