"""Conformal p-values and thresholds against crepes; Kolmogorov-Smirnov against scipy."""

import numpy as np
import pytest
from crepes import ConformalClassifier
from crepes.base import p_values_batch
from scipy import stats

from eguard.estimators.conformal import conformal_p_values, conformal_threshold, mondrian_thresholds
from eguard.estimators.two_sample import two_sample_ks


def scores(seed, n, *, ties):
    values = np.random.default_rng(seed).gamma(2.0, size=n)
    return values.round(1) if ties else values


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [1, 9, 250])
def test_plain_p_values_are_crepes(n, ties):
    calibration, test = scores(0, n, ties=ties), scores(1, 120, ties=ties)
    expected = p_values_batch(calibration, test, smoothing=False)
    assert np.array_equal(conformal_p_values(calibration, test), expected)


@pytest.mark.parametrize("ties", [False, True])
def test_smoothed_p_values_are_crepes_for_the_same_draws(ties):
    calibration, test = scores(2, 250, ties=ties), scores(3, 120, ties=ties)

    class LegacyDraws:
        """crepes draws from NumPy's global generator, seeded."""

        def random(self, shape):
            return np.random.RandomState(11).rand(*shape)

    expected = p_values_batch(calibration, test, smoothing=True, seed=11)
    assert conformal_p_values(calibration, test, LegacyDraws()) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("n", [8, 19, 99, 1000])
def test_a_score_is_flagged_exactly_when_crepes_leaves_it_out_of_the_prediction_set(n, alpha):
    calibration, test = scores(4, n, ties=True), scores(5, 400, ties=True)
    classifier = ConformalClassifier()
    classifier.fit(calibration)
    # crepes keeps a p-value of exactly alpha or not as 1 - (1 - alpha) falls; ours is exact there and leaves it out.
    confidence = 1.0 - alpha - 1e-9
    included = classifier.predict_set(test[:, None], confidence=confidence, smoothing=False)[:, 0].astype(bool)
    assert np.array_equal(conformal_threshold(calibration, alpha).flags(test), ~included)


def test_mondrian_thresholds_flag_what_crepes_leaves_out_by_category():
    calibration, test = scores(6, 900, ties=False), scores(7, 600, ties=False)
    rng = np.random.default_rng(8)
    calibration_bins, test_bins = rng.integers(0, 3, 900), rng.integers(0, 3, 600)
    calibration[calibration_bins == 1] *= 3.0
    p_values = p_values_batch(calibration, test, calibration_bins, test_bins, smoothing=False)
    thresholds = mondrian_thresholds(calibration, calibration_bins.tolist(), 0.05)
    flagged = [score > thresholds.of(category).threshold for score, category in zip(test, test_bins, strict=True)]
    assert flagged == (p_values <= 0.05).tolist()


@pytest.mark.parametrize("seed", range(30))
def test_the_exact_p_value_is_scipys(seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 80, 2)
    a, b = rng.normal(size=n), rng.normal(rng.choice([0.0, 0.5, 3.0]), size=m)
    expected = stats.ks_2samp(a, b, method="exact")
    statistic, p_value = two_sample_ks(a, b, method="exact")
    assert statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_the_exact_p_value_is_scipys_at_the_size_of_a_daily_check():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=1000), rng.normal(0.1, size=400)
    assert two_sample_ks(a, b)[1] == pytest.approx(stats.ks_2samp(a, b, method="exact").pvalue, rel=1e-9)


def test_the_statistic_with_ties_is_scipys():
    a, b = scores(9, 200, ties=True), scores(10, 300, ties=True) + 0.1
    assert two_sample_ks(a, b, "asymptotic")[0] == pytest.approx(stats.ks_2samp(a, b).statistic, abs=1e-12)
