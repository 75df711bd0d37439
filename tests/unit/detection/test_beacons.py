"""The beacon tracker: what it keeps, what it forgets, what it refuses, and who can be no C2."""

import math
import tracemalloc

import numpy as np
import pytest

from eguard.detection.beacons import MAX_DESTINATIONS, BeaconTracker, is_never_c2
from eguard.errors import EstimatorInputError
from eguard.estimators import BeaconOptions, beacon_regularity

MEBIBYTE = 2**20


def only(tracker):
    keys, scores = tracker.scores()
    assert len(keys) == len(scores) == 1
    return {name: getattr(scores, name)[0] for name in scores.__dataclass_fields__}


def test_the_scores_are_those_of_the_batch_form_on_the_same_contacts():
    rng = np.random.default_rng(1)
    times = 1.7e9 + np.cumsum(rng.gamma(2.0, 20.0, (3, 200)), axis=1)
    sizes = rng.integers(0, 900, (3, 200))
    tracker = BeaconTracker()
    order = np.argsort(times, axis=None)
    tracker.observe(order // 200, times.ravel()[order], sizes.ravel()[order])
    keys, scores = tracker.scores()
    assert sorted(keys) == [0, 1, 2]
    batch = beacon_regularity(times[keys].ravel(), sizes[keys].ravel(), [0, 200, 400, 600])
    for name in scores.__dataclass_fields__:
        assert np.array_equal(getattr(scores, name), getattr(batch, name)), name


def test_a_ring_slides():
    tracker = BeaconTracker()
    rng = np.random.default_rng(2)
    noise = np.cumsum(rng.exponential(10.0, 500))
    tracker.observe(["d"] * 500, noise, rng.integers(0, 5000, 500))
    assert only(tracker)["regularity"] < 0.8
    tracker.observe(["d"] * 256, noise[-1] + 60.0 * np.arange(1, 257), np.full(256, 99))
    assert only(tracker)["regularity"] == 1.0


def test_a_beacon_of_months_is_no_trouble_for_32_bits():
    tracker = BeaconTracker()
    times = 1.7e9 + 86_400.0 * np.arange(300)
    for day in range(0, 300, 7):
        tracker.observe(["d"] * len(times[day : day + 7]), times[day : day + 7], [310] * len(times[day : day + 7]))
    found = only(tracker)
    assert found["regularity"] == 1.0
    assert found["period_seconds"] == 86_400.0
    assert found["span_seconds"] == 255 * 86_400.0


def test_a_silence_of_years_counts_as_49_days():
    tracker = BeaconTracker()
    beats = 60.0 * np.arange(50)
    beats[25:] += 5e8
    tracker.observe(["d"] * 50, beats, [310] * 50)
    assert only(tracker)["span_seconds"] == pytest.approx(48 * 60.0 + (2**32 - 1) / 1000.0)


def test_duplicates_and_steps_back_are_counted_and_the_sequence_goes_on():
    beats = 1.7e9 + 60.0 * np.arange(100)
    beats[50:] -= 3600.0
    times = np.insert(beats, [10, 70], [beats[9], beats[69]])
    tracker = BeaconTracker()
    for start in range(0, 102, 5):
        tracker.observe(
            ["d"] * len(times[start : start + 5]), times[start : start + 5], [1] * len(times[start : start + 5])
        )
    assert tracker.skipped_total == 3
    found = only(tracker)
    assert (found["n_skipped"], found["n_observations"]) == (3, 99)
    assert found["regularity"] > 0.99


def test_the_destination_contacted_longest_ago_is_forgotten_with_all_it_did():
    tracker = BeaconTracker(capacity=2)
    beats = 60.0 * np.arange(30)
    tracker.observe(["a"] * 30, beats, [5] * 30)
    tracker.observe(["b", "c"], [2000.0, 2001.0], [5, 5])
    assert tracker.evicted_total == 1
    tracker.observe(["a"], [3000.0], [5])
    keys, scores = tracker.scores()
    assert keys == ["c", "a"]
    assert scores.n_observations.tolist() == [1, 1]
    assert not scores.is_scored.any()


@pytest.mark.parametrize("size", [2**32 - 1, 2**32, 2**62, 1e300])
def test_sizes_beyond_32_bits_saturate(size):
    tracker = BeaconTracker()
    tracker.observe(["d"] * 20, 60.0 * np.arange(20), [size] * 10 + [2**40] * 10)
    assert only(tracker)["size_regularity"] == 1.0


@pytest.mark.parametrize(
    ("keys", "times", "sizes", "argument"),
    [
        (["a", "b"], [1.0, math.nan], [1, 1], "times_seconds"),
        (["a", "b"], [1.0, -math.inf], [1, 1], "times_seconds"),
        (["a", "b"], [1.0, 1e300], [1, 1], "times_seconds"),
        (["a", "b"], [1.0, 2.0], [1, -1], "sizes_bytes"),
        (["a", "b"], [1.0, 2.0], [1.0, math.nan], "sizes_bytes"),
        (["a", "b"], [1.0], [1], "destinations"),
        (["a"], [1.0], [1, 2], "destinations"),
    ],
)
def test_a_bad_batch_is_refused_as_a_whole(keys, times, sizes, argument):
    tracker = BeaconTracker()
    tracker.observe(["a"], [0.0], [7])
    with pytest.raises(EstimatorInputError) as caught:
        tracker.observe(keys, times, sizes)
    assert caught.value.argument == argument
    assert len(tracker) == 1
    assert only(tracker)["n_observations"] == 1


def test_an_empty_batch_changes_nothing():
    tracker = BeaconTracker()
    tracker.observe([], [], [])
    assert (len(tracker), tracker.scores()[0]) == (0, [])


def test_a_flood_of_destinations_costs_no_more_memory_than_the_rings():
    tracker = BeaconTracker()
    before = tracker.nbytes
    for start in range(0, 1_000_000, 100_000):
        codes = np.arange(start, start + 100_000)
        tracker.observe(codes, codes * 0.001, codes)
    assert len(tracker) == MAX_DESTINATIONS
    assert tracker.evicted_total == 1_000_000 - MAX_DESTINATIONS
    assert tracker.nbytes == before
    assert tracker.scores()[0] == list(range(1_000_000 - MAX_DESTINATIONS, 1_000_000))


@pytest.mark.slow
def test_memory_stays_below_two_and_a_half_mebibytes_a_thousand_full_destinations():
    n, rng = MAX_DESTINATIONS, np.random.default_rng(0)
    times, sizes = np.cumsum(rng.exponential(0.1, 256 * n)), rng.integers(0, 5000, 256 * n)
    tracemalloc.start()
    try:
        tracker = BeaconTracker()
        for beat in range(256):
            # Every contact comes with strings of its own, as from a sensor.
            keys = [(f"process-{i % 200:03}.exe", f"203.0.{i >> 8}.{i & 255}", 443) for i in range(n)]
            rows = slice(beat * n, (beat + 1) * n)
            tracker.observe(keys, times[rows], sizes[rows])
        del keys
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert tracker.scores()[1].n_observations.tolist() == [256] * n
    assert held / MEBIBYTE * 1000 / n <= 2.5


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("224.0.0.1", True), ("239.255.255.250", True), ("ff02::fb", True), ("ff05::2", True),
        ("169.254.1.1", True), ("fe80::1", True), ("fe80::1%12", True),
        ("255.255.255.255", True), ("0.0.0.0", True), ("::", True), ("127.0.0.1", True), ("::1", True),
        ("::ffff:224.0.0.251", True), ("::ffff:192.0.2.1", False),
        ("192.168.0.255", False), ("10.0.0.1", False), ("2001:db8::1", False), ("fd00::1", False),
        ("ff.example", False), ("", False), ("999.1.1.1", False), ("\x00", False),
    ],
)  # fmt: skip
def test_who_can_be_no_c2(address, expected):
    assert is_never_c2(address) is expected


def test_other_settings_make_other_rings():
    tracker = BeaconTracker(4, BeaconOptions(min_observations=4, max_observations=8, min_span_seconds=0.0))
    tracker.observe(["d"] * 20, np.arange(20.0), [1] * 20)
    assert only(tracker)["n_observations"] == 8
