"""The screen never lies above the exact threshold, and equals it where one class decides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eguard.detection.window_screen import threshold_lower_bound_bits
from eguard.estimators import predictive_kl_thresholds


def bound(counts, phi, window=128, delta=1e-3):
    counts = np.asarray(counts, dtype=np.float64)
    total = counts.sum() + 0.5 * len(counts)
    widened = 1.0 / ((phi - 1.0) / (window - phi) + 1.0 / total)
    return threshold_lower_bound_bits((counts + 0.5) / total, widened, window, delta)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 3000), min_size=8, max_size=8).filter(lambda counts: sum(counts) >= 100),
    st.floats(1.0, 60.0),
)
def test_the_screen_is_a_lower_bound_of_the_exact_threshold(counts, phi):
    exact = predictive_kl_thresholds(counts, phi=phi, deltas=(1e-3,), grid_bits=0.01 * phi)[0]
    assert bound(counts, phi) <= exact + 1e-9


def test_with_two_classes_the_screen_is_the_exact_quantile():
    # One class against the other: the beta-binomial is the whole predictive.
    expected, concentration, window, delta = np.array([0.9, 0.1]), 500.0, 64, 1e-2
    counts = np.arange(window + 1)
    pmf = stats.betabinom(window, 450.0, 50.0).pmf(counts)
    shares = counts / window
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = np.nansum([shares * np.log2(shares / 0.9), (1 - shares) * np.log2((1 - shares) / 0.1)], axis=0)
    values = sorted(divergence, reverse=True)
    exact = next(value for value in values if pmf[divergence >= value].sum() > delta)
    assert threshold_lower_bound_bits(expected, concentration, window, delta) == pytest.approx(exact, abs=1e-12)


def test_burstier_keys_have_higher_screens():
    bounds = [bound([400, 300, 200, 100, 0, 0, 0, 0], phi) for phi in (1.0, 2.0, 5.0, 20.0)]
    assert bounds == sorted(bounds)
    assert bounds[0] < 0.2 < bounds[-1]
