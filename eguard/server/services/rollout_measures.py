"""What a stage of a rollout left in the database, measured for its checks."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import sqlalchemy as sa

from eguard.fleet.ingest import EXPIRY_SECONDS
from eguard.fleet.tables import alert_feedback, endpoint_agent, endpoint_baseline, endpoint_event, fleet_generation
from eguard.server.services.cohorts import Population
from eguard.server.services.rollout_checks import AlertTally, Spread, StageMeasures

#: What agents outside still send while the news of a stage travels: half a second to servers, five to agents.
GRACE_SECONDS: Final = 5.0
#: Ten heartbeats.
SILENT_SECONDS: Final = 300.0
#: How far back "before" goes.
BEFORE_SECONDS: Final = 7 * 86_400.0
_PERCENTILE: Final = 0.95
_EXAMPLES: Final = 5
_FALSE: Final = frozenset({"false_positive", "benign"})


class Stage(NamedTuple):
    """A stage: since when, the shares of both directions in percent, and now; times in seconds since the epoch."""

    since: float
    upload_percent: float
    seed_percent: float
    now: float


class _AgentFacts(NamedTuple):
    enrolled_at: float
    last_heartbeat: float | None
    cpu_fraction: float | None
    rss_bytes: float | None


def measure_stage(connection: sa.Connection, population: Population, stage: Stage) -> StageMeasures:
    """Return what the stage left.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Of a read transaction.
    population : Population
        The agents that the rollout's policy governs.
    stage : Stage
        The stage.

    Notes
    -----
    Agents' figures and alerts are those of the cohort; while nobody takes part, those of everybody, so that a fleet in
    trouble does not begin a rollout.
    """
    percent = max(stage.upload_percent, stage.seed_percent)
    cohort = population.cohort(percent)
    observed = cohort if percent > 0 else population.agent_ids
    members = frozenset(population.agent_ids)
    uploaded = _updated_agents(connection, stage.since + GRACE_SECONDS) & members
    seeded = _seeded_agents(connection, stage.since + GRACE_SECONDS, stage.since) & members
    facts = _agent_facts(connection, observed)
    reporting = [each for each in facts.values() if (each.last_heartbeat or 0.0) >= stage.since]
    begun = stage.since - BEFORE_SECONDS
    heard = {name: each for name, each in facts.items() if (each.last_heartbeat or 0.0) >= stage.since}
    return StageMeasures(
        stage_percent=percent,
        cohort_size=len(cohort),
        uploads=_spread(uploaded, population.cohort(stage.upload_percent)),
        seeds=_spread(seeded, population.cohort(stage.seed_percent)),
        reporting=len(reporting),
        silent=sum((each.last_heartbeat or 0.0) < stage.now - SILENT_SECONDS for each in reporting),
        cpu_fraction=percentile([each.cpu_fraction for each in reporting if each.rss_bytes]),
        # An agent that says it takes no memory has not measured it.
        rss_bytes=percentile([each.rss_bytes for each in reporting if each.rss_bytes]),
        before=_tally(connection, heard, begun, stage.now, until=stage.since),
        since=_tally(connection, heard, stage.since, stage.now),
    )


def percentile(values: Sequence[float | None], fraction: float = _PERCENTILE) -> float | None:
    """Return the smallest value that at least `fraction` of the values do not exceed, None of none.

    Examples
    --------
    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5), percentile([1.0] * 19 + [9.0]), percentile([])
    (2.0, 1.0, None)
    """
    known = sorted(value for value in values if value is not None)
    return known[math.ceil(fraction * len(known)) - 1] if known else None


def _spread(agents: Collection[str], cohort: Sequence[str]) -> Spread:
    inside = frozenset(cohort)
    outside = sorted(agent_id for agent_id in agents if agent_id not in inside)
    return Spread(len(agents) - len(outside), len(outside), tuple(outside[:_EXAMPLES]))


def _updated_agents(connection: sa.Connection, since: float) -> frozenset[str]:
    column = endpoint_baseline.c
    # A row expires a fixed time after its update, and that column has the index.
    query = sa.select(column.agent_id).where(column.expires_at >= since + EXPIRY_SECONDS).distinct()
    return frozenset(row[0] for row in connection.execute(query))


def _seeded_agents(connection: sa.Connection, since: float, stage_since: float) -> frozenset[str]:
    """Return agents with rows updated since that carry a seed which they may have taken in this stage.

    A seed of a generation that was replaced before the stage began was taken before it. One of the generation that was
    current then may be older than the stage or not: it counts, as what cannot be told apart must not pass.
    """
    current = sa.select(sa.func.max(fleet_generation.c.generation)).where(fleet_generation.c.computed_at <= stage_since)
    generation = connection.execute(current).scalar() or 0
    column = endpoint_baseline.c
    query = sa.select(column.agent_id).where(
        column.expires_at >= since + EXPIRY_SECONDS, column.prior_generation >= generation
    )
    return frozenset(row[0] for row in connection.execute(query.distinct()))


def _agent_facts(connection: sa.Connection, wanted: Collection[str]) -> dict[str, _AgentFacts]:
    column, names = endpoint_agent.c, frozenset(wanted)
    query = sa.select(
        column.agent_id, column.enrolled_at, column.last_heartbeat, column.cpu_fraction, column.rss_bytes
    ).where(column.status == "active")
    return {row[0]: _AgentFacts(*row[1:]) for row in connection.execute(query) if row[0] in names}


def _tally(
    connection: sa.Connection,
    agents: Mapping[str, _AgentFacts],
    begin: float,
    now: float,
    *,
    until: float | None = None,
) -> AlertTally:
    """Count the alerts that reached analysts, and what these said of them last.

    Without `until` those of a host whose clock runs ahead are counted, too.
    """
    end = now if until is None else until
    event = endpoint_event.c
    in_time = [event.observed_at >= begin, event.suppressed_by.is_(None)]
    if until is not None:
        in_time.append(event.observed_at < until)
    counts = sa.select(event.agent_id, sa.func.count()).where(*in_time).group_by(event.agent_id)
    alerts = sum(count for agent_id, count in connection.execute(counts) if agent_id in agents)
    said = alert_feedback.c
    query = (
        sa.select(event.agent_id, said.event_id, said.verdict)
        .join_from(alert_feedback, endpoint_event, said.event_id == event.event_id)
        .where(*in_time)
        .order_by(said.created_at, said.feedback_id)
    )
    verdicts = {row.event_id: row.verdict for row in connection.execute(query) if row.agent_id in agents}
    watched = sum(max(0.0, end - max(begin, each.enrolled_at)) for each in agents.values())
    return AlertTally(
        alerts=alerts,
        agent_hours=watched / 3600.0,
        judged=len(verdicts),
        false_positives=sum(verdict in _FALSE for verdict in verdicts.values()),
    )
