"""Phase statistics of sequences whose period is known."""

import numpy as np
import pytest

from eguard.estimators.phase import (
    INTERVAL_PHASE_NULL,
    NULL_N,
    REGULARITY_NULL,
    SMALLEST_TABLE_P,
    _centred_power,
    _half_cycle_sums,
    _table_p_value,
    dispersion,
    event_phase,
    interval_phase,
)


def schedule(rng, n, period, jitter=0.0, missed=0.0):
    """Beats k*period, each moved by up to jitter/2 of the period either way, a share of them missed; from 0."""
    beats = np.flatnonzero(rng.random(20 * n) >= missed)[:n]
    times = period * (beats + rng.uniform(-jitter / 2, jitter / 2, n))
    return times - times[0]


def test_half_cycle_sums_equal_their_definition(rng):
    u = rng.random(37)
    for last in (8, 63, 64, 65, 500):
        expected = [np.exp(1j * np.pi * k * u).sum() for k in range(last + 1)]
        np.testing.assert_allclose(_half_cycle_sums(u, last), expected, atol=1e-10)


@pytest.mark.parametrize("n", [20, 33, 128, 256])
def test_event_phase_finds_the_fundamental_of_a_perfect_schedule(n):
    test = event_phase(7.5 * np.arange(n))
    assert test.period_seconds == pytest.approx(7.5, rel=1e-3)
    assert test.p_value < 1e-5


def test_event_phase_finds_a_jittered_schedule_with_half_of_its_beats_missed(rng):
    for _ in range(20):
        test = event_phase(schedule(rng, 128, period=60.0, jitter=0.5, missed=0.5))
        assert test.period_seconds == pytest.approx(60.0, rel=0.01)
        assert test.p_value < 1e-6


def test_event_phase_does_not_depend_on_the_unit_of_time(rng):
    times = schedule(rng, 50, period=60.0, jitter=0.5)
    seconds, hours = event_phase(times), event_phase(times / 3600.0)
    assert hours.statistic == pytest.approx(seconds.statistic)
    assert hours.period_seconds * 3600.0 == pytest.approx(seconds.period_seconds)


def test_event_phase_names_the_fundamental_where_an_overtone_is_stronger():
    # The last event, a quarter beat late, moves the fundamental between two candidates and its overtone onto one.
    times = 60.0 * np.append(np.arange(41.0), 41.25)
    cycles, power = _centred_power(times)
    assert power[cycles == 165].item() > power[np.abs(cycles - 82.5) < 1].max()
    assert event_phase(times).period_seconds == pytest.approx(60.0, rel=2e-3)


def test_the_power_of_uniform_times_is_exponential_with_mean_one_at_even_and_odd_half_cycles(rng):
    powers = []
    for _ in range(400):
        times = np.sort(rng.random(128))
        cycles, power = _centred_power((times - times[0]) / np.ptp(times))
        powers.append(power[:8])
    # Standard errors are .05; without the subtraction the ninth half cycle alone would have 1.6.
    np.testing.assert_allclose(np.mean(powers, axis=0), 1.0, atol=0.2)
    assert cycles[0] == 8


def test_interval_phase_finds_the_period_behind_missed_beats():
    intervals = 30.0 * np.array([1, 1, 2, 1, 3, 1, 1, 2, 1, 1, 4, 2, 1, 1, 1, 2, 1, 1, 1, 2.0])
    test, coherence = interval_phase(intervals)
    assert coherence == pytest.approx(1.0, abs=0.05)
    assert test.period_seconds == pytest.approx(30.0, rel=1e-6)
    assert test.p_value < 1e-3


def test_a_common_phase_that_is_not_zero_makes_no_period():
    # 45 and 75 s share the phase pi modulo 30 s, but only of 15 s are both multiples.
    test, coherence = interval_phase(np.tile([45.0, 75.0, 45.0], 10))
    assert coherence > 0.99
    assert test.period_seconds == pytest.approx(15.0, rel=1e-6)


def test_interval_phase_survives_jitter_that_accumulates(rng):
    steps = 60.0 * (1.0 - rng.uniform(0.0, 0.5, 2000))
    kept = np.cumsum(steps)[rng.random(2000) >= 0.5][:257]
    test, _ = interval_phase(np.diff(kept))
    assert test.p_value < 1e-3


def test_dispersion_is_one_minus_mad_over_median():
    test = dispersion(np.array([8.0, 9.0, 10.0, 12.0, 30.0]))
    assert test.statistic == pytest.approx(0.8)
    assert test.period_seconds == 10.0
    assert dispersion(np.array([1.0, 1.0, 100.0, 100.0, 1.0, 100.0])).statistic == pytest.approx(1.0 - 49.5 / 50.5)


@pytest.mark.parametrize("table", [INTERVAL_PHASE_NULL, REGULARITY_NULL])
def test_p_values_are_the_tables_own_at_its_points_and_monotone_between(table):
    for row, n in zip(table, NULL_N, strict=True):
        for statistic, p in zip(row, (1.0, 0.5, 0.1, 0.01, 0.001), strict=True):
            assert _table_p_value(statistic, int(n), table) == pytest.approx(p)
        grid = [_table_p_value(s, int(n), table) for s in np.linspace(0.0, 2.0 * row[-1], 200)]
        assert (np.diff(grid) <= 0.0).all()
        assert grid[-1] >= SMALLEST_TABLE_P


def test_p_values_between_and_beyond_the_simulated_sizes_use_the_nearest():
    between = _table_p_value(9.0, 45, INTERVAL_PHASE_NULL)
    assert _table_p_value(9.0, 32, INTERVAL_PHASE_NULL) < between < _table_p_value(9.0, 64, INTERVAL_PHASE_NULL)
    assert _table_p_value(9.0, 19, INTERVAL_PHASE_NULL) == _table_p_value(9.0, 20, INTERVAL_PHASE_NULL)
