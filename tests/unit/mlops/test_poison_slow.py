"""The slow attack: blind to neighbours, visible against the pinned reference, never an alarm without it."""

import numpy as np
import pytest

from eguard.estimators import jensen_shannon_nats
from eguard.mlops.poison_profiles import KeyProfiles
from eguard.mlops.poison_slow import (
    DETECTORS,
    Timeline,
    _AdwinChart,
    _twice,
    clean_reference,
    detection_rows,
    series_rows,
    walk,
)

HOSTS = KeyProfiles("a:b", ("h1", "h2"), np.array([[40, 10, 5, 5, 5, 435, 0, 0], [30, 20, 5, 5, 5, 435, 0, 0]]))
TARGET = np.array([0, 0, 0.1, 0.7, 0.2, 0, 0, 0])
TIMELINE = Timeline(learning_cycles=80)
SHARES = (0.0, 0.1, 0.3, 0.49)


@pytest.fixture(scope="module")
def runs():
    return walk([HOSTS], TARGET, SHARES, TIMELINE, n_agents=40, repetitions=6, rng=np.random.default_rng(2))


@pytest.fixture(scope="module")
def rows(runs):
    return {(row["share"], row["detector"]): row for row in detection_rows(runs, TIMELINE)}


def test_a_hundred_equal_steps_of_a_whole_fleet_as_the_design_has_them():
    """From (.7, .2, .1) to (.1, .2, .7): never more than 5.0e-5 a step, beyond .1 from the start at step 62."""
    start, end = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.2, 0.7])
    steps = np.linspace(0, 1, 101)[:, None]
    path = (1 - steps) * start + steps * end
    assert jensen_shannon_nats(path[1:], path[:-1]).max() == pytest.approx(5.0e-5, abs=5e-7)
    assert int(np.argmax(jensen_shannon_nats(path, start) > 0.1)) == 62


def test_shapes_are_those_described(runs):
    assert runs.published.shape == (4, 6, TIMELINE.cycles, 8)
    assert runs.js_pinned.shape == runs.js_previous.shape == (4, 6, 180)
    assert set(runs.alarms) == set(DETECTORS)


def test_all_shares_are_one_fleet_until_the_walk_begins(runs):
    before = runs.published[:, :, : -TIMELINE.steps]
    np.testing.assert_array_equal(before, np.broadcast_to(before[:1], before.shape))


def test_a_fleet_without_liars_is_quiet(rows):
    for detector in DETECTORS:
        assert rows[0.0, detector]["found_fraction"] <= 1 / 6
        assert rows[0.0, detector]["false_alarms"] <= 1
    assert rows[0.0, "cusum_pinned"]["stationary_cycles"] == 6 * 50


def test_the_pinned_reference_finds_what_the_previous_cycle_hides(rows):
    assert rows[0.3, "cusum_pinned"]["found_fraction"] == 1.0
    assert rows[0.3, "cusum_pinned"]["delay_cycles_median"] <= 60
    assert rows[0.49, "level_previous"]["found_fraction"] == 0.0
    assert rows[0.3, "cusum_previous"]["found_fraction"] < rows[0.3, "cusum_pinned"]["found_fraction"]


def test_more_liars_are_found_sooner(rows):
    delays = [rows[share, "cusum_pinned"]["delay_cycles_median"] for share in (0.1, 0.3, 0.49)]
    assert all(delay is not None for delay in delays[1:])
    assert delays[2] <= delays[1] <= (delays[0] or np.inf)


def test_the_shift_grows_along_the_walk(runs):
    series = [row for row in series_rows(runs, TIMELINE, clean_reference(runs, TIMELINE)) if row["share"] == 0.49]
    assert [row["cycle"] for row in series] == list(range(1, 101))
    moved = np.array([row["total_variation"] for row in series])
    assert moved[-10:].mean() > 2 * moved[:10].mean()
    assert all(row["js_pinned_nats_low"] <= row["js_pinned_nats"] <= row["js_pinned_nats_high"] for row in series)


def test_the_level_rule_wants_two_cycles_in_a_row():
    above = np.array([[True, False, True, True, True, False]])
    assert _twice(above).tolist() == [[False, False, False, True, True, False]]


def test_a_cycle_that_was_not_published_passes_the_detectors_by():
    chart, gapped = _AdwinChart(30), _AdwinChart(30)
    values = np.random.default_rng(0).normal(size=230).tolist() + [4.0] * 60
    plain = [chart.update(value) for value in values]
    with_gaps = [gapped.update(value) for pair in values for value in (float("nan"), pair)]
    assert any(plain)
    assert with_gaps[1::2] == plain
    assert not any(with_gaps[::2])


def test_the_same_seed_gives_the_same_runs(runs):
    again = walk([HOSTS], TARGET, SHARES, TIMELINE, n_agents=40, repetitions=6, rng=np.random.default_rng(2))
    np.testing.assert_array_equal(again.published, runs.published)
    for detector in DETECTORS:
        np.testing.assert_array_equal(again.alarms[detector], runs.alarms[detector])
