"""The beacon score: parts by hand, the two views, broken clocks, and what is refused."""

import math

import numpy as np
import pytest

from eguard.errors import EstimatorInputError
from eguard.estimators import BeaconOptions, beacon_regularity, destination_rarity, periodicity_score
from eguard.estimators.beacon import BLOCK_CONTACTS


def score(times, sizes=None, options=None, **more):
    times = np.asarray(times, dtype=float)
    sizes = np.full(times.size, 100) if sizes is None else sizes
    return beacon_regularity(times, sizes, [0, times.size], options, **more)


def test_the_settings_are_those_that_were_fixed():
    assert BeaconOptions() == BeaconOptions(20, 256, 1.0, 120.0, 0.40, 0.20, 0.25, 0.15)


@pytest.mark.parametrize("period", [6.5, 60.0, 3600.0, 86_400.0])
def test_a_perfect_beacon_scores_one(period):
    scores = score(1.7e9 + period * np.arange(40))
    assert scores.regularity[0] == 1.0
    assert scores.period_seconds[0] == pytest.approx(period)
    assert (scores.n_observations[0], scores.n_skipped[0], scores.bursts_merged[0]) == (40, 0, False)


def test_the_regularity_is_its_four_weighted_parts():
    rng = np.random.default_rng(1)
    result = score(np.cumsum(rng.gamma(2.0, 30.0, 80)), rng.integers(50, 5000, 80))
    parts = [result.timer, result.symmetry, result.size_regularity, result.count_regularity]
    assert result.regularity[0] == pytest.approx(
        sum(w * p[0] for w, p in zip((0.4, 0.2, 0.25, 0.15), parts, strict=True))
    )
    assert all(0.0 < part[0] < 1.0 for part in parts)


@pytest.mark.parametrize(
    ("sizes", "share"),
    [
        ([500] * 20, 1.0),
        ([500] * 12 + [9000] * 8, 0.6),  # the median is the commonest
        ([100] * 9 + [4000, 5000, 6000, 7000, 8000] * 2 + [4000], 9 / 20),  # the commonest is far from the median
        ([1000 + i for i in range(20)], 1.0),  # all within a tenth of the median
        ([0] * 11 + [8] * 9, 1.0),  # and within eight bytes of nothing
        ([0] * 11 + [9] * 9, 0.55),
        ([1000] * 11 + [1108] * 5 + [1109] * 4, 0.8),  # 10 % + 8 bytes, and a byte more
        ([2**40] * 20, 1.0),
        ([2**40] * 10 + [2**50] * 10, 1.0),  # both are more than 32 bits hold, and count as so much
    ],
)
def test_sizes_are_regular_by_the_commonest_or_near_the_median(sizes, share):
    assert score(60.0 * np.arange(20), sizes).size_regularity[0] == pytest.approx(share)


def test_a_beat_of_two_contacts_is_found_by_merging_and_has_the_size_of_the_first():
    beats = 30.0 * np.arange(40)[:, None] + [0.0, 0.25]
    rng = np.random.default_rng(2)
    sizes = np.column_stack([np.full(40, 300), rng.integers(1, 10_000, 40)])
    result = score(beats.ravel(), sizes.ravel())
    assert result.bursts_merged[0]
    assert (result.regularity[0], result.n_observations[0]) == (1.0, 40)


def test_contacts_a_second_apart_are_no_burst():
    beats = 30.0 * np.arange(40)[:, None] + [0.0, 1.0]
    assert not score(beats.ravel()).bursts_merged[0]
    every_half_second = 0.5 * np.arange(250)
    assert score(every_half_second).n_observations[0] == 250


def test_of_equal_views_the_plain_one_counts():
    result = score(np.sort(np.append(60.0 * np.arange(240), 60.25)))
    assert result.regularity[0] == 1.0
    assert (result.bursts_merged[0], result.n_observations[0]) == (False, 241)


