"""Signals that servers and agents counted: uploads, seeds, stale baselines, destinations, process trees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from eguard.fleet.tables import endpoint_agent, fleet_generation, signal_count
from eguard.server.services import alert_rules as rules
from eguard.server.services.alert_rules import BusyAgent, Verdict
from eguard.server.services.signal_counts import (
    ACCEPTED_ROWS,
    BUCKET_SECONDS,
    FLUSH_SECONDS,
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

HOUR_SECONDS: Final = 3600.0
DAY_SECONDS: Final = 86_400.0
HISTORY_SECONDS: Final = 7.0 * DAY_SECONDS
#: Agents fetch seeds and upload this often.
FETCH_SECONDS: Final = 900.0
HEARD_SECONDS: Final = 300.0
#: Servers write their counts down once a minute; five minutes are complete after so long.
_SETTLED_SECONDS: Final = FLUSH_SECONDS + 15.0
#: Learning agents of which it is asked whether they may take seeds.
_ASKED_AGENTS: Final = 2000

_count = signal_count.c
_agent = endpoint_agent.c
_generation = fleet_generation.c


def sums(connection: sa.Connection, since: float, until: float) -> dict[str, int]:
    """Return what all servers counted from `since` on and before `until`, by name; both begin five minutes."""
    query = (
        sa.select(_count.name, sa.func.sum(_count.value))
        .where(_count.bucket_at >= since, _count.bucket_at < until)
        .group_by(_count.name)
    )
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def counted_days(connection: sa.Connection, since: float, until: float) -> float:
    """Return for how long any server counted, in days."""
    query = sa.select(sa.func.count(_count.bucket_at.distinct())).where(
        _count.bucket_at >= since, _count.bucket_at < until, _count.name == ACCEPTED_ROWS
    )
    return int(connection.execute(query).scalar() or 0) * BUCKET_SECONDS / DAY_SECONDS


def uploads(connection: sa.Connection, now: float) -> Verdict:
    """Measure uploads: the latest complete five minutes, and rejects of six of them."""
    end = bucket_of(now - _SETTLED_SECONDS)
    since = end - rules.REJECT_WINDOWS * BUCKET_SECONDS
    query = (
        sa.select(_count.bucket_at, _count.name, sa.func.sum(_count.value))
        .where(_count.bucket_at >= since, _count.bucket_at < end, _count.name.in_([ACCEPTED_ROWS, REJECTS]))
        .group_by(_count.bucket_at, _count.name)
    )
    by_window = {(round(row[0]), row[1]): int(row[2]) for row in connection.execute(query)}
    windows = [by_window.get((start, REJECTS), 0) for start in range(since, end, BUCKET_SECONDS)]
    accepted = by_window.get((end - BUCKET_SECONDS, ACCEPTED_ROWS))
    heard = sa.select(sa.func.count()).select_from(endpoint_agent)
    recent = heard.where(_agent.last_upload_at >= now - FETCH_SECONDS - FLUSH_SECONDS)
    verdict = rules.upload_rejects(windows)
    return _with(
        verdict,
        rows_per_minute=None if accepted is None else accepted / (BUCKET_SECONDS / 60.0),
        agents_uploading=int(connection.execute(recent).scalar() or 0),
        rejected_last_window=windows[-1],
    )


def seeds(connection: sa.Connection, now: float, may_seed: Callable[[str], bool]) -> Verdict:
    """Measure seeds: what was fetched and applied in 24 h, and whether any was in two fetch intervals."""
    end, begun = bucket_of(now) + BUCKET_SECONDS, now - 2.0 * FETCH_SECONDS
    since = bucket_of(begun)
    has_counted = counted_days(connection, since, end) * DAY_SECONDS >= 2.0 * FETCH_SECONDS
    latest = sums(connection, since, end)
    verdict = rules.seed_effectiveness(
        latest.get(ROWS_APPLIED, 0) if has_counted else None,
        fleet_rows=_rows_at(connection, begun),
        learning_agents=sum(map(may_seed, _learning_agents(connection, now, begun))),
    )
    day = sums(connection, bucket_of(now - DAY_SECONDS), end)
    asked = day.get(KEYS_ASKED, 0)
    return _with(
        verdict,
        rows_fetched_24h=day.get(SEEDS_FETCHED, 0),
        rows_applied_24h=day.get(ROWS_APPLIED, 0),
        keys_asked_24h=asked,
        keys_applied_24h=day.get(KEYS_APPLIED, 0),
        hit_rate=day.get(KEYS_APPLIED, 0) / asked if asked else None,
    )


def baselines(connection: sa.Connection, now: float) -> Verdict:
    """Measure baselines: how many learn, are active and are stale, and how many became stale."""
    start = bucket_of(now - DAY_SECONDS)
    recent = sums(connection, start, now + BUCKET_SECONDS)
    past = sums(connection, start - HISTORY_SECONDS, start)
    verdict = rules.stale_transitions(
        recent.get(STALE_TRANSITIONS, 0),
        past.get(STALE_TRANSITIONS, 0),
        counted_days(connection, start - HISTORY_SECONDS, start),
    )
    query = sa.select(_agent.baseline_status, sa.func.count()).where(_agent.status == "active")
    states = {
        str(row[0] or "unknown"): int(row[1]) for row in connection.execute(query.group_by(_agent.baseline_status))
    }
    return _with(verdict, agents={**dict.fromkeys(("learning", "active", "stale"), 0), **states})


def destinations(connection: sa.Connection, now: float) -> Verdict:
    """Measure each agent's destinations of today that exceed the threshold of beacons."""
    query = sa.select(
        _agent.agent_id, _agent.destinations_scored, _agent.destinations_confirmed, _agent.destinations_alpha
    ).where(
        _agent.status == "active",
        _agent.last_heartbeat >= now - HOUR_SECONDS,
        _agent.destinations_alpha.is_not(None),
        _agent.destinations_scored.is_not(None),
        _agent.destinations_confirmed.is_not(None),
    )
    return rules.high_information_destinations(BusyAgent(*row) for row in connection.execute(query))


