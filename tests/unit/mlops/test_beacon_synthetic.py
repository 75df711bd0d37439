"""Synthetic channels do what their settings say, and hide in what was really recorded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.estimators.beacon import BeaconOptions, beacon_regularity
from eguard.events import EventBatch
from eguard.mlops.beacon_pairs import pairs_from_events
from eguard.mlops.beacon_scores import score_pairs
from eguard.mlops.beacon_synthetic import (
    DAY_SECONDS,
    SweepParams,
    background_of,
    beat_times,
    make_channels,
    make_controls,
    tile_days,
)

SMALL = SweepParams(
    jitter_fractions=(0.0, 0.5), missed_fractions=(0.0,), periods_seconds=(300.0, 14400.0), size_noise_fractions=(0.0,)
)


@pytest.fixture(scope="module")
def benign():
    rng = np.random.default_rng(8)
    n = 1500
    events = EventBatch(
        time_unix=1e9 + np.sort(rng.uniform(0.0, DAY_SECONDS, n)),
        host_id=["h"] * n,
        event_class=np.full(n, 3),
        destination_address=[f"192.0.2.{last}" for last in rng.integers(1, 30, n)],
        destination_port=np.full(n, 443),
        sent_bytes=rng.integers(0, 9000, n),
    )
    return score_pairs(pairs_from_events(events), BeaconOptions(), has_fleet=False)


@pytest.mark.parametrize("timer", ["sleep", "schedule"])
def test_without_jitter_a_beacon_is_perfect(timer):
    beats = beat_times(60.0, jitter=0.0, missed=0.0, horizon=3600.0, timer=timer, rng=np.random.default_rng(0))
    assert np.allclose(np.diff(beats), 60.0)
    assert beacon_regularity(beats, np.full(len(beats), 9), [0, len(beats)]).regularity[0] == pytest.approx(1.0)


@given(st.floats(0.0, 0.5), st.floats(0.0, 0.5), st.sampled_from([5.0, 60.0, 900.0]), st.integers(0, 1000))
def test_jitter_stays_within_its_share_of_the_period(jitter, missed, period, seed):
    rng = np.random.default_rng(seed)
    slept = beat_times(period, jitter=jitter, missed=0.0, horizon=50 * period, timer="sleep", rng=rng)
    gaps = np.diff(slept)
    assert (gaps >= period * (1 - jitter) - 0.002).all()
    assert (gaps <= period + 0.002).all()
    planned = beat_times(period, jitter=jitter, missed=missed, horizon=50 * period, timer="schedule", rng=rng)
    offset = planned / period - np.round(planned / period - 0.5) - 0.5
    assert (np.abs(offset) <= jitter / 2 + 0.001).all()
    assert (np.diff(planned) > 0).all()
    assert planned.max(initial=0.0) < 50 * period


def test_the_share_of_lost_beats_is_what_was_asked_for():
    rng = np.random.default_rng(4)
    beats = beat_times(10.0, jitter=0.2, missed=0.4, horizon=200_000.0, timer="schedule", rng=rng)
    assert len(beats) / 20_000 == pytest.approx(0.6, abs=0.02)


def test_slow_channels_get_days_enough(benign):
    channels = make_channels(SMALL, background_of(benign), np.random.default_rng(1))
    slow = channels.settings["period_seconds"] == 14400.0
    assert set(channels.days[slow].tolist()) == {6}
    assert set(channels.days[~slow].tolist()) == {1}
    assert len(channels.days) == 2 * 1 * 2 * 1 * 2 * 2


def test_shared_channels_lie_among_real_requests(benign):
    channels = make_channels(SMALL, background_of(benign), np.random.default_rng(1))
    counts = np.diff(channels.offsets)
    shared = channels.settings["embedding"] == "shared"
    for index in np.flatnonzero(shared).tolist():
        span = slice(channels.offsets[index], channels.offsets[index + 1])
        assert (np.diff(channels.times_seconds[span]) >= 0).all()
        expected = channels.days[index] * DAY_SECONDS / channels.settings["period_seconds"][index]
        assert counts[index] >= expected  # all beats and at least five requests a day
    assert counts[shared].sum() > counts[~shared].sum()


def test_channels_depend_on_the_seed_alone(benign):
    first, again, other = (
        make_channels(SMALL, background_of(benign), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.times_seconds, again.times_seconds)
    assert not np.array_equal(first.sizes_bytes, other.sizes_bytes)


def test_repeated_days_shift_by_a_day_and_keep_order(benign):
    tiled = tile_days(benign.pairs, 3)
    assert (tiled.n_observations == 3 * benign.pairs.n_observations).all()
    own = slice(tiled.offsets[2], tiled.offsets[3])
    day = benign.pairs.times_seconds[benign.pairs.offsets[2] : benign.pairs.offsets[3]]
    assert tiled.times_seconds[own].tolist() == np.concatenate([day + k * DAY_SECONDS for k in range(3)]).tolist()
    assert len(tile_days(benign.pairs.take(np.array([], np.intp)), 2)) == 0


def test_timers_are_no_hiding_place():
    n = 1500
    events = EventBatch(
        time_unix=60.0 * np.arange(n),
        host_id=["h"] * n,
        event_class=np.full(n, 3),
        destination_address=["192.0.2.1"] * n,
        destination_port=np.full(n, 443),
    )
    scored = score_pairs(pairs_from_events(events), BeaconOptions(), has_fleet=False)
    assert background_of(scored).cover_rows == []


def test_controls_call_as_often_and_without_a_timer(benign):
    controls = make_controls(SMALL, background_of(benign), np.random.default_rng(5))
    own = (controls.settings["embedding"] == "own") & (controls.settings["period_seconds"] == 300.0)
    gaps = np.concatenate(
        [
            np.diff(controls.times_seconds[controls.offsets[index] : controls.offsets[index + 1]])
            for index in np.flatnonzero(own).tolist()
        ]
    )
    assert gaps.mean() == pytest.approx(300.0, rel=0.05)
    assert gaps.std() == pytest.approx(300.0, rel=0.1)  # exponential
