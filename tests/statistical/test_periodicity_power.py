"""Periodicity by simulation: what is found from how many observations, and what the p-value is worth."""

import math

import numpy as np
import pytest

from eguard.estimators import periodicity_score
from eguard.estimators.phase import dispersion, event_phase, interval_phase

PERIOD = 60.0
ALPHA = 0.001


def fixed_schedule(rng, n, jitter, missed):
    """Beat k at k*T, moved by up to jitter/2 of T either way: jitter does not accumulate."""
    beats = np.flatnonzero(rng.random(10 * n) >= missed)[:n]
    return PERIOD * (beats + rng.uniform(-jitter / 2.0, jitter / 2.0, n))


def sleeping(rng, n, jitter, missed):
    """Sleep of T*(1 - U(0, jitter)) after every beat: jitter accumulates."""
    times = np.cumsum(PERIOD * (1.0 - rng.uniform(0.0, jitter, 10 * n)))
    return times[rng.random(10 * n) >= missed][:n]


def power(kind, n, jitter, missed, runs, seed=0):
    rng = np.random.default_rng(seed)
    results = [periodicity_score(kind(rng, n, jitter, missed)) for _ in range(runs)]
    return float(np.mean([r.p_value <= ALPHA for r in results])), results


@pytest.mark.slow
def test_a_fixed_schedule_with_half_jitter_and_half_of_its_beats_missed_is_found_from_64_on():
    found, results = power(fixed_schedule, 64, jitter=0.5, missed=0.5, runs=150)
    assert found == 1.0
    errors = [abs(r.period_seconds / PERIOD - 1.0) for r in results]
    assert np.mean(np.array(errors) < 0.02) >= 0.98
    assert power(fixed_schedule, 128, jitter=0.5, missed=0.5, runs=60)[0] == 1.0


@pytest.mark.slow
def test_below_64_observations_the_same_schedule_is_found_in_part():
    assert 0.3 <= power(fixed_schedule, 32, jitter=0.5, missed=0.5, runs=200)[0] <= 0.7
    assert power(fixed_schedule, 20, jitter=0.5, missed=0.5, runs=200)[0] <= 0.15
    assert power(fixed_schedule, 32, jitter=0.4, missed=0.0, runs=100)[0] >= 0.98


@pytest.mark.slow
def test_jitter_that_accumulates_needs_twice_the_observations():
    assert power(sleeping, 32, jitter=0.5, missed=0.0, runs=100)[0] >= 0.98
    assert 0.3 <= power(sleeping, 64, jitter=0.5, missed=0.5, runs=150)[0] <= 0.8
    assert power(sleeping, 128, jitter=0.5, missed=0.5, runs=100)[0] >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("n", [20, 64, 256])
def test_under_a_poisson_process_the_p_value_is_not_exceeded(n):
    rng = np.random.default_rng(n)
    runs = 1500 if n < 256 else 400
    p_values = np.array([periodicity_score(np.cumsum(rng.exponential(PERIOD, n))).p_value for _ in range(runs)])
    for alpha in (0.1, 0.01):
        assert (p_values <= alpha).mean() <= alpha + 3.0 * math.sqrt(alpha * (1.0 - alpha) / runs)


@pytest.mark.slow
@pytest.mark.parametrize("n", [24, 100])
def test_each_statistic_holds_its_own_level_between_the_tabulated_sizes(n):
    rng = np.random.default_rng(n)
    runs = 3000
    intervals = rng.exponential(PERIOD, size=(runs, n))
    tests = {
        "dispersion": [dispersion(row).p_value for row in intervals],
        "interval phase": [interval_phase(row)[0].p_value for row in intervals],
        "event phase": [event_phase(np.append(0.0, np.cumsum(row))).p_value for row in intervals[:1000]],
    }
    for name, p_values in tests.items():
        for alpha in (0.1, 0.01):
            allowed = alpha + 3.0 * math.sqrt(alpha * (1.0 - alpha) / len(p_values))
            assert np.mean(np.array(p_values) <= alpha) <= 1.1 * allowed, name


@pytest.mark.slow
def test_bursty_traffic_is_no_poisson_process_and_the_p_value_says_so_without_a_timer():
    # This is why the p-value is documented as no false-alarm rate.
    rng = np.random.default_rng(7)
    runs = 60
    p_values = [periodicity_score(np.cumsum(rng.lognormal(2.0, 2.0, 64))).p_value for _ in range(runs)]
    assert np.mean(np.array(p_values) <= ALPHA) > 0.05


def test_scores_order_timers_above_chance():
    rng = np.random.default_rng(8)
    chance = [periodicity_score(np.cumsum(rng.exponential(PERIOD, 64))).score for _ in range(60)]
    beacons = [periodicity_score(fixed_schedule(rng, 64, 0.3, 0.0)).score for _ in range(60)]
    assert min(beacons) > max(chance)
    assert np.mean(chance) < 0.65
