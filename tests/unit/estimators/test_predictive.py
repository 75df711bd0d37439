"""Thresholds of the window test: published figures, enumeration, limits."""

import math

import numpy as np
import pytest

from eguard.errors import EstimatorInputError
from eguard.estimators.kl_tail import dirichlet_multinomial_weights, kl_tail
from eguard.estimators.predictive import (
    kl_exceedance,
    overdispersion,
    predictive_concentration,
    predictive_kl_thresholds,
)

EVEN, SKEWED = np.full(8, 0.125), np.array([0.9, 0.06, 0.02, 0.01, 0.005, 0.003, 0.001, 0.001])


@pytest.mark.parametrize(
    ("baseline", "medium", "high"),
    [
        # Independent program, terms rounded to the nearest .001; it gave .3258 for the first case's rarer threshold.
        (EVEN * 300, (0.181, 0.197), (0.324, 0.407)),
        (EVEN * 1000, (0.123, 0.158), (0.256, 0.275)),
        (SKEWED * 1000, (0.123, 0.158), (0.256, 0.275)),
        (EVEN * 10_000, (0.092, 0.143), (0.174, 0.2365)),
    ],
)
def test_thresholds_lie_in_the_published_ranges(baseline, medium, high):
    thresholds = predictive_kl_thresholds(baseline)
    assert medium[0] <= thresholds[0] <= medium[1]
    assert high[0] <= thresholds[1] <= high[1]


def test_the_rarer_threshold_of_an_even_key_is_the_published_one():
    assert predictive_kl_thresholds(EVEN * 300)[1] == pytest.approx(0.3258, abs=0.001)


def test_precision_of_a_thousandth_bit_is_kept():
    finest = predictive_kl_thresholds(EVEN * 300, deltas=[1e-3], grid_bits=0.0001)[0]
    assert finest <= predictive_kl_thresholds(EVEN * 300)[0] <= finest + 0.003


def test_the_chi_square_threshold_would_alarm_a_hundred_times_too_often_with_300_events():
    """.228 bits is chi2_7's 1e-6 point; the baseline's own uncertainty makes the true one .326."""
    concentration = predictive_concentration(EVEN * 300)
    weights = dirichlet_multinomial_weights(concentration, 128)
    edges, tail = kl_tail(weights, EVEN, 0.001, 0.3, round_up=False)
    assert 0.9e-4 < np.interp(0.228, edges, tail) < 4e-4


def test_a_binary_window_of_four_by_hand():
    """Concentration 1, 1: the counts 0 to 4 are equally likely, KL is 1 at the ends and .1887 at 1 and 3."""
    # Counts (.5, .5) with smoothing .5.
    by_share = predictive_kl_thresholds([0.5, 0.5], window=4, deltas=[0.85, 0.5, 0.39])
    assert by_share[:2] == pytest.approx([0.0, 0.18872], abs=2e-3)
    # Nothing is rarer than the two ends together, .4: no threshold leaves less.
    assert by_share[2] == math.inf


def test_a_window_on_the_threshold_does_not_alarm():
    threshold = predictive_kl_thresholds([0.5, 0.5], window=4, deltas=[0.5])[0]
    divergence = 0.25 * math.log2(0.25 / 0.5) + 0.75 * math.log2(0.75 / 0.5)
    assert divergence <= threshold


def test_a_seeded_key_without_events_has_thresholds():
    mean = np.array([0.6, 0.3, 0.1])
    seeded = predictive_kl_thresholds(np.zeros(3), prior_mean=mean, kappa=100.0)
    assert np.isfinite(seeded).all()
    assert seeded.tolist() == predictive_kl_thresholds(100.0 * mean).tolist()


def test_concentration_is_smoothing_plus_seed_plus_counts():
    assert predictive_concentration([8, 2], [0.5, 0.5], kappa=10.0, smoothing=1.0).tolist() == [14.0, 8.0]


def test_thresholds_fall_as_the_baseline_grows_and_rise_with_overdispersion():
    growing = [predictive_kl_thresholds(EVEN * n)[0] for n in (50, 300, 3000)]
    assert growing == sorted(growing, reverse=True)
    bursty = [predictive_kl_thresholds(EVEN * 1000, deltas=[1e-3], phi=phi)[0] for phi in (1.0, 1.5, 4.0)]
    assert bursty == sorted(bursty)
    assert bursty[2] > 2 * bursty[0]


def test_a_key_whose_windows_are_single_bursts_is_uninformative():
    assert np.isinf(predictive_kl_thresholds(EVEN * 1000, phi=128.0)).all()
    # Nearly so: seven or eight of eight events of the other class come about once in 2,000 windows, not in a million.
    assert np.isinf(predictive_kl_thresholds([1000, 0], window=8, phi=7.9)).tolist() == [False, True]


