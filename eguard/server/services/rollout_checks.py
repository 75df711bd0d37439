"""The four checks of a stage, from what was measured: pure, and never silent about what is not known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from scipy.special import betainc

#: Shares that a rollout walks through, in percent.
STAGES: Final = (0.0, 1.0, 5.0, 20.0, 100.0)
#: Time in a stage before the next one.
DWELL_SECONDS: Final = 1800.0
_MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class StageBudget:
    """Bounds of the checks.

    Parameters
    ----------
    cpu_fraction, rss_bytes : float
        Bounds on the 95th percentiles of the observed agents' share of a core and resident memory.
    silent_fraction : float
        Bound on the share of agents that reported in this stage and then fell silent.
    alert_ratio : float
        The alert rate may be so many times what it was before.
    min_alerts : int
        Fewer alerts than this are no spike.
    false_positive_increase : float
        How far the share of false positives may rise.
    false_positive_fraction : float
        Bound on that share where none is known from before.
    min_judged : int
        Verdicts without which the share is not known.
    significance : float
        Chance of calling an unchanged rate a spike.
    """

    cpu_fraction: float = 0.05
    rss_bytes: float = 256.0 * _MEBIBYTE
    silent_fraction: float = 0.1
    alert_ratio: float = 2.0
    min_alerts: int = 5
    false_positive_increase: float = 0.1
    false_positive_fraction: float = 0.5
    min_judged: int = 5
    significance: float = 0.01


class Spread(NamedTuple):
    """How many agents did something inside and outside a cohort, and some names of those outside."""

    inside: int
    outside: int
    outside_examples: tuple[str, ...] = ()


class AlertTally(NamedTuple):
    """Alerts of a period: their number, the agent-hours watched, how many were judged, how many of those were false."""

    alerts: int
    agent_hours: float
    judged: int = 0
    false_positives: int = 0


@dataclass(frozen=True, slots=True)
class StageMeasures:
    """What a stage left in the database.

    Parameters
    ----------
    stage_percent : float
        Share that takes part.
    cohort_size : int
        Agents that this means.
    uploads, seeds : Spread
        Agents with rows updated in this stage, and with seeded rows among them.
    reporting : int
        Observed agents with a heartbeat in this stage.
    silent : int
        Those of them that have not been heard for five minutes.
    cpu_fraction, rss_bytes : float, optional
        95th percentiles of the reporting agents; None where nobody reported it.
    before, since : AlertTally
        The same agents before the stage and in it.
    """

    stage_percent: float
    cohort_size: int
    uploads: Spread
    seeds: Spread
    reporting: int
    silent: int
    cpu_fraction: float | None
    rss_bytes: float | None
    before: AlertTally
    since: AlertTally


class CheckState(StrEnum):
    """How a check came out; ``unknown`` stops a rollout as ``missed`` does."""

    OK = "ok"
    MISSED = "missed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class StageCheck:
    """One check: what was measured, its bounds by the same names, how it came out, and a sentence."""

    name: str
    state: CheckState
    value: dict[str, float | None]
    bound: dict[str, float | None]
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as the API shows it; `ok` is null where nothing is known."""
        is_ok = {CheckState.OK: True, CheckState.MISSED: False}.get(self.state)
        return {
            "name": self.name,
            "state": str(self.state),
            "ok": is_ok,
            "value": self.value,
            "bound": self.bound,
            "detail": self.detail,
        }


def judge_stage(measures: StageMeasures, budget: StageBudget) -> tuple[StageCheck, ...]:
    """Return the four checks.

    References
    ----------
    Operations manual, section 6.3.
    """
    return (
        _uploads(measures),
        _seeds(measures),
        _performance(measures, budget),
        _queue(measures, budget),
    )


def next_stage(percent: float) -> float | None:
    """Return the stage after a share, None after the last.

    Examples
    --------
    >>> [next_stage(percent) for percent in (0, 1, 7.5, 20, 100)]
    [1.0, 5.0, 20.0, 100.0, None]
    """
    return next((stage for stage in STAGES if stage > percent), None)


def rate_excess_p_value(since: AlertTally, before: AlertTally, ratio: float) -> float:
    """Return the chance of so many alerts if the rate were `ratio` times the one before.

    Notes
    -----
    Two Poisson counts, given their sum, split binomially by exposure: the test is exact however few there are.

    References
    ----------
    Przyborowski and Wilenski, Homogeneity of results in testing samples from Poisson series, Biometrika 31 (1940).

    Examples
    --------
    >>> round(rate_excess_p_value(AlertTally(3, 1.0), AlertTally(0, 1.0), 1.0), 3)  # a half, three times
    0.125
    """
    if not since.alerts:
        return 1.0
    weight = ratio * since.agent_hours
    return float(betainc(since.alerts, before.alerts + 1, weight / (weight + before.agent_hours)))


