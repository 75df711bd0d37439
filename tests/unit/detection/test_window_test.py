"""Thresholds and overdispersion of the window test."""

import math

import numpy as np
import pytest

from eguard.detection import window_test
from eguard.detection.engine_options import WindowOptions
from eguard.detection.window_test import WindowLevel, WindowTest

EVEN = np.full((1, 8), 1250, dtype=np.int64)
NO_PRIOR, UNSEEDED = np.zeros((1, 8)), np.zeros(1)
SLOT = np.array([3])


def score(test, window, counts=EVEN):
    return test.score(SLOT, np.array([window], dtype=np.int64), counts, NO_PRIOR, UNSEEDED)[0]


@pytest.fixture
def thresholds_computed(monkeypatch):
    """Count how often thresholds are computed."""
    calls = []
    original = window_test.predictive_kl_thresholds

    def counting(*args, **kwargs):
        calls.append(kwargs["phi"])
        return original(*args, **kwargs)

    monkeypatch.setattr(window_test, "predictive_kl_thresholds", counting)
    return calls


def test_an_even_window_of_an_even_key_needs_no_threshold(thresholds_computed):
    result = score(WindowTest(WindowOptions()), [16] * 8)
    assert result.level == WindowLevel.NONE
    assert result.kl_bits == 0.0
    assert math.isnan(result.threshold_medium_bits)
    assert thresholds_computed == []


def test_levels_follow_the_two_thresholds():
    test = WindowTest(WindowOptions(default_overdispersion=1.0))
    slight, strong = [33, 27, 15, 14, 13, 10, 9, 7], [128, 0, 0, 0, 0, 0, 0, 0]
    medium = score(test, slight)
    assert medium.threshold_medium_bits < medium.kl_bits < medium.threshold_high_bits
    assert medium.level == WindowLevel.MEDIUM
    assert score(test, strong).level == WindowLevel.HIGH


def test_thresholds_are_kept_until_the_baseline_grew_by_a_tenth(thresholds_computed):
    test = WindowTest(WindowOptions(default_overdispersion=1.0, min_overdispersion_windows=99))
    window = [40, 40, 8, 8, 8, 8, 8, 8]
    for total in (1250, 1300, 1370, 1380, 1500, 1520):
        score(test, window, np.full((1, 8), total, dtype=np.int64))
    assert len(thresholds_computed) == 3  # at 1250, above 1375 (1380), above 1518 (1520)


def test_thresholds_are_computed_anew_when_the_baseline_shrank(thresholds_computed):
    test = WindowTest(WindowOptions(default_overdispersion=1.0))
    window = [40, 40, 8, 8, 8, 8, 8, 8]
    score(test, window)
    score(test, window, np.full((1, 8), 100, dtype=np.int64))
    assert len(thresholds_computed) == 2


def test_own_overdispersion_takes_over_after_ten_tested_windows():
    options = WindowOptions(default_overdispersion=12.0)
    test = WindowTest(options)
    window = [40, 24, 16, 16, 16, 8, 4, 4]
    pearson = sum((count - 16) ** 2 / 16 for count in window) / 7  # eight classes in use
    phis = [score(test, window).overdispersion for _ in range(11)]
    assert phis[:10] == [12.0] * 10
    # The smoothed even baseline is exactly even, so the hand-computed ratio is exact.
    assert phis[10] == pytest.approx(pearson)


def test_overdispersion_is_at_least_that_of_independent_draws():
    test = WindowTest(WindowOptions())
    for _ in range(10):
        score(test, [16] * 8)
    assert test.own_overdispersion(3) == 1.0


def test_one_absurd_window_counts_at_most_as_the_largest_possible_overdispersion():
    test = WindowTest(WindowOptions())
    counts = np.array([[10_000, 0, 0, 0, 0, 0, 0, 0]])
    for _ in range(9):
        score(test, [128, 0, 0, 0, 0, 0, 0, 0], counts)
    score(test, [0, 128, 0, 0, 0, 0, 0, 0], counts)  # Pearson about 330,000 a degree of freedom
    assert test.own_overdispersion(3) == pytest.approx(12.8, abs=0.05)


