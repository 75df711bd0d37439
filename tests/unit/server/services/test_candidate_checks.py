"""The checks of a candidate's stage, against figures worked out by hand and by another library."""

import math

import pytest
from scipy.stats import binom

from eguard.server.services.candidate_checks import (
    AlertRates,
    CandidateBudget,
    CandidateMeasures,
    ShadowSum,
    judge_candidate,
    jump_p_value,
    look_significance,
    looks_due,
)
from eguard.server.services.rollout_checks import AlertTally, CheckState

BUDGET = CandidateBudget()
OK, MISSED, UNKNOWN = CheckState.OK, CheckState.MISSED, CheckState.UNKNOWN


def states(measures, look=5):
    return {check.name: check.state for check in judge_candidate(measures, BUDGET, look)}


def test_the_jump_is_the_exact_conditional_test_at_twice_the_rate():
    rates = AlertRates(before=AlertTally(30, 100.0), since=AlertTally(12, 10.0))
    share = 2.0 * 10.0 / (2.0 * 10.0 + 100.0)  # of all 42 alerts, were the rate exactly twice the one before
    assert jump_p_value(rates, 2.0) == pytest.approx(binom.sf(11, 42, share))


def test_bursts_are_divided_out_and_rounded_against_an_alarm():
    rates = AlertRates(before=AlertTally(10, 100.0), since=AlertTally(11, 10.0), dispersion=4.0)
    share = 20.0 / 120.0
    assert jump_p_value(rates, 2.0) == pytest.approx(binom.sf(1, 5, share))  # 11 / 4 -> 2, 10 / 4 -> 3


def test_a_louder_fleet_has_to_be_exceeded_as_well():
    loud = AlertRates(
        before=AlertTally(0, 100.0),
        since=AlertTally(40, 1.0),
        kinds=AlertTally(40, 1.0),
        others=AlertTally(80, 2.0),
        others_before=AlertTally(0, 2.0),
    )
    assert loud.is_fleet_louder
    assert jump_p_value(loud, 2.0) > 0.99
    beyond = AlertRates(loud.before, loud.since, 1.0, loud.kinds, AlertTally(8, 2.0), loud.others_before)
    assert beyond.is_fleet_louder
    assert jump_p_value(beyond, 2.0) == pytest.approx(binom.sf(39, 48, 0.5))  # twice in 1 h against once in 2 h
    calm = AlertRates(loud.before, loud.since, 1.0, loud.kinds, AlertTally(3, 2.0), AlertTally(3, 2.0))
    assert not calm.is_fleet_louder
    assert jump_p_value(calm, 2.0) == pytest.approx(binom.sf(39, 40, 2.0 / 102.0))


@pytest.mark.parametrize(
    ("running", "refused", "in_shadow", "shadow_agents", "expected"),
    [
        (0, 0, 0, 0, UNKNOWN),
        (5, 0, 0, 0, OK),
        (48, 1, 0, 0, MISSED),  # 1 of 49
        (49, 1, 0, 0, OK),  # 1 of 50
        (98, 2, 0, 0, OK),
        (97, 3, 0, 0, MISSED),
        (0, 1, 0, 1000, MISSED),  # a thousand in the shadow do not outvote the one that runs it
        (10, 0, 1, 10, MISSED),
        (10, 0, 1, 49, OK),
    ],
)
def test_load_failures_are_a_share_of_each_side(running, refused, in_shadow, shadow_agents, expected):
    measures = CandidateMeasures(
        percent=1.0,
        cohort=running + refused,
        running=running,
        refused=tuple((f"a{n}", "bundle_load") for n in range(refused)),
        refused_in_shadow=tuple((f"s{n}", "bundle_load") for n in range(in_shadow)),
        shadow=ShadowSum(agents=shadow_agents),
    )
    assert states(measures)["load_failures"] is expected


def test_nobody_in_the_cohort_and_agents_that_fell_silent_hold_it():
    assert states(CandidateMeasures(percent=1.0, cohort=3))["agents_running"] is UNKNOWN
    assert states(CandidateMeasures(percent=1.0))["agents_running"] is UNKNOWN
    assert states(CandidateMeasures(percent=1.0, cohort=10, running=9, silent=1))["agents_running"] is OK
    assert states(CandidateMeasures(percent=1.0, cohort=10, running=8, silent=2))["agents_running"] is MISSED


def test_a_rate_that_cannot_be_judged_is_unknown_and_no_reason_to_halt():
    since = AlertTally(1000, 1.0)
    never = CandidateMeasures(percent=1.0, cohort=1, running=1, rates=AlertRates(since=since))
    assert states(never)["alert_rate"] is UNKNOWN
    known = CandidateMeasures(percent=1.0, cohort=1, running=1, rates=AlertRates(AlertTally(1, 100.0), since))
    assert states(known, look=0)["alert_rate"] is UNKNOWN
    assert states(known, look=1)["alert_rate"] is MISSED


def test_the_shadow_is_judged_before_the_canary_and_the_rate_in_it():
    shadow = ShadowSum(agents=3, scored=10_000, active_flagged=50, shadow_flagged=100)
    assert states(CandidateMeasures(shadow=shadow)) == {"load_failures": OK, "shadow_scores": OK}
    louder = ShadowSum(agents=3, scored=10_000, active_flagged=50, shadow_flagged=160)
    assert states(CandidateMeasures(shadow=louder))["shadow_scores"] is MISSED
    assert states(CandidateMeasures())["shadow_scores"] is UNKNOWN
    assert "shadow_scores" not in states(CandidateMeasures(percent=1.0, cohort=1, running=1))


def test_looks_are_due_at_doubling_ages_and_spend_no_more_than_all():
    assert [looks_due(60.0 * 2**power) for power in range(11)] == list(range(1, 12))
    assert looks_due(math.nextafter(60.0, 0.0)) == 0
    assert sum(look_significance(look, 0.01) for look in range(1, 10_000)) < 0.01