def _uploads(measures: StageMeasures) -> StageCheck:
    seen = measures.uploads
    values: dict[str, float | None] = {"agents_outside": seen.outside, "agents_inside": seen.inside}
    state, detail = CheckState.OK, f"{seen.inside} agents uploaded, all of the cohort"
    if seen.outside:
        state, detail = CheckState.MISSED, _outside("uploaded", seen)
    elif measures.stage_percent > 0 and not seen.inside:
        state = CheckState.UNKNOWN
        detail = (
            f"none of the {measures.cohort_size} agents of the cohort has uploaded in this stage"
            if measures.cohort_size
            else f"no agent is in a cohort of {measures.stage_percent:g} %"
        )
    elif measures.stage_percent <= 0:
        detail = "nobody uploads, and nobody did"
    return StageCheck("uploads_inside_cohort", state, values, {"agents_outside": 0.0, "agents_inside": None}, detail)


def _seeds(measures: StageMeasures) -> StageCheck:
    seen = measures.seeds
    values: dict[str, float | None] = {"agents_outside": seen.outside, "agents_inside": seen.inside}
    state, detail = CheckState.OK, f"{seen.inside} agents are seeded, all of the cohort"
    if seen.outside:
        state, detail = CheckState.MISSED, _outside("took seeds", seen)
    elif measures.stage_percent > 0 and not measures.uploads.inside:
        state, detail = CheckState.UNKNOWN, "uploads tell who is seeded, and there was none from the cohort"
    elif measures.stage_percent <= 0:
        detail = "nobody takes seeds, and nobody did"
    return StageCheck("seeds_inside_cohort", state, values, {"agents_outside": 0.0, "agents_inside": None}, detail)


def _outside(verb: str, seen: Spread) -> str:
    return f"{seen.outside} agents outside the cohort {verb} in this stage: {', '.join(seen.outside_examples)}"


def _performance(measures: StageMeasures, budget: StageBudget) -> StageCheck:
    silent = measures.silent / measures.reporting if measures.reporting else None
    value = {"cpu_fraction_p95": measures.cpu_fraction, "rss_bytes_p95": measures.rss_bytes, "silent_fraction": silent}
    bound: dict[str, float | None] = {
        "cpu_fraction_p95": budget.cpu_fraction,
        "rss_bytes_p95": budget.rss_bytes,
        "silent_fraction": budget.silent_fraction,
    }
    over = [name for name, measured in value.items() if measured is not None and measured > (bound[name] or 0.0)]
    state, detail = CheckState.OK, f"{measures.reporting} agents report, all figures inside their bounds"
    if over:
        state, detail = CheckState.MISSED, f"above its bound: {', '.join(over)}"
    elif None in value.values():
        state = CheckState.UNKNOWN
        detail = f"{measures.reporting} agents have reported in this stage, without all figures"
    return StageCheck("agents_inside_budget", state, value, bound, detail)


def _queue(measures: StageMeasures, budget: StageBudget) -> StageCheck:
    before, since = measures.before, measures.since
    rate, rate_before = _rate(since), _rate(before)
    share = since.false_positives / since.judged if since.judged else None
    share_bound = budget.false_positive_fraction
    if before.judged:
        share_bound = min(1.0, before.false_positives / before.judged + budget.false_positive_increase)
    value = {"alerts_per_agent_hour": rate, "false_positive_fraction": share}
    bound = {
        "alerts_per_agent_hour": None if rate_before is None else budget.alert_ratio * rate_before,
        "false_positive_fraction": share_bound,
    }
    state, detail = _judge_queue(measures, budget, share_bound)
    return StageCheck("alert_queue", state, value, bound, detail)


def _judge_queue(measures: StageMeasures, budget: StageBudget, share_bound: float) -> tuple[CheckState, str]:
    before, since = measures.before, measures.since
    if since.agent_hours <= 0:
        return CheckState.UNKNOWN, "no agent was heard in this stage"
    if not since.alerts:
        return CheckState.OK, f"no alert in {since.agent_hours:.1f} agent-hours"
    miss = _spike(since, before, budget) or _false_share(since, budget, share_bound)
    if miss:
        return CheckState.MISSED, miss
    if before.agent_hours <= 0:
        return CheckState.UNKNOWN, f"{since.alerts} alerts, and nothing from before to compare them with"
    if since.judged < min(budget.min_judged, since.alerts):
        return CheckState.UNKNOWN, f"{since.judged} of {since.alerts} alerts are judged, too few for a share"
    return CheckState.OK, f"{since.alerts} alerts, {since.false_positives} of {since.judged} judged are false"


def _spike(since: AlertTally, before: AlertTally, budget: StageBudget) -> str:
    if since.alerts < budget.min_alerts or before.agent_hours <= 0:
        return ""
    chance = rate_excess_p_value(since, before, budget.alert_ratio)
    if chance >= budget.significance:
        return ""
    return (
        f"{since.alerts} alerts in {since.agent_hours:.1f} agent-hours, {before.alerts} in {before.agent_hours:.1f} "
        f"before: more than {budget.alert_ratio:g} times as many (p = {chance:.2g})"
    )


def _false_share(since: AlertTally, budget: StageBudget, share_bound: float) -> str:
    if since.judged < budget.min_judged or since.false_positives <= share_bound * since.judged:
        return ""
    return f"{since.false_positives} of {since.judged} judged alerts are false, above {share_bound:.0%}"


def _rate(tally: AlertTally) -> float | None:
    return tally.alerts / tally.agent_hours if tally.agent_hours > 0 else None
