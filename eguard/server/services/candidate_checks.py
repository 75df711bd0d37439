"""Whether a candidate does harm where it runs: load failures, and an alert rate that rose beyond its bound. Pure.

Alerts come in bursts, fleets have days and nights, and the question is asked again and again. So each kind of alert of
an agent counts once in ten minutes; counts are thinned by the dispersion that the same agents showed before; where the
rest of the fleet became louder too, the rate has to exceed theirs as well; and the chance of a false alarm is divided
among the looks, so that a stage in which nothing changed is halted with probability at most
`CandidateBudget.false_alarm`, however long it lasts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from eguard.server.services.rollout_checks import AlertTally, CheckState, StageCheck, rate_excess_p_value

#: The first look comes after a minute, each further one when the stage is twice as old.
FIRST_LOOK_SECONDS: Final = 60.0
#: Of this many named agents a sentence has enough.
_NAMED: Final = 5
_NOTHING: Final = AlertTally(0, 0.0)
#: Chance of taking a fleet that is as before for a louder one; that only keeps a candidate from being halted.
LOUDER_SIGNIFICANCE: Final = 0.05


@dataclass(frozen=True, slots=True)
class CandidateBudget:
    """Bounds of the checks.

    Parameters
    ----------
    alert_ratio : float
        The alert rate of the agents that run the candidate may be so many times what it was before.
    false_alarm : float
        Chance that a stage in which the rate stayed inside its bound is halted for it.
    failure_fraction : float
        Share of the agents that tried the candidate which may fail to load it, of those that run it and of those that
        score with it beside: their own disks break, too.
    silent_fraction : float
        Share of the agents that ran the candidate which may have fallen silent since.
    shadow_ratio : float
        The candidate may flag so many times the events that the model in use flags.
    """

    alert_ratio: float = 2.0
    false_alarm: float = 0.01
    failure_fraction: float = 0.02
    silent_fraction: float = 0.1
    shadow_ratio: float = 2.0


@dataclass(frozen=True, slots=True)
class AlertRates:
    """Alerts of the agents that run a candidate, each kind counted once in ten minutes.

    Parameters
    ----------
    before : AlertTally
        In the week before the stage.
    since : AlertTally
        Under the candidate.
    dispersion : float
        Variance over mean of the hourly counts from before, at least 1.
    kinds, others, others_before : AlertTally
        Kinds of alerts, each counted once an agent: of these agents lately, of all agents without the candidate in the
        same time, and of those in as long a time before the stage.
    """

    before: AlertTally = _NOTHING
    since: AlertTally = _NOTHING
    dispersion: float = 1.0
    kinds: AlertTally = _NOTHING
    others: AlertTally = _NOTHING
    others_before: AlertTally = _NOTHING

    @property
    def is_fleet_louder(self) -> bool:
        """Whether the rate of the agents without the candidate rose, too."""
        return rate_excess_p_value(self.others, self.others_before, 1.0) < LOUDER_SIGNIFICANCE


@dataclass(frozen=True, slots=True)
class ShadowSum:
    """What agents that score with the candidate beside the model in use have reported, added up."""

    agents: int = 0
    scored: int = 0
    active_flagged: int = 0
    shadow_flagged: int = 0
    only_shadow: int = 0
    only_active: int = 0
    difference_sum: float = 0.0


@dataclass(frozen=True, slots=True)
class CandidateMeasures:
    """What is known of a candidate that agents have.

    Parameters
    ----------
    percent : float
        Share of agents that is to run it; 0 while all score with it in the shadow.
    cohort : int
        Active agents that this means.
    running, silent : int
        Those of them that run it, and those that ran it when they were heard last, five minutes ago or more.
    refused, refused_in_shadow : tuple of (str, str)
        Agents of the cohort, and agents outside, that refused it, with why.
    rates : AlertRates
    shadow : ShadowSum
    """

    percent: float = 0.0
    cohort: int = 0
    running: int = 0
    silent: int = 0
    refused: tuple[tuple[str, str], ...] = ()
    refused_in_shadow: tuple[tuple[str, str], ...] = ()
    rates: AlertRates = field(default_factory=AlertRates)
    shadow: ShadowSum = field(default_factory=ShadowSum)


def looks_due(seconds_in_stage: float) -> int:
    """Return how many looks at the alert rate are due after a time in a stage.

    Examples
    --------
    >>> [looks_due(seconds) for seconds in (59, 60, 119, 120, 1800)]
    [0, 1, 1, 2, 5]
    """
    if seconds_in_stage < FIRST_LOOK_SECONDS:
        return 0
    return 1 + math.floor(math.log2(seconds_in_stage / FIRST_LOOK_SECONDS))


def look_significance(look: int, false_alarm: float) -> float:
    """Return the chance of a false alarm that a look, counted from 1, may take; all of them add up to `false_alarm`.

    Examples
    --------
    >>> [round(look_significance(look, 0.01), 6) for look in (1, 2, 5)]
    [0.005, 0.001667, 0.000333]
    >>> round(sum(look_significance(look, 0.01) for look in range(1, 100_000)), 6)
    0.01
    """
    return false_alarm / (look * (look + 1))


def jump_p_value(rates: AlertRates, ratio: float) -> float:
    """Return the chance of so many alerts if the rate were `ratio` times the one before.

    Where the agents without the candidate became louder too, their rate is a second one that has to be exceeded so many
    times: the larger of the two chances is returned, which tests that both are.

    Notes
    -----
    Counts are divided by the dispersion, so that a burst weighs as much as one alert of an even stream, and rounded to
    the side on which fewer alarms lie. What is left are two Poisson counts, and their test is exact.

    References
    ----------
    Berger, Multiparameter hypothesis testing and acceptance sampling, Technometrics 24 (1982), on testing that both.

    Examples
    --------
    >>> calm, loud = AlertTally(20, 100.0), AlertTally(20, 10.0)
    >>> jump_p_value(AlertRates(calm, loud), 2.0) < 1e-4
    True
    >>> everybody = AlertRates(calm, loud, kinds=loud, others=AlertTally(40, 20.0), others_before=AlertTally(4, 20.0))
    >>> everybody.is_fleet_louder, jump_p_value(everybody, 2.0) > 0.9
    (True, True)
    """
    chance = _excess(rates.since, rates.before, rates.dispersion, ratio)
    if not rates.is_fleet_louder:
        return chance
    return max(chance, _excess(rates.kinds, rates.others, rates.dispersion, ratio))


def judge_candidate(measures: CandidateMeasures, budget: CandidateBudget, look: int) -> tuple[StageCheck, ...]:
    """Return the checks of a candidate's stage.

    Parameters
    ----------
    measures : CandidateMeasures
    budget : CandidateBudget
    look : int
        Which look at the alert rate this is, from 1; 0 before the first.
    """
    checks = [_failures(measures, budget)]
    if measures.percent > 0:
        checks += [_presence(measures, budget), _rate(measures.rates, budget, look)]
    else:
        checks.append(_shadow(measures.shadow, budget))
    return tuple(checks)


#: Checks that halt a candidate by themselves when they are missed.
HALTING: Final = frozenset({"load_failures", "alert_rate"})


def _failures(measures: CandidateMeasures, budget: CandidateBudget) -> StageCheck:
    sides = (
        (measures.refused, measures.running + measures.silent),
        (measures.refused_in_shadow, measures.shadow.agents),
    )
    failed, loaded = (*measures.refused, *measures.refused_in_shadow), sum(count for _, count in sides)
    allowed = [math.floor(budget.failure_fraction * (len(refused) + count)) for refused, count in sides]
    is_missed = any(len(refused) > most for (refused, _), most in zip(sides, allowed, strict=True))
    state, detail = CheckState.OK, f"{len(failed)} of {loaded + len(failed)} agents that tried it could not load it"
    if is_missed:
        named = ", ".join(f"{agent_id} ({code})" for agent_id, code in failed[:_NAMED])
        state, detail = CheckState.MISSED, f"{detail}: {named}"
    elif not loaded:
        state, detail = CheckState.UNKNOWN, "no agent has loaded it yet"
    value: dict[str, float | None] = {"running": float(len(measures.refused))}
    value["shadow"] = float(len(measures.refused_in_shadow))
    bound: dict[str, float | None] = {"running": float(allowed[0]), "shadow": float(allowed[1])}
    return StageCheck("load_failures", state, value, bound, detail)


def _presence(measures: CandidateMeasures, budget: CandidateBudget) -> StageCheck:
    ran = measures.running + measures.silent
    share = measures.silent / ran if ran else None
    state, detail = CheckState.OK, f"{measures.running} of {measures.cohort} agents of the cohort run it"
    if not ran:
        state = CheckState.UNKNOWN
        detail = (
            f"none of the {measures.cohort} agents of the cohort runs it yet"
            if measures.cohort
            else f"no agent is in a cohort of {measures.percent:g} %"
        )
    elif share is not None and share > budget.silent_fraction:
        state = CheckState.MISSED
        detail = f"{measures.silent} of {ran} agents that ran it have fallen silent"
    value = {"running": float(measures.running), "silent_fraction": share}
    return StageCheck(
        "agents_running", state, value, {"running": None, "silent_fraction": budget.silent_fraction}, detail
    )


def _rate(rates: AlertRates, budget: CandidateBudget, look: int) -> StageCheck:
    rate, rate_before = _per_hour(rates.since), _per_hour(rates.before)
    bound = None if rate_before is None else budget.alert_ratio * rate_before
    value, limits = {"alerts_per_agent_hour": rate}, {"alerts_per_agent_hour": bound}
    if look < 1 or rates.since.agent_hours <= 0:
        return StageCheck("alert_rate", CheckState.UNKNOWN, value, limits, "it has not run long enough to be judged")
    if rates.before.agent_hours <= 0:
        detail = "nothing is known of these agents from before"
        return StageCheck("alert_rate", CheckState.UNKNOWN, value, limits, detail)
    chance, asked = jump_p_value(rates, budget.alert_ratio), look_significance(look, budget.false_alarm)
    detail = (
        f"{rates.since.alerts} alerts in {rates.since.agent_hours:.2f} agent-hours, {rates.before.alerts} in "
        f"{rates.before.agent_hours:.1f} before (p = {chance:.2g}, halts below {asked:.2g} at look {look})"
    )
    if chance < asked:
        loud = f"more than {budget.alert_ratio:g} times the rate of before: {detail}"
        return StageCheck("alert_rate", CheckState.MISSED, value, limits, loud)
    return StageCheck("alert_rate", CheckState.OK, value, limits, detail)


def _shadow(shadow: ShadowSum, budget: CandidateBudget) -> StageCheck:
    value: dict[str, float | None] = {"scored": float(shadow.scored), "flagged": float(shadow.shadow_flagged)}
    limits: dict[str, float | None] = {"scored": None, "flagged": budget.shadow_ratio * shadow.active_flagged}
    if not shadow.scored:
        detail = "no event was scored with it beside the model in use"
        return StageCheck("shadow_scores", CheckState.UNKNOWN, value, limits, detail)
    detail = (
        f"of {shadow.scored} events on {shadow.agents} agents it flags {shadow.shadow_flagged}, the model in use "
        f"{shadow.active_flagged}; they differ on {shadow.only_shadow + shadow.only_active}"
    )
    flagged = AlertTally(shadow.shadow_flagged, float(shadow.scored))
    chance = rate_excess_p_value(flagged, AlertTally(shadow.active_flagged, float(shadow.scored)), budget.shadow_ratio)
    state = CheckState.MISSED if chance < budget.false_alarm else CheckState.OK
    return StageCheck("shadow_scores", state, value, limits, detail)


def _excess(here: AlertTally, there: AlertTally, dispersion: float, ratio: float) -> float:
    thinned = here._replace(alerts=math.floor(here.alerts / dispersion))
    return rate_excess_p_value(thinned, there._replace(alerts=math.ceil(there.alerts / dispersion)), ratio)


def _per_hour(tally: AlertTally) -> float | None:
    return tally.alerts / tally.agent_hours if tally.agent_hours > 0 else None
