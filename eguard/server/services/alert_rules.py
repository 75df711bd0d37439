"""When operators are told: one pure function for each rule, from measured numbers to a verdict.

Every rule has a minimum count, and a bound that chance exceeds once in a thousand looks, so that one event on a quiet
host is no alarm. A number that cannot be measured makes a rule unknown, never fine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from eguard.estimators import binomial_bound, poisson_bound

State = Literal["ok", "alert", "unknown"]
OK: Final[State] = "ok"
ALERT: Final[State] = "alert"
UNKNOWN: Final[State] = "unknown"

#: Windows of five minutes in a row with rejects, and rejects in all of them.
REJECT_WINDOWS: Final = 6
MIN_REJECTS: Final = 3
FAILED_CYCLES: Final = 2
MIN_STALE: Final = 5
JS_BOUND_NATS: Final = 0.1
JS_CYCLES: Final = 2
MAX_ADWIN_ALARMS: Final = 3
MIN_DESTINATIONS: Final = 6
MIN_TREES: Final = 5
#: A rate of anomalous trees is compared with so many times its mean of seven days.
TREE_FACTOR: Final = 2.0
#: Days of counting before a mean of days means anything.
MIN_HISTORY_DAYS: Final = 1.0
_NAMED_AGENTS: Final = 20
#: Level of the comparison of scores over a day, and its checks, among which it is divided.
SCORES_LEVEL: Final = 0.01
SCORE_CHECKS_A_DAY: Final = 24


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says.

    Parameters
    ----------
    state : {"ok", "alert", "unknown"}
    value, bound : float or None
        The number that was judged, and the one that it had to stay below or reach; None where there is none.
    why : str
        One sentence where the numbers do not speak for themselves.
    numbers : dict
        Everything that was looked at.
    """

    state: State
    value: float | None = None
    bound: float | None = None
    why: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)


class BusyAgent(NamedTuple):
    """Destinations of an agent's day: how many were scored and confirmed, and the share that chance confirms."""

    agent_id: str
    scored: int
    confirmed: int
    alpha: float


def upload_rejects(windows: Sequence[int]) -> Verdict:
    """Judge rejects in the latest six windows of five minutes: some in each of them, and at least three in all.

    Examples
    --------
    >>> upload_rejects([1, 1, 2, 1, 1, 1]).state, upload_rejects([9, 9, 0, 9, 9, 9]).state
    ('alert', 'ok')
    """
    latest = list(windows)[-REJECT_WINDOWS:]
    is_sustained = len(latest) == REJECT_WINDOWS and all(latest) and sum(latest) >= MIN_REJECTS
    return Verdict(_state(is_sustained), sum(latest), MIN_REJECTS, numbers={"rejects_by_window": latest})


def seed_effectiveness(applied: int | None, *, fleet_rows: int, learning_agents: int) -> Verdict:
    """Judge the seeds of two fetch intervals: none applied although there are some, and agents that need them.

    Parameters
    ----------
    applied : int or None
        Rows reported with a seed in two fetch intervals; None if they were not counted for as long.
    fleet_rows : int
        Rows that were there to be fetched all that time.
    learning_agents : int
        Agents that have been learning all that time and may take seeds.
    """
    numbers = {"rows_applied": applied, "fleet_rows": fleet_rows, "learning_agents": learning_agents}
    if not fleet_rows or not learning_agents:
        why = "the fleet has no rows yet" if not fleet_rows else "nobody has been learning who may take seeds"
        return Verdict(OK, applied, 1, why, numbers)
    if applied is None:
        return Verdict(UNKNOWN, None, 1, "not counted for two fetch intervals yet", numbers)
    return Verdict(_state(applied == 0), applied, 1, numbers=numbers)


def aggregation(failures: int | None) -> Verdict:
    """Judge how many aggregations in a row have failed; None if there was none."""
    if failures is None:
        return Verdict(UNKNOWN, None, FAILED_CYCLES, "no aggregation has ended yet", {"failures": None})
    return Verdict(_state(failures >= FAILED_CYCLES), failures, FAILED_CYCLES, numbers={"failures": failures})


def stale_transitions(count: int, past: int, days: float) -> Verdict:
    """Judge baselines that became stale in 24 h by the mean of the seven days before.

    Parameters
    ----------
    count : int
        In the last 24 h.
    past : int
        In the seven days before.
    days : float
        For how many of these was counted.

    Examples
    --------
    >>> stale_transitions(5, 7, 7.0).state, stale_transitions(6, 7, 7.0).state  # the bound of a mean of 1 is 5
    ('ok', 'alert')
    """
    numbers: dict[str, Any] = {"count": count, "past": past, "past_days": round(days, 2)}
    if days < MIN_HISTORY_DAYS:
        return Verdict(UNKNOWN, count, None, "not counted for a day before the last one yet", numbers)
    mean = past / days
    bound = poisson_bound(mean)
    numbers["mean_per_day"] = mean
    return Verdict(_state(count > bound and count >= MIN_STALE), count, max(bound, MIN_STALE - 1), numbers=numbers)


