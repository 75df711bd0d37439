"""What agents have reported of a candidate, measured in the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from eguard.fleet.tables import endpoint_agent, endpoint_event
from eguard.policy import bucket_limit, canary_buckets
from eguard.server.services.candidate_checks import AlertRates, CandidateMeasures, ShadowSum
from eguard.server.services.cohorts import active_agents
from eguard.server.services.policy_state import load_state
from eguard.server.services.rollout_checks import AlertTally
from eguard.server.services.rollout_measures import BEFORE_SECONDS, SILENT_SECONDS

#: A kind of alert of an agent counts again after this time.
REFRACTORY_SECONDS: Final = 600.0
#: What one heartbeat is worth of being heard.
HEARTBEAT_SECONDS: Final = 30.0
#: Dispersion that is assumed at least where there are fewer hours to measure it in.
ASSUMED_DISPERSION: Final = 2.0
ENOUGH_HOURS: Final = 24
#: Alerts of a cohort that are read at most, the newest ones; the time before is the shorter then.
MAX_ALERTS: Final = 200_000
_HOUR_SECONDS: Final = 3600.0
_DAY_SECONDS: Final = 86_400.0
_AT_ONCE: Final = 1000

_agent, _event = endpoint_agent.c, endpoint_event.c


class Staged(NamedTuple):
    """A candidate that agents have: its digest, its model, the share that runs it, since when; and the time now."""

    digest: str
    model_version: str
    percent: float
    since: float
    now: float


class Alerted(NamedTuple):
    """An alert: whose, of which kind, when it arrived, and whether the candidate's model scored it."""

    agent_id: str
    kind: tuple[str, str]
    received_at: float
    is_candidates: bool


@dataclass(frozen=True, slots=True)
class _Agent:
    bundle_digest: str | None
    bundle_since: float | None
    refused_digest: str | None
    refused_code: str | None
    shadow: Mapping[str, Any] | None
    last_heartbeat: float | None
    enrolled_at: float
    heard_hours: int


def candidate_cohort(connection: sa.Connection, percent: float) -> list[str]:
    """Return the active agents that a candidate's share means, sorted: by their policies' rollouts and bounds."""
    state = load_state(connection)
    by_rollout: dict[tuple[str, float], list[str]] = defaultdict(list)
    for agent_id, place in active_agents(connection).items():
        policy = state.chosen(agent_id, place).policy
        bound = policy.document.bundle_canary_percent
        by_rollout[policy.rollout_id, 100.0 if bound is None else bound].append(agent_id)
    cohort: list[str] = []
    for (rollout_id, bound), agent_ids in by_rollout.items():
        limit = min(bucket_limit(percent), bucket_limit(bound))
        buckets = canary_buckets(agent_ids, rollout_id)
        cohort += [agent_id for agent_id, bucket in zip(agent_ids, buckets.tolist(), strict=True) if bucket < limit]
    return sorted(cohort)


def measure_candidate(connection: sa.Connection, staged: Staged) -> CandidateMeasures:
    """Return what is known of a candidate that agents have.

    Notes
    -----
    Only alerts that the candidate's own model scored count for it, so that what an agent had in its buffer does not. An
    agent is watched under the candidate from the heartbeat that first named it to its last one, and one more each side.
    """
    cohort = candidate_cohort(connection, staged.percent)
    agents = _agents(connection)
    chosen = {agent_id: agents[agent_id] for agent_id in cohort if agent_id in agents}
    has_it = {agent_id: each for agent_id, each in chosen.items() if each.bundle_digest == staged.digest}
    silent = {
        agent_id for agent_id, each in has_it.items() if (each.last_heartbeat or 0.0) < staged.now - SILENT_SECONDS
    }
    refused = [
        (agent_id, each.refused_code or "")
        for agent_id, each in sorted(agents.items())
        if each.refused_digest == staged.digest and (each.last_heartbeat or 0.0) >= staged.since
    ]
    return CandidateMeasures(
        percent=staged.percent,
        cohort=len(cohort),
        running=len(has_it) - len(silent),
        silent=len(silent),
        refused=tuple(each for each in refused if each[0] in chosen),
        refused_in_shadow=tuple(each for each in refused if each[0] not in chosen),
        rates=_rates(connection, staged, has_it),
        shadow=_shadow_sum(agents.values(), staged.digest),
    )


def counted(alerts: Iterable[Alerted]) -> list[Alerted]:
    """Return the alerts, in the order of their arrival, without those whose kind counted less than ten minutes before.

    Examples
    --------
    >>> times = (0.0, 30.0, 599.0, 600.0, 601.0, 1300.0)
    >>> [each.received_at for each in counted(Alerted("a", ("rule", "sh:cron"), at, False) for at in times)]
    [0.0, 600.0, 1300.0]
    """
    last: dict[tuple[str, tuple[str, str]], float] = {}
    kept = []
    for alert in sorted(alerts, key=lambda each: (each.received_at, each.agent_id, each.kind)):
        key = (alert.agent_id, alert.kind)
        if alert.received_at - last.get(key, float("-inf")) >= REFRACTORY_SECONDS:
            last[key] = alert.received_at
            kept.append(alert)
    return kept