def test_what_is_too_few_or_too_short_is_not_scored():
    assert not score(60.0 * np.arange(19)).is_scored[0]
    assert score(60.0 * np.arange(20)).is_scored[0]
    short = score(119.0 / 19.0 * np.arange(20))
    assert not short.is_scored[0]
    assert short.regularity[0] == 0.0
    assert math.isnan(short.period_seconds[0])
    assert short.span_seconds[0] == pytest.approx(119.0)
    assert short.periodicity[0] == pytest.approx(1.0, abs=1e-3)  # timing alone asks for no span
    assert score(120.0 / 19.0 * np.arange(20)).is_scored[0]


def test_equal_times_and_steps_back_are_skipped_and_the_sequence_goes_on():
    beats = 1.7e9 + 60.0 * np.arange(100)
    beats[50:] -= 3600.0
    result = score(np.insert(beats, [10, 10, 70], [beats[9], beats[9], beats[69]]))
    assert result.n_skipped[0] == 4
    assert result.n_observations[0] == 99
    assert result.regularity[0] > 0.99
    assert result.period_seconds[0] == pytest.approx(60.0, rel=1e-3)


def test_a_skipped_contact_takes_its_size_with_it():
    times = np.insert(60.0 * np.arange(30), 15, 60.0 * 14)
    sizes = np.insert(np.full(30, 200), 15, 10**6)
    assert score(times, sizes).size_regularity[0] == 1.0


def test_the_last_256_accepted_contacts_count():
    noise = np.sort(np.random.default_rng(0).uniform(0.0, 5000.0, 300))
    beats = 10_000.0 + 10.0 * np.arange(256)
    doubled = np.repeat(beats, 2)
    assert score(np.concatenate([noise, doubled])).regularity[0] == 1.0
    assert score(np.concatenate([noise, doubled])).n_observations[0] == 256


def test_a_silence_of_years_counts_as_49_days():
    beats = 60.0 * np.arange(50)
    beats[25:] += 5e8
    assert score(beats).span_seconds[0] == pytest.approx(48 * 60.0 + (2**32 - 1) / 1000.0)


def test_destinations_are_scored_as_if_alone_however_many_there_are():
    rng = np.random.default_rng(3)
    lengths = rng.integers(0, 300, 700)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    assert offsets[-1] > 1.5 * BLOCK_CONTACTS  # more than one block
    times = np.concatenate([np.cumsum(rng.exponential(rng.uniform(0.5, 90.0), n)) for n in lengths])
    sizes = rng.integers(0, 3000, offsets[-1])
    together = beacon_regularity(times, sizes, offsets)
    for index in (0, 1, 350, 698, 699):
        rows = slice(offsets[index], offsets[index + 1])
        alone = beacon_regularity(times[rows], sizes[rows], [0, lengths[index]])
        for name in alone.__dataclass_fields__:
            assert np.array_equal(getattr(alone, name)[0], getattr(together, name)[index], equal_nan=True), name


def test_work_stops_only_where_the_score_cannot_reach():
    rng = np.random.default_rng(4)
    # Half of the beats are missed: intervals are one, two or three periods, which only the phase sees.
    gaps = 60.0 * rng.geometric(0.5, (20, 60)) + rng.uniform(-6.0, 6.0, (20, 60))
    jittered = np.cumsum(gaps, axis=1).ravel()
    sizes = rng.integers(0, 4000, jittered.size)
    offsets = 60 * np.arange(21)
    full = beacon_regularity(jittered, sizes, offsets)
    for reach in (0.3, 0.6, 0.75, 2.0):
        stopped = beacon_regularity(jittered, sizes, offsets, reach=reach)
        reaches = full.regularity >= reach
        np.testing.assert_array_equal(stopped.regularity[reaches], full.regularity[reaches])
        assert (stopped.regularity <= full.regularity).all()
        assert (stopped.regularity[~reaches] < reach).all()
    each = np.where(np.arange(20) % 2, 2.0, 0.0)
    mixed = beacon_regularity(jittered, sizes, offsets, reach=each)
    np.testing.assert_array_equal(mixed.regularity[::2], full.regularity[::2])
    assert (mixed.regularity[1::2] < full.regularity[1::2]).any()


