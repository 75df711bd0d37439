"""Events of open windows: what is kept of them exactly, and how far the rest may be off."""

import math

import numpy as np
import pytest

from eguard.detection.window_events import MAX_SIZE_BYTES, WindowEvents

T0 = 1_763_878_000.0
YEAR = 365.25 * 86_400.0
DAY = 86_400.0


def kept(times, sizes=None, classes=None):
    """Put one window of these times into slot 2 and take it out again."""
    n = len(times)
    events = WindowEvents(3, n)
    slots, within = np.full(n, 2), np.arange(n)
    sizes = np.zeros(n, dtype=np.int64) if sizes is None else np.asarray(sizes)
    events.put(
        slots, within, np.zeros(n, np.int8) if classes is None else np.asarray(classes), np.asarray(times), sizes
    )
    return events.take([(2, 0, n)])


def test_events_of_nine_hours_keep_their_times_exactly():
    rng = np.random.default_rng(0)
    times = T0 + np.sort(rng.random(500)) * 2.0**15
    assert kept(times)[2].tolist() == times.tolist()


def test_events_before_the_first_keep_their_times_exactly_too():
    times = [T0, T0 - 0.000_001, T0 - 3600.123_456, T0 + 1e-6, T0]
    assert kept(times)[2].tolist() == times


@pytest.mark.parametrize(
    ("span_seconds", "resolution_seconds"),
    [(DAY, 1e-6), (30 * DAY, 31e-6), (YEAR, 0.3e-3), (-YEAR, 0.3e-3), (10 * YEAR, 4e-3), (-10 * YEAR, 4e-3)],
)
def test_farther_events_are_cut_by_no_more_than_said(span_seconds, resolution_seconds):
    rng = np.random.default_rng(1)
    offsets = np.concatenate([[0.0], np.sort(rng.random(300)) * span_seconds])
    times = T0 + offsets
    found = kept(times)[2]
    assert np.abs(found - times).max() <= resolution_seconds
    assert np.all(np.abs(found - T0) <= np.abs(times - T0))  # towards the first event, never beyond
    gaps = np.diff(times)
    assert np.all(np.sign(np.diff(found)) * np.sign(gaps) >= 0)  # no step of the clock appears


@pytest.mark.parametrize("step_seconds", [10 * YEAR, -10 * YEAR])
def test_a_step_of_the_clock_leaves_every_gap_right(step_seconds):
    rng = np.random.default_rng(2)
    times = T0 + np.cumsum(rng.exponential(2.0, 128))
    times[40:90] += step_seconds
    found = kept(times)[2]
    assert np.all(np.isfinite(found))
    gaps, exact = np.diff(found), np.diff(times)
    assert np.array_equal(gaps < 0.0, exact < 0.0)
    forward = exact >= 0.0
    assert np.abs(np.log1p(gaps[forward]) - np.log1p(exact[forward])).max() <= 4e-3
    assert np.array_equal(found[:40], times[:40])
    assert np.array_equal(found[90:], times[90:])


def test_sizes_saturate_at_four_gibibytes():
    sizes = kept([T0] * 5, [0, -3, 1500, 2**32, 2**62])[3].tolist()
    assert sizes == [0, 0, 1500, MAX_SIZE_BYTES, MAX_SIZE_BYTES]
    # Twice as much would be log1p + 0.69; a payload cannot hide below what saturates.
    assert math.log1p(MAX_SIZE_BYTES) == pytest.approx(32 * math.log(2))


def test_parts_of_several_windows_come_one_after_the_other():
    events = WindowEvents(1, 4)
    events.grow(8)
    slots = np.array([7, 0, 7, 0, 7])
    within = np.array([0, 0, 1, 1, 2])
    times = np.array([T0, T0 + 5.0, T0 + 1.0, T0 + 6.0, T0 + 2.0])
    events.put(slots, within, np.array([1, 2, 3, 4, 5]), times, np.array([10, 20, 30, 40, 50]))
    taken = [column.tolist() for column in events.take([(7, 1, 3), (0, 0, 1)])]
    assert taken == [[7, 7, 0], [3, 5, 2], [T0 + 1.0, T0 + 2.0, T0 + 5.0], [30, 50, 20]]
    assert events.times(0, 1, 2).tolist() == [T0 + 6.0]
    assert events.counts(7, 2, 8).tolist() == [0, 1, 0, 1, 0, 0, 0, 0]


def test_growing_keeps_what_is_there_and_a_new_window_replaces_the_old():
    events = WindowEvents(2, 2)
    one = np.array([1])
    events.put(one, np.array([0]), np.array([6]), np.array([T0]), np.array([9]))
    events.put(one, np.array([1]), np.array([5]), np.array([T0 + 0.5]), np.array([8]))
    events.grow(64)
    assert [column.tolist() for column in events.take([(1, 0, 2)])] == [[1, 1], [6, 5], [T0, T0 + 0.5], [9, 8]]
    events.put(one, np.array([0]), np.array([0]), np.array([5.25]), np.array([1]))
    assert [column.tolist() for column in events.take([(1, 0, 1)])] == [[1], [0], [5.25], [1]]
    assert events.started_unix.tolist()[:3] == [0.0, 5.25, 0.0]


def test_an_event_takes_eleven_bytes():
    events = WindowEvents(16, 128)
    arrays = [value for value in vars(events).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) == 16 * (128 * 11 + 8)