def safety(frozen: Sequence[str], changes: Sequence[str]) -> Verdict:
    """Judge what was changed while a rollout is frozen: policies, assignments, generations gone back to."""
    numbers = {"frozen_rollouts": list(frozen), "changes": list(changes)}
    return Verdict(_state(bool(frozen) and bool(changes)), len(changes), 0, numbers=numbers)


def js_trend(previous: Sequence[float | None], reference: Sequence[float | None]) -> Verdict:
    """Judge the fleet's movement, each series latest first: above 0.1 nats beyond its bias in two cycles in a row.

    Examples
    --------
    >>> js_trend([0.11, 0.12], []).state, js_trend([0.11, 0.1], [0.12, None]).state
    ('alert', 'ok')
    """
    series = {"previous": list(previous)[:JS_CYCLES], "reference": list(reference)[:JS_CYCLES]}
    known = [each[0] for each in series.values() if each and each[0] is not None]
    is_sustained = any(
        len(each) == JS_CYCLES and all(value is not None and value > JS_BOUND_NATS for value in each)
        for each in series.values()
    )
    numbers: dict[str, Any] = dict(series)
    if not known:
        return Verdict(UNKNOWN, None, JS_BOUND_NATS, "there are no two generations to compare", numbers)
    return Verdict(_state(is_sustained), max(known), JS_BOUND_NATS, numbers=numbers)


def adwin_alarms(count: int) -> Verdict:
    """Judge how many alarms of ADWIN all monitored series gave in 24 h: more than three are a drift of the system."""
    return Verdict(_state(count > MAX_ADWIN_ALARMS), count, MAX_ADWIN_ALARMS, numbers={"count": count})


def high_information_destinations(agents: Iterable[BusyAgent]) -> Verdict:
    """Judge the beacons of each agent's day by what chance confirms among so many destinations, at least six.

    Examples
    --------
    >>> high_information_destinations([BusyAgent("a", 100, 6, 0.01)]).state  # the bound of 100 at .01 is 5
    'alert'
    >>> high_information_destinations([BusyAgent("a", 10_000, 120, 0.01)]).state
    'ok'
    """
    counted = list(agents)
    if not counted:
        return Verdict(UNKNOWN, None, MIN_DESTINATIONS, "no agent with a calibrated threshold reported today")
    judged = [(agent, binomial_bound(agent.scored, agent.alpha)) for agent in counted]
    above = [
        (agent, bound) for agent, bound in judged if agent.confirmed > bound and agent.confirmed >= MIN_DESTINATIONS
    ]
    most, bound = max(above or judged, key=lambda each: (each[0].confirmed, each[0].agent_id))
    above.sort(key=lambda each: (-each[0].confirmed, each[0].agent_id))
    numbers = {
        "agents": len(counted),
        "agents_above": len(above),
        "above": [
            {"agent_id": agent.agent_id, "confirmed": agent.confirmed, "scored": agent.scored, "bound": limit}
            for agent, limit in above[:_NAMED_AGENTS]
        ],
    }
    return Verdict(_state(bool(above)), most.confirmed, max(bound, MIN_DESTINATIONS - 1), numbers=numbers)


def tree_anomalies(seen: int, anomalous: int, *, past_seen: int, past_anomalous: int, days: float) -> Verdict:
    """Judge anomalous process trees of an hour by what twice the rate of the seven days before gives by chance.

    Parameters
    ----------
    seen, anomalous : int
        Trees of the last hour.
    past_seen, past_anomalous : int
        Trees of the seven days before.
    days : float
        For how many of these was counted.
    """
    numbers: dict[str, Any] = {
        "seen": seen,
        "anomalous": anomalous,
        "past_seen": past_seen,
        "past_anomalous": past_anomalous,
        "past_days": round(days, 2),
    }
    if days < MIN_HISTORY_DAYS or not past_seen:
        return Verdict(UNKNOWN, anomalous, None, "trees were not counted for a day yet", numbers)
    rate = min(TREE_FACTOR * past_anomalous / past_seen, 1.0)
    bound = binomial_bound(seen, rate)
    numbers["past_rate"] = past_anomalous / past_seen
    is_above = anomalous > bound and anomalous >= MIN_TREES
    return Verdict(_state(is_above), anomalous, max(bound, MIN_TREES - 1), numbers=numbers)


def p_values(checked: Mapping[str, Any] | None, why: str = "") -> Verdict:
    """Judge the last day's scores by the two-sample test against those that thresholds were set on, once an hour.

    Parameters
    ----------
    checked : mapping or None
        What the check found; None if there was none, for the reason `why`.

    Examples
    --------
    >>> p_values({"p_value": 4.1e-4}).state, p_values({"p_value": 4.3e-4}).state  # .01 / 24 is 4.17e-4
    ('alert', 'ok')
    """
    bound = SCORES_LEVEL / SCORE_CHECKS_A_DAY
    if checked is None:
        return Verdict(UNKNOWN, None, bound, why)
    value = float(checked["p_value"])
    return Verdict(_state(value < bound), value, bound, numbers=dict(checked))


def _state(is_alert: bool) -> State:
    return ALERT if is_alert else OK
