"""Each rule at its boundary, with bounds by SciPy; and quiet on a fleet that is well and noisy."""

import numpy as np
import pytest
from scipy import stats

from eguard.server.services.alert_rules import (
    BusyAgent,
    adwin_alarms,
    aggregation,
    high_information_destinations,
    js_trend,
    safety,
    seed_effectiveness,
    stale_transitions,
    tree_anomalies,
    upload_rejects,
)

DAYS = 7.0


@pytest.mark.parametrize(
    ("windows", "state"),
    [
        ([1, 1, 1, 1, 1, 1], "alert"),
        ([1, 1, 1, 1, 1, 0], "ok"),
        ([0, 1, 1, 1, 1, 1], "ok"),
        ([900, 900, 900, 900, 900], "ok"),  # twenty-five minutes
        ([0, 1, 1, 1, 1, 1, 1], "alert"),  # the latest six
        ([1, 1, 1, 1, 1, 1, 0], "ok"),
    ],
)
def test_rejects_have_to_be_there_in_six_windows(windows, state):
    verdict = upload_rejects(windows)
    assert (verdict.state, verdict.value) == (state, sum(windows[-6:]))


@pytest.mark.parametrize(
    ("applied", "fleet_rows", "learning", "state"),
    [
        (0, 1, 1, "alert"),
        (1, 1, 1, "ok"),
        (0, 0, 1, "ok"),
        (0, 1, 0, "ok"),
        (None, 1, 1, "unknown"),
        (None, 0, 0, "ok"),
    ],
)
def test_seeds_are_missed_only_where_there_are_some_and_somebody_needs_them(applied, fleet_rows, learning, state):
    assert seed_effectiveness(applied, fleet_rows=fleet_rows, learning_agents=learning).state == state


@pytest.mark.parametrize(("failures", "state"), [(None, "unknown"), (0, "ok"), (1, "ok"), (2, "alert"), (9, "alert")])
def test_two_aggregations_have_to_fail(failures, state):
    assert aggregation(failures).state == state


@pytest.mark.parametrize("past", [0, 7, 21, 70, 700, 7000])
def test_stale_transitions_have_to_exceed_what_chance_gives(past):
    bound = int(stats.poisson.ppf(0.999, past / DAYS)) if past else 0
    first = max(bound + 1, 5)
    assert stale_transitions(first - 1, past, DAYS).state == "ok"
    assert stale_transitions(first, past, DAYS).state == "alert"


def test_a_mean_of_stale_transitions_is_over_the_days_that_were_counted():
    assert stale_transitions(6, 2, 2.0).state == "alert"  # a mean of 1 a day: the bound is 5
    assert stale_transitions(6, 4, 2.0).state == "ok"  # of 2: the bound is 8
    assert stale_transitions(1000, 1, 0.99).state == "unknown"


@pytest.mark.parametrize(
    ("frozen", "changes", "state"),
    [([], [], "ok"), (["r"], [], "ok"), ([], ["x"], "ok"), (["r"], ["revision 7 of p by ada"], "alert")],
)
def test_a_change_counts_while_something_is_frozen(frozen, changes, state):
    assert safety(frozen, changes).state == state


@pytest.mark.parametrize(
    ("previous", "reference", "state"),
    [
        ([0.1001, 0.1001], [0.0, 0.0], "alert"),
        ([0.0, 0.0], [0.1001, 0.1001], "alert"),
        ([0.1, 0.1001], [0.1001, 0.1], "ok"),
        ([0.1001, None], [], "ok"),
        ([0.5], [0.5], "ok"),  # the second cycle is to come
        ([0.05, 0.5, 0.5], [], "ok"),  # it is over
        ([], [], "unknown"),
        ([None], [None], "unknown"),
    ],
)
def test_the_baseline_moves_in_two_cycles_of_either_series(previous, reference, state):
    assert js_trend(previous, reference).state == state


@pytest.mark.parametrize(("count", "state"), [(0, "ok"), (3, "ok"), (4, "alert")])
def test_more_than_three_alarms_of_adwin_are_a_drift_of_the_system(count, state):
    assert adwin_alarms(count).state == state


