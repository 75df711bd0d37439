"""Counts by hour and day, and divergences from each kind of reference, by hand."""

import numpy as np
import pytest

from eguard.estimators import jensen_shannon_nats
from eguard.events import EventBatch
from eguard.mlops.drift_alerts import HOUR_SECONDS, split_networks
from eguard.mlops.drift_counts import divergences, fold, step_counts, with_network
from eguard.mlops.drift_series import rule_series

HALF = float(jensen_shannon_nats([0.5, 0.5], [1.0, 0.0]))
LN2 = float(np.log(2))


def series(*periods):
    return np.array([periods], dtype=np.int64)


def test_counts_are_by_step_host_hour_and_class():
    batch = EventBatch(
        time_unix=np.array([0.0, 10.0, 3_700.0, 3_800.0]),
        group=["n"] * 4,
        host_id=["x", "y", "x", "x"],
        rule_id=["A", "A", "B", "A"],
        label=["", "", "scan", ""],
        event_class=[7] * 4,
    )
    (network,) = split_networks(batch, 24)
    counts = step_counts(network)
    assert counts.shape == (2, 2, 2, 64)
    assert counts.sum() == 4
    ordinary, scan = network.steps.index(""), network.steps.index("scan")
    assert counts[ordinary, 0, :, 0].tolist() == [1, 1]  # host x, class of A
    assert counts[ordinary, 1, :, 0].tolist() == [1, 0]
    assert counts[scan, 0, :, 1].tolist() == [0, 1]
    assert with_network(counts.sum(axis=0))[0, :, :2].tolist() == [[2, 0], [1, 1]]


def test_days_are_whole_days():
    hours = np.ones((1, 50, 3), dtype=np.int64)
    assert fold(hours, 24).tolist() == [[[24, 24, 24], [24, 24, 24]]]


def test_previous_is_the_last_period_with_enough_events():
    found = divergences(series([4, 4], [4, 4], [1, 0], [8, 0]), 1, min_events=2, same_hour_width=None)["previous"]
    assert np.isnan(found.js_nats[0, [0, 2]]).all()
    assert found.js_nats[0, 1] == 0.0
    assert found.js_nats[0, 3] == pytest.approx(HALF)  # against period 1, for period 2 holds a single event
    assert found.bias_nats[0, 3] == pytest.approx(1 / 8 * (1 / 8 + 1 / 8))


def test_the_pinned_reference_is_the_sum_of_the_first_periods_and_is_not_compared_with_itself():
    found = divergences(series([4, 0], [0, 4], [4, 4], [0, 9]), 2, min_events=1, same_hour_width=None)["pinned"]
    assert np.isnan(found.js_nats[0, :2]).all()
    assert found.js_nats[0, 2] == 0.0
    assert found.js_nats[0, 3] == pytest.approx(HALF)
    assert found.excess_nats[0, 3] == pytest.approx(HALF - 1 / 8 * (1 / 9 + 1 / 8))


def test_the_same_hour_takes_in_its_neighbours_around_midnight():
    day = np.zeros((24, 2), dtype=np.int64)
    day[23], day[0], day[1], day[12] = [6, 0], [0, 6], [6, 0], [0, 50]
    night = np.array([[0, 6]])
    counts = np.concatenate([day, night, np.zeros((23, 2), dtype=np.int64)])[np.newaxis]
    near = divergences(counts, 24, min_events=1, same_hour_width=1)["same_hour"]
    alone = divergences(counts, 24, min_events=1, same_hour_width=0)["same_hour"]
    assert alone.js_nats[0, 24] == 0.0
    assert near.js_nats[0, 24] == pytest.approx(float(jensen_shannon_nats([0.0, 1.0], [12 / 18, 6 / 18])))
    pinned = divergences(counts, 24, min_events=1, same_hour_width=1)["pinned"]
    assert pinned.js_nats[0, 24] == pytest.approx(float(jensen_shannon_nats([0.0, 1.0], [12 / 68, 56 / 68])))


def test_days_have_no_same_hour():
    assert set(divergences(series([1, 1]), 1, min_events=1, same_hour_width=None)) == {"previous", "pinned"}


def test_disjoint_periods_are_ln_2_apart():
    found = divergences(series([5, 0], [0, 5]), 1, min_events=1, same_hour_width=None)
    assert found["previous"].js_nats[0, 1] == found["pinned"].js_nats[0, 1] == pytest.approx(LN2)


def test_the_hours_of_the_replay_are_the_same_numbers():
    """`drift_series` works alert batch by alert batch; both must say the same of a network that starts on the hour."""
    rng = np.random.default_rng(3)
    times = np.sort(rng.uniform(0.0, 60 * HOUR_SECONDS, 3_000))
    times[0] = 0.0
    rules = [f"R{rule}" for rule in rng.integers(0, 9, times.size)]
    batch = EventBatch(
        time_unix=times, group=["n"] * times.size, host_id=["n/h"] * times.size, rule_id=rules, event_class=[7] * 3_000
    )
    (network,) = split_networks(batch, 24)
    found = divergences(with_network(step_counts(network).sum(axis=0)), 24, min_events=1, same_hour_width=1)
    for point in rule_series(batch, "n"):
        if point.scope == "network" and point.period_seconds == HOUR_SECONDS:
            own = found[point.reference]
            hour = int(point.time_unix / HOUR_SECONDS) - 1
            assert own.js_nats[0, hour] == pytest.approx(point.value, abs=1e-12)
            assert own.bias_nats[0, hour] == pytest.approx(point.bias, rel=1e-12)