def trees(connection: sa.Connection, now: float) -> Verdict:
    """Measure anomalous process trees of the last hour and of the seven days before."""
    start = bucket_of(now - HOUR_SECONDS)
    recent = sums(connection, start, now + BUCKET_SECONDS)
    past = sums(connection, start - HISTORY_SECONDS, start)
    seen, anomalous = recent.get(TREES_SEEN, 0), recent.get(TREES_ANOMALOUS, 0)
    verdict = rules.tree_anomalies(
        seen,
        anomalous,
        past_seen=past.get(TREES_SEEN, 0),
        past_anomalous=past.get(TREES_ANOMALOUS, 0),
        days=counted_days(connection, start - HISTORY_SECONDS, start),
    )
    return _with(verdict, rate=anomalous / seen if seen else None)


def _rows_at(connection: sa.Connection, at: float) -> int:
    """Return the fewest rows that the fleet had since a time."""
    ordered = sa.select(_generation.key_count).order_by(_generation.generation.desc())
    before = connection.execute(ordered.where(_generation.computed_at <= at).limit(1)).scalar()
    since = connection.execute(
        sa.select(sa.func.min(_generation.key_count)).where(_generation.computed_at > at)
    ).scalar()
    return 0 if before is None else min(int(before), int(before if since is None else since))


def _learning_agents(connection: sa.Connection, now: float, since: float) -> list[str]:
    """Return agents that learn, were heard lately, and enrolled before `since`."""
    query = (
        sa.select(_agent.agent_id)
        .where(
            _agent.status == "active",
            _agent.baseline_status == "learning",
            _agent.last_heartbeat >= now - HEARD_SECONDS,
            _agent.enrolled_at <= since,
        )
        .order_by(_agent.agent_id)
        .limit(_ASKED_AGENTS)
    )
    return list(connection.execute(query).scalars())


def _with(verdict: Verdict, **numbers: Any) -> Verdict:
    return replace(verdict, numbers={**verdict.numbers, **numbers})