def test_nothing_gives_nothing():
    assert len(beacon_regularity([], [], [0])) == 0
    empty = beacon_regularity([], [], [0, 0, 0])
    assert empty.regularity.tolist() == [0.0, 0.0]
    assert not empty.is_scored.any()


@pytest.mark.parametrize(
    ("times", "sizes", "offsets", "argument"),
    [
        ([1.0, math.nan], [1, 1], [0, 2], "times_seconds"),
        ([1.0, math.inf], [1, 1], [0, 2], "times_seconds"),
        ([1.0, 1e14], [1, 1], [0, 2], "times_seconds"),
        ([1.0, 2.0], [1, -1], [0, 2], "sizes_bytes"),
        ([1.0, 2.0], [1, math.nan], [0, 2], "sizes_bytes"),
        ([1.0, 2.0], [1], [0, 2], "sizes_bytes"),
        ([1.0, 2.0], [1, 1], [0, 1], "offsets"),
        ([1.0, 2.0], [1, 1], [1, 2], "offsets"),
        ([1.0, 2.0], [1, 1], [0, 2, 1, 2], "offsets"),
        ([1.0, 2.0], [1, 1], [0, 0.5, 2], "offsets"),
        ([1.0, 2.0], [1, 1], [], "offsets"),
    ],
)
def test_bad_input_is_refused_by_name(times, sizes, offsets, argument):
    with pytest.raises(EstimatorInputError) as caught:
        beacon_regularity(times, sizes, offsets)
    assert caught.value.argument == argument


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"min_observations": 3}, "min_observations"),
        ({"max_observations": 19}, "max_observations"),
        ({"burst_seconds": -1.0}, "burst_seconds"),
        ({"min_span_seconds": math.nan}, "min_span_seconds"),
        ({"weight_timer": 0.5}, "weight_timer"),
        ({"weight_timer": -0.1, "weight_symmetry": 0.7}, "weight_timer"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(change, argument):
    with pytest.raises(EstimatorInputError) as caught:
        BeaconOptions(**change)
    assert caught.value.argument == argument


def test_rarity_is_one_for_the_only_user_and_nought_where_everybody_calls():
    assert destination_rarity([0, 1, 2, 4, 5, 9], 5).tolist() == pytest.approx([1.0, 1.0, 0.75, 0.25, 0.0, 0.0])
    assert destination_rarity([1, 0], [1, 0]).tolist() == [1.0, 1.0]
    with pytest.raises(EstimatorInputError):
        destination_rarity(-1, 5)


def test_golden_values():
    """Fixed sequences and their scores: a change of any of them is a change of every calibrated threshold."""
    rng = np.random.default_rng(20260301)
    schedule = 300.0 * (np.arange(64) + rng.uniform(-0.25, 0.25, 64))
    sleep = np.cumsum(60.0 * (1.0 - rng.uniform(0.0, 0.5, 128)))
    chance = np.cumsum(rng.exponential(60.0, 200))
    times = np.concatenate([schedule, sleep, chance])
    sizes = np.concatenate([np.full(64, 512), rng.integers(400, 600, 128), rng.integers(0, 9000, 200)])
    scores = beacon_regularity(times, sizes, [0, 64, 192, 392])
    assert scores.regularity.tolist() == pytest.approx(GOLDEN["regularity"], abs=1e-12)
    assert scores.timer.tolist() == pytest.approx(GOLDEN["timer"], abs=1e-12)
    assert scores.periodicity.tolist() == pytest.approx(GOLDEN["periodicity"], abs=1e-12)
    for index, stamps in enumerate((schedule, sleep, chance)):
        other = periodicity_score(np.rint(stamps * 1000.0) / 1000.0)
        assert scores.periodicity[index] == pytest.approx(other.score, abs=1e-9)


GOLDEN = {
    "regularity": [0.9505965345577407, 0.8055959423386163, 0.4449936661374473],
    "timer": [0.8869669378708042, 0.815354713313897, 0.3517572550316661],
    "periodicity": [0.9341287127436542, 0.8814195897848216, 0.558149008786278],
}