def test_deltas_keep_their_order():
    forward = predictive_kl_thresholds(EVEN * 500, deltas=[1e-2, 1e-3, 1e-6])
    assert predictive_kl_thresholds(EVEN * 500, deltas=[1e-6, 1e-3, 1e-2]) == pytest.approx(forward[::-1], abs=1e-3)


def test_overdispersion_is_the_mean_pearson_statistic_over_its_degrees_of_freedom():
    # 64 expected: (32^2 + 32^2)/64 = 32 and 0; mean 16, one degree of freedom.
    assert overdispersion([[64, 64], [96, 32]], [0.5, 0.5]) == 16.0


def test_multinomial_windows_have_overdispersion_one():
    counts = np.random.default_rng(0).multinomial(128, SKEWED, size=20_000)
    assert overdispersion(counts, SKEWED) == pytest.approx(1.0, abs=0.05)


def test_overdispersion_recovers_a_dirichlet_multinomials():
    """Variance is inflated by (n + c)/(1 + c)."""
    rng = np.random.default_rng(1)
    counts = np.array([rng.multinomial(128, p) for p in rng.dirichlet(EVEN * 40.0, size=4000)])
    assert overdispersion(counts, EVEN) == pytest.approx(168 / 41, rel=0.05)


def test_windows_evener_than_chance_do_not_lower_thresholds():
    assert overdispersion([[64, 64]] * 10, [0.5, 0.5]) == 1.0


def test_exceedance_of_a_coin_by_hand():
    # KL(c/4 || 1/2): 1 at 0 and 4, .1887 at 1 and 3, 0 at 2.
    assert kl_exceedance(0.5, [0.5, 0.5], [0.5, 0.5], window=4) == pytest.approx(2 / 16)
    assert kl_exceedance(0.1, [0.5, 0.5], [0.5, 0.5], window=4) == pytest.approx(10 / 16)
    assert kl_exceedance(0.5, [0.5, 0.5], [0.9, 0.1], window=4) == pytest.approx(0.9**4 + 0.1**4)


def test_exceedance_agrees_with_drawn_windows():
    rng = np.random.default_rng(2)
    shifted = np.array([0.3, 0.05, 0.15, 0.1, 0.1, 0.1, 0.1, 0.1])
    counts = rng.multinomial(128, shifted, size=200_000)
    shares = counts / 128
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = np.where(shares > 0, shares * np.log2(shares / EVEN), 0.0).sum(axis=1)
    rate = float((divergence > 0.25).mean())
    assert kl_exceedance(0.25, EVEN, shifted) == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / 200_000))


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("baseline_counts", lambda: predictive_kl_thresholds([1.0, -1.0])),
        ("baseline_counts", lambda: predictive_kl_thresholds([1.0])),
        ("baseline_counts", lambda: predictive_kl_thresholds([[1.0, 2.0]])),
        ("window", lambda: predictive_kl_thresholds([1, 2], window=1)),
        ("deltas", lambda: predictive_kl_thresholds([1, 2], deltas=[1e-13])),
        ("deltas", lambda: predictive_kl_thresholds([1, 2], deltas=[1.0])),
        ("prior_mean", lambda: predictive_kl_thresholds([1, 2], kappa=1.0)),
        ("prior_mean", lambda: predictive_kl_thresholds([1, 2], kappa=1.0, prior_mean=[0.2, 0.2, 0.6])),
        ("kappa", lambda: predictive_kl_thresholds([1, 2], kappa=-1.0)),
        ("phi", lambda: predictive_kl_thresholds([1, 2], phi=0.9)),
        ("smoothing", lambda: predictive_kl_thresholds([1, 2], smoothing=0.0)),
        ("grid_bits", lambda: predictive_kl_thresholds([1, 2], grid_bits=0.0)),
        ("window_counts", lambda: overdispersion([[0, 0]], [0.5, 0.5])),
        ("window_counts", lambda: overdispersion([[1, 2, 3]], [0.5, 0.5])),
        ("probabilities", lambda: overdispersion([[1, 2]], [1.0, 0.0])),
        ("probabilities", lambda: kl_exceedance(0.1, [0.5, 0.5], [0.2, 0.3, 0.5])),
        ("reference", lambda: kl_exceedance(0.1, [1.0, 0.0], [0.5, 0.5])),
        ("threshold_bits", lambda: kl_exceedance(-0.1, [0.5, 0.5], [0.5, 0.5])),
        ("window", lambda: kl_exceedance(0.1, [0.5, 0.5], [0.5, 0.5], window=1)),
    ],
)
def test_input_without_an_answer_is_refused_by_name(argument, call):
    with pytest.raises(EstimatorInputError) as caught:
        call()
    assert caught.value.argument == argument
