"""What conformal thresholds and the two-sample check promise, by simulation."""

import math

import numpy as np
import pytest
from scipy.stats import beta, binom, kstest

from eguard.estimators.conformal import (
    conformal_p_values,
    conformal_rank,
    conformal_threshold,
    mondrian_thresholds,
    pac_rank,
)
from eguard.estimators.two_sample import two_sample_ks

pytestmark = pytest.mark.slow


def false_positive_rates(rng, n, alpha, guarantee, sets):
    """The exact rate of each of many calibrations: scores are uniform, so it is 1 - threshold."""
    return np.array([1.0 - conformal_threshold(rng.random(n), alpha, guarantee).threshold for _ in range(sets)])


@pytest.mark.parametrize(("n", "alpha"), [(99, 0.01), (1000, 0.01), (1000, 0.1)])
def test_the_false_positive_rate_given_the_calibration_set_is_beta(n, alpha):
    """4,000 calibration sets."""
    rates = false_positive_rates(np.random.default_rng(40), n, alpha, "marginal", 4000)
    rank = conformal_rank(n, alpha)
    assert kstest(rates, beta(n + 1 - rank, rank).cdf).pvalue > 0.01
    standard_error = rates.std() / math.sqrt(rates.size)
    assert rates.mean() <= alpha + 3 * standard_error


def test_one_calibration_in_twenty_exceeds_the_printed_rate():
    rates = false_positive_rates(np.random.default_rng(41), 1000, 0.01, "marginal", 4000)
    assert np.quantile(rates, 0.95) == pytest.approx(0.0157, abs=0.0005)


@pytest.mark.parametrize("n", [299, 500, 1000, 5000])
def test_the_pac_threshold_holds_for_95_percent_of_calibrations(n):
    """2,000 calibration sets; the share is exact by the Beta law, so the interval is the binomial's alone."""
    rates = false_positive_rates(np.random.default_rng(42), n, 0.01, "pac", 2000)
    rank = pac_rank(n, 0.01)
    promised = beta(n + 1 - rank, rank).cdf(0.01)
    assert promised >= 0.95
    held = int((rates <= 0.01).sum())
    assert binom.ppf(0.001, 2000, promised) <= held <= binom.ppf(0.999, 2000, promised)


def test_ties_lower_the_rate_and_never_raise_it():
    """Scores of ten values, 2,000 calibration sets."""
    rng = np.random.default_rng(43)
    probabilities = np.arange(10, 0, -1) / 55
    rates = []
    for _ in range(2000):
        threshold = conformal_threshold(rng.choice(10, size=99, p=probabilities), 0.1).threshold
        rates.append(probabilities[np.arange(10) > threshold].sum())
    assert np.mean(rates) <= 0.1


def test_each_category_of_its_own_keeps_the_rate_where_the_pool_does_not():
    """Two classes of scores, one ten times larger: pooled, all false positives fall on it."""
    rng = np.random.default_rng(44)
    own, pooled = [], []
    for _ in range(1000):
        scores = np.r_[rng.random(300), 10 * rng.random(300)]
        thresholds = mondrian_thresholds(scores, ["small"] * 300 + ["large"] * 300, 0.05)
        own.append(1.0 - thresholds.of("large").threshold / 10)
        pooled.append(1.0 - thresholds.pooled.threshold / 10)
    assert np.mean(own) == pytest.approx(0.05, abs=0.002)
    assert np.mean(pooled) == pytest.approx(0.1, abs=0.005)


def test_smoothed_p_values_are_uniform_and_plain_ones_conservative():
    """One score for each of 20,000 calibration sets: only then are p-values independent."""
    rng = np.random.default_rng(45)
    smoothed, plain = [], []
    for _ in range(20_000):
        calibration, score = rng.poisson(2.0, size=20), rng.poisson(2.0)
        smoothed.append(float(conformal_p_values(calibration, score, rng)))
        plain.append(float(conformal_p_values(calibration, score)))
    assert kstest(smoothed, "uniform").pvalue > 0.01
    for level in (0.05, 0.1, 0.3):
        assert np.mean(np.array(plain) <= level) <= level


def test_the_one_sample_check_fires_almost_surely_under_the_null_and_the_two_sample_one_does_not():
    """1,000 calibration and 10,000 current scores, 300 times, level .01."""
    rng = np.random.default_rng(46)
    one_sample = two_sample = 0
    for _ in range(300):
        calibration, current = rng.normal(size=1000), rng.normal(size=10_000)
        one_sample += kstest(conformal_p_values(calibration, current, rng), "uniform", method="asymp").pvalue < 0.01
        two_sample += two_sample_ks(calibration, current)[1] < 0.01
    assert one_sample / 300 > 0.9
    assert two_sample <= binom.ppf(0.99, 300, 0.01)


def test_a_day_of_corrected_hourly_checks_keeps_one_percent():
    """24 checks of 400 scores against one calibration set of 1,000, level .01/24, 600 days."""
    rng = np.random.default_rng(47)
    corrected = uncorrected = 0
    for _ in range(600):
        calibration = rng.normal(size=1000)
        p_values = [two_sample_ks(calibration, rng.normal(size=400), "asymptotic")[1] for _ in range(24)]
        corrected += min(p_values) < 0.01 / 24
        uncorrected += min(p_values) < 0.01
    assert corrected <= binom.ppf(0.99, 600, 0.01)
    assert uncorrected / 600 > 0.05


def test_the_daily_check_sees_a_shift_that_hourly_ones_see_half_the_time():
    """A shift of .25 deviations, 1,000 calibration scores: one check of 9,600 scores against one of 400."""
    rng = np.random.default_rng(48)
    daily = hourly = 0
    for _ in range(100):
        calibration = rng.normal(size=1000)
        current = rng.normal(0.25, size=9600)
        daily += two_sample_ks(calibration, current)[1] < 0.01
        hourly += two_sample_ks(calibration, current[:400], "asymptotic")[1] < 0.01 / 24
    assert daily == 100
    assert 25 <= hourly <= 80
