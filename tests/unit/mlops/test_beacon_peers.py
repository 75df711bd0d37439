"""Parts of the RITA-style score on cases small enough to work out by hand; published values are in tests/oracles."""

import numpy as np
import pytest

from eguard.events import EventBatch
from eguard.mlops.beacon_pairs import pairs_from_events
from eguard.mlops.beacon_peers import (
    debiased_information_bits,
    histogram_score,
    plain_information_bits,
    rita_parts,
    rita_scores,
    size_score,
    timing_score,
)

HOUR = 3600.0


def one_pair(times, sizes):
    return pairs_from_events(
        EventBatch(
            time_unix=np.asarray(times, float),
            host_id=["h"] * len(times),
            event_class=np.full(len(times), 3),
            destination_address=["192.0.2.1"] * len(times),
            destination_port=np.full(len(times), 443),
            sent_bytes=np.asarray(sizes),
        )
    )


def test_an_hourly_beacon_of_a_day_is_perfect():
    times = HOUR * np.arange(24) + 60.0
    assert rita_parts(times, np.full(24, 300.0), 0.0, 24 * HOUR) == pytest.approx((1.0, 1.0, 1.0, 23 / 24), abs=0.05)


def test_duration_takes_six_bars_and_a_run_of_twelve_is_all():
    five = HOUR * np.repeat(np.arange(5), 5) + np.tile(np.arange(5.0), 5)
    assert rita_parts(five, np.full(25, 1.0), 0.0, 24 * HOUR)[3] == 0.0
    seven = HOUR * np.repeat(np.arange(7), 5) + np.tile(np.arange(5.0), 7)
    assert rita_parts(seven, np.full(35, 1.0), 0.0, 24 * HOUR)[3] == pytest.approx(7 / 12)
    twelve = HOUR * np.repeat(np.arange(12), 3) + np.tile(np.arange(3.0), 12)
    assert rita_parts(twelve, np.full(36, 1.0), 0.0, 24 * HOUR)[3] == 1.0


def test_a_run_goes_on_around_midnight():
    hours = np.array([21, 22, 23, 0, 1, 2])
    times = np.sort(np.concatenate([HOUR * hours + second for second in (1.0, 2.0, 3.0)]))
    coverage = (times[-1] - times[0]) / (24 * HOUR)
    assert rita_parts(times, np.full(18, 1.0), 0.0, 24 * HOUR)[3] == pytest.approx(max(coverage, 6 / 12))


def test_equal_seconds_are_no_interval():
    assert timing_score(np.array([0.1, 0.2, 0.3, 0.4])) == 0.0
    assert timing_score(np.array([0.0, 0.5, 10.0, 20.0, 30.2])) == 1.0


def test_a_variation_as_large_as_the_mean_scores_nothing():
    assert histogram_score(np.array([24] + [0] * 23)) == 0.0
    assert histogram_score(np.array([2] * 24)) == 1.0


def test_sizes_of_nothing_are_half_regular():
    assert size_score(np.zeros(10)) == 0.5


def test_only_the_last_day_counts():
    old, recent = np.arange(0.0, 100 * HOUR, HOUR), 400 * HOUR + np.arange(0.0, 10 * HOUR, HOUR)
    scores = rita_scores(one_pair(np.concatenate([old, recent]), np.full(110, 5)), min_observations=20)
    assert scores.score.tolist() == [0.0]
    assert rita_scores(one_pair(old, np.full(100, 5)), min_observations=20).score[0] > 0.9


def test_information_of_a_constant_is_nothing_and_of_a_copy_is_three_bits():
    rng = np.random.default_rng(1)
    gaps = rng.permutation(np.repeat(np.arange(1, 9), 32))
    times = np.concatenate([[0], np.cumsum(gaps)])
    constant = one_pair(times, np.full(257, 7))
    copied = one_pair(times, np.concatenate([[0], 100 * gaps]))
    options = {"min_observations": 20, "max_observations": 257}
    assert plain_information_bits(constant, **options)[0] == 0.0
    assert plain_information_bits(copied, **options)[0] == pytest.approx(3.0)
    debiased, p_value = debiased_information_bits(copied, 0, rng, max_observations=257)
    assert debiased > 2.7
    assert p_value < 0.01
    assert plain_information_bits(one_pair([1, 2, 3], [1, 2, 3]), **options).tolist() == [0.0]