def dispersion(alerts: Sequence[Alerted], hours: Mapping[str, float]) -> float:
    """Return variance over mean of the agents' hourly counts around each agent's own mean, at least 1.

    Parameters
    ----------
    alerts : sequence of Alerted
        From before the stage.
    hours : mapping of str to float
        How long each agent was watched.

    Examples
    --------
    >>> even = [Alerted("a", ("r", "k"), 3600.0 * hour, False) for hour in range(48)]
    >>> dispersion(even, {"a": 48.0})
    1.0
    >>> burst = [Alerted("a", ("r", str(number)), 0.0, False) for number in range(48)]
    >>> dispersion(burst, {"a": 48.0})
    48.0
    """
    by_hour: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for alert in alerts:
        by_hour[alert.agent_id][int(alert.received_at // _HOUR_SECONDS)] += 1
    pearson, freedom = 0.0, 0
    for agent_id, counts in by_hour.items():
        watched = max(len(counts), round(hours.get(agent_id, 0.0)), 1)
        total = sum(counts.values())
        mean = total / watched
        pearson += (sum(count * count for count in counts.values()) - watched * mean * mean) / mean
        freedom += watched - 1
    measured = max(1.0, pearson / freedom) if freedom else 1.0
    return measured if freedom >= ENOUGH_HOURS else max(ASSUMED_DISPERSION, measured)


def _agents(connection: sa.Connection) -> dict[str, _Agent]:
    query = sa.select(
        _agent.agent_id,
        _agent.bundle_digest,
        _agent.bundle_since,
        _agent.refused_digest,
        _agent.refused_code,
        _agent.shadow,
        _agent.last_heartbeat,
        _agent.enrolled_at,
        _agent.heard_hours,
    ).where(_agent.status == "active")
    return {row[0]: _Agent(*tuple(row)[1:]) for row in connection.execute(query)}


def _rates(connection: sa.Connection, staged: Staged, has_it: Mapping[str, _Agent]) -> AlertRates:
    if staged.percent <= 0 or not has_it:
        return AlertRates()
    alerts = _alerts(connection, staged, has_it)
    begin = staged.since - BEFORE_SECONDS
    if len(alerts) >= MAX_ALERTS:
        begin = max(begin, min(alert.received_at for alert in alerts))
    kept = counted(alerts)
    before = [alert for alert in kept if alert.received_at < staged.since]
    since = [alert for alert in kept if alert.received_at >= staged.since and alert.is_candidates]
    hours = {agent_id: _hours_before(each, begin, staged.since) for agent_id, each in has_it.items()}
    watched = sum(_hours_since(each, staged) for each in has_it.values())
    return AlertRates(
        before=AlertTally(len(before), sum(hours.values())),
        since=AlertTally(len(since), watched),
        dispersion=dispersion(before, hours),
        **_kinds(connection, staged, has_it),
    )


def _hours_before(agent: _Agent, begin: float, until: float) -> float:
    """Return how long an agent was watched before the stage, at most for as many hours as it was heard in."""
    return max(0.0, min((until - max(begin, agent.enrolled_at)) / _HOUR_SECONDS, float(agent.heard_hours)))


def _hours_since(agent: _Agent, staged: Staged) -> float:
    if agent.bundle_since is None or agent.last_heartbeat is None:
        return 0.0
    # It ran for up to a heartbeat's time before it said so, and up to one after it said so last.
    begin = max(staged.since, agent.bundle_since - HEARTBEAT_SECONDS)
    until = min(staged.now, agent.last_heartbeat + HEARTBEAT_SECONDS)
    return max(0.0, until - begin) / _HOUR_SECONDS


def _alerts(connection: sa.Connection, staged: Staged, agents: Mapping[str, _Agent]) -> list[Alerted]:
    found: list[Alerted] = []
    names = sorted(agents)
    for start in range(0, len(names), _AT_ONCE):
        query = (
            sa.select(_event.agent_id, _event.rule_id, _event.process_key, _event.received_at, _event.model_version)
            .where(
                _event.agent_id.in_(names[start : start + _AT_ONCE]),
                _event.received_at >= staged.since - BEFORE_SECONDS,
                _event.suppressed_by.is_(None),
            )
            .order_by(_event.received_at.desc())
            .limit(MAX_ALERTS)
        )
        found += [
            Alerted(row[0], (row[1], row[2]), row[3], row[3] >= staged.since and row[4] == staged.model_version)
            for row in connection.execute(query)
        ]
    return sorted(found, key=lambda each: each.received_at)[-MAX_ALERTS:]


def _kinds(connection: sa.Connection, staged: Staged, has_it: Mapping[str, _Agent]) -> dict[str, AlertTally]:
    """Count the kinds of alerts of agents with and without the candidate, lately and in as long a time before."""
    seconds = min(staged.now - staged.since, _DAY_SECONDS)
    active = sa.select(sa.func.count()).select_from(endpoint_agent).where(_agent.status == "active")
    others = max(int(connection.execute(active).scalar() or 0) - len(has_it), 0)
    watched = others * seconds / _HOUR_SECONDS

    def kinds(begin: float) -> tuple[int, int]:
        query = (
            sa.select(_event.agent_id, _event.rule_id, _event.process_key)
            .where(_event.received_at >= begin, _event.received_at < begin + seconds, _event.suppressed_by.is_(None))
            .distinct()
        )
        owners = [row[0] in has_it for row in connection.execute(query)]
        return sum(owners), len(owners) - sum(owners)

    own, beside = kinds(staged.now - seconds)
    return {
        "kinds": AlertTally(own, len(has_it) * seconds / _HOUR_SECONDS),
        "others": AlertTally(beside, watched),
        "others_before": AlertTally(kinds(staged.since - seconds)[1], watched),
    }


def _shadow_sum(agents: Iterable[_Agent], digest: str) -> ShadowSum:
    reports = [each.shadow for each in agents if each.shadow is not None and each.shadow.get("digest") == digest]
    names = ("scored", "active_flagged", "shadow_flagged", "only_shadow", "only_active")
    added = {name: sum(int(report[name]) for report in reports) for name in names}
    return ShadowSum(
        agents=len(reports), difference_sum=sum(float(report["difference_sum"]) for report in reports), **added
    )