@pytest.mark.parametrize(("scored", "alpha"), [(0, 0.01), (20, 0.01), (100, 0.01), (1000, 0.01), (5000, 0.05)])
def test_beacons_of_an_agent_have_to_exceed_what_chance_confirms(scored, alpha):
    bound = int(stats.binom.ppf(0.999, scored, alpha)) if scored else 0
    first = max(bound + 1, 6)
    quiet = BusyAgent("quiet", 1000, 3, 0.01)
    assert high_information_destinations([quiet, BusyAgent("a", scored, first - 1, alpha)]).state == "ok"
    verdict = high_information_destinations([quiet, BusyAgent("a", scored, first, alpha)])
    assert (verdict.state, verdict.value, verdict.bound) == ("alert", first, first - 1)
    assert [each["agent_id"] for each in verdict.numbers["above"]] == ["a"]


def test_without_agents_that_score_nothing_is_known_of_beacons():
    assert high_information_destinations([]).state == "unknown"


@pytest.mark.parametrize(("seen", "past_anomalous"), [(40, 10), (400, 10), (4000, 100), (3, 10), (400, 0)])
def test_trees_have_to_exceed_twice_the_rate_of_the_week(seen, past_anomalous):
    past = {"past_seen": 10_000, "past_anomalous": past_anomalous, "days": DAYS}
    bound = int(max(stats.binom.ppf(0.999, seen, 2.0 * past_anomalous / 10_000), 0))
    first = max(bound + 1, 5)
    assert tree_anomalies(seen, first - 1, **past).state == "ok"
    assert tree_anomalies(seen, first, **past).state == "alert"


def test_trees_without_a_past_are_not_judged():
    assert tree_anomalies(100, 50, past_seen=0, past_anomalous=0, days=DAYS).state == "unknown"
    assert tree_anomalies(100, 50, past_seen=900, past_anomalous=9, days=0.5).state == "unknown"


def test_a_rate_above_a_half_cannot_be_doubled():
    assert tree_anomalies(100, 100, past_seen=100, past_anomalous=80, days=DAYS).state == "ok"


def test_a_healthy_noisy_fleet_is_quiet_for_a_week():
    """A look every five minutes of seven days, after eight of history."""
    rng = np.random.default_rng(20_261_123)
    per_day = 288
    stale = rng.poisson(12.0 / per_day, 15 * per_day)
    trees = rng.poisson(30.0, 15 * per_day)
    shapes = rng.binomial(trees, 0.02)
    rejects = rng.binomial(1, 0.05, 15 * per_day)
    fired = {"stale": 0, "trees": 0, "rejects": 0}
    for end in range(8 * per_day, 15 * per_day):
        day, hour = slice(end - per_day, end), slice(end - 12, end)
        before_day, before_hour = slice(end - 8 * per_day, end - per_day), slice(end - 7 * per_day - 12, end - 12)
        fired["stale"] += stale_transitions(int(stale[day].sum()), int(stale[before_day].sum()), DAYS).state == "alert"
        past = {"past_seen": int(trees[before_hour].sum()), "past_anomalous": int(shapes[before_hour].sum())}
        verdict = tree_anomalies(int(trees[hour].sum()), int(shapes[hour].sum()), **past, days=DAYS)
        fired["trees"] += verdict.state == "alert"
        fired["rejects"] += upload_rejects(rejects[end - 6 : end].tolist()).state == "alert"
    assert fired == {"stale": 0, "trees": 0, "rejects": 0}


def test_what_a_healthy_fleet_hides_is_found_when_it_comes():
    rng = np.random.default_rng(20_261_124)
    past = int(rng.poisson(12.0, 7).sum())
    assert stale_transitions(int(rng.poisson(12.0)) + 20, past, DAYS).state == "alert"
    assert tree_anomalies(360, 30, past_seen=60_000, past_anomalous=1200, days=DAYS).state == "alert"
