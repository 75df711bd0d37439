"""Closed windows kept as bytes come back as they were."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.detection.packed_windows import PackedWindows
from eguard.detection.window_batch import ClosedWindow
from eguard.detection.window_test import WindowLevel, WindowScore

SCORE = WindowScore(
    WindowLevel.HIGH, 1.25, (0.3, 0.1) + (0.1,) * 6, 1 << 40, 12.5, 0.75, math.inf, is_uninformative=True
)
WINDOW = ClosedWindow(
    window_id="a1b2.7.31",
    index=4095,
    slot=7,
    started_unix=1_763_878_000.123_456,
    closed_unix=1_763_878_009.5,
    counts=(120, 8, 0, 0, 0, 0, 0, 0),
    learned_counts=(3,) + (0,) * 7,
    score=SCORE,
    is_held=True,
    drift_alarm=True,
    rate_alarm=False,
    recent_alarms=(1_763_878_000.0, 1_763_878_009.5),
    archived=(1 << 40,) + (0,) * 7,
)


def stored(window):
    windows = PackedWindows()
    windows[window.slot] = window
    return windows[window.slot]


@pytest.mark.parametrize("level", list(WindowLevel), ids=lambda level: level.name.lower())
def test_a_window_comes_back_whole(level):
    window = replace(WINDOW, score=replace(SCORE, level=level))
    found = stored(window)
    assert found == window
    assert type(found.score.level) is WindowLevel
    assert repr(found) == repr(window)
    assert found.unlearned_counts.tolist() == [117, 8, 0, 0, 0, 0, 0, 0]


def test_thresholds_that_were_not_needed_stay_unknown():
    untested = replace(WINDOW, score=WindowScore(WindowLevel.UNTESTED, 0.0, (0.125,) * 8, 0, 12.0), recent_alarms=())
    found = stored(untested)
    assert math.isnan(found.score.threshold_medium_bits)
    assert math.isnan(found.score.threshold_high_bits)
    assert repr(found) == repr(untested)


@given(
    times=st.tuples(*[st.floats(allow_nan=False)] * 2),
    alarms=st.lists(st.floats(allow_nan=False), max_size=5).map(tuple),
    counts=st.tuples(*[st.integers(0, 2**62)] * 8),
    expected=st.tuples(*[st.floats(0.0, 1.0)] * 8),
    name=st.text(max_size=40).filter(lambda text: text.isprintable()),
)
def test_no_number_is_rounded(times, alarms, counts, expected, name):
    window = replace(
        WINDOW,
        window_id=name,
        started_unix=times[0],
        closed_unix=times[1],
        recent_alarms=alarms,
        counts=counts,
        score=replace(SCORE, expected=expected),
    )
    assert stored(window) == window


def test_a_window_takes_less_than_a_third_of_a_kibibyte():
    windows = PackedWindows()
    windows[7] = WINDOW
    (packed,) = windows._packed.values()
    assert len(packed) < 340


def test_what_was_taken_out_does_not_change_later():
    windows = PackedWindows()
    windows[7] = WINDOW
    before = windows.at([7, 8, 7])
    windows[7] = replace(WINDOW, window_id="a1b2.7.32")
    windows[8] = WINDOW
    assert dict(before) == {7: WINDOW, 8: None}
    assert 8 in before
    assert 9 not in before
    assert len(before) == 2
    assert windows[7].window_id == "a1b2.7.32"


def test_a_removed_window_is_gone():
    windows = PackedWindows()
    windows.update({7: WINDOW, 8: WINDOW})
    windows.discard(7)
    windows.discard(7)
    del windows[8]
    assert windows.get(7) is None
    assert list(windows) == []
    with pytest.raises(KeyError):
        windows[8]