def test_a_bursty_key_whose_threshold_nothing_can_exceed_says_so():
    test = WindowTest(WindowOptions(default_overdispersion=127.9))
    result = score(test, [128, 0, 0, 0, 0, 0, 0, 0])
    assert result.is_uninformative
    assert result.level == WindowLevel.NONE


def test_a_young_key_is_not_tested_and_teaches_no_overdispersion():
    test = WindowTest(WindowOptions(min_baseline_events=300))
    for _ in range(12):
        result = score(test, [128, 0, 0, 0, 0, 0, 0, 0], np.full((1, 8), 30, dtype=np.int64))
        assert result.level == WindowLevel.UNTESTED
    assert test.own_overdispersion(3) is None


def test_forget_drops_thresholds_and_overdispersion(thresholds_computed):
    test = WindowTest(WindowOptions(default_overdispersion=1.0, min_overdispersion_windows=1))
    window = [40, 40, 8, 8, 8, 8, 8, 8]
    score(test, window)
    test.forget(3)
    assert test.own_overdispersion(3) is None
    score(test, window)
    assert len(thresholds_computed) == 2


def test_classes_that_a_key_never_showed_do_not_dilute_its_overdispersion():
    counts = np.array([[5000, 5000, 0, 0, 0, 0, 0, 0]])
    test = WindowTest(WindowOptions(default_overdispersion=1.0))
    for _ in range(10):
        score(test, [80, 48, 0, 0, 0, 0, 0, 0], counts)
    # (16^2 / 64) twice, over one degree of freedom, plus next to nothing for the empty classes.
    assert test.own_overdispersion(3) == pytest.approx(8.0, rel=0.01)


def test_the_overdispersion_is_that_of_the_last_windows_alone():
    test = WindowTest(WindowOptions(overdispersion_windows=4, min_overdispersion_windows=2))
    ratios = []
    for number in range(11):
        extra = number % 5
        window = [16 + extra, 16 - extra, 16, 16, 16, 16, 16, 16]
        score(test, window)
        ratios.append(2 * extra**2 / 16 / 7)
        own = test.own_overdispersion(3)
        if number < 1:
            assert own is None
        else:
            assert own == pytest.approx(max(1.0, math.fsum(ratios[-4:]) / len(ratios[-4:])))
    wild = [40, 24, 16, 16, 16, 8, 4, 4]
    for _ in range(4):
        score(test, wild)
    assert test.own_overdispersion(3) == pytest.approx(sum((count - 16) ** 2 / 16 for count in wild) / 7)


def test_more_windows_than_are_kept_never_suffice():
    test = WindowTest(WindowOptions(overdispersion_windows=4, min_overdispersion_windows=5))
    for _ in range(10):
        assert score(test, [40, 24, 16, 16, 16, 8, 4, 4]).overdispersion == 12.0
    assert test.own_overdispersion(3) is None


def test_keys_do_not_share_what_they_learned_and_new_slots_start_empty():
    test = WindowTest(WindowOptions(min_overdispersion_windows=1))
    windows = np.array([[40, 24, 16, 16, 16, 8, 4, 4], [16] * 8], dtype=np.int64)
    for high in (5, 700):
        slots = np.array([0, high])
        test.score(slots, windows, EVEN.repeat(2, axis=0), np.zeros((2, 8)), np.zeros(2))
        assert test.own_overdispersion(high) == 1.0
        assert test.own_overdispersion(high - 1) is None
    assert test.own_overdispersion(0) > 1.0
    assert test.own_overdispersion(10_000) is None
    test.forget(10_000)
    test.forget(0)
    assert test.own_overdispersion(0) is None


def test_thresholds_are_computed_anew_when_the_seed_changed_or_lost_its_weight(thresholds_computed):
    test = WindowTest(WindowOptions(default_overdispersion=1.0, min_overdispersion_windows=99))
    window = np.array([[40, 40, 8, 8, 8, 8, 8, 8]])
    even, other = np.full((1, 8), 0.125), np.array([[0.12, 0.13, *[0.125] * 6]])
    for mean, kappa in ((even, 20.0), (even, 20.0), (other, 20.0), (other, 0.0), (even, 0.0), (even, 20.0)):
        test.score(SLOT, window, EVEN, mean, np.array([kappa]))
    # Anew for the first, the other mean, and where the weight ends and comes back.
    assert len(thresholds_computed) == 4
