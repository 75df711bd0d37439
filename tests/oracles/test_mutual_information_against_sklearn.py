"""Mutual information against scikit-learn, buckets against pandas, the event phase against scipy's periodogram."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lombscargle
from sklearn.metrics import mutual_info_score

from eguard.estimators import mutual_information_bits, quantile_buckets
from eguard.estimators.phase import event_phase


@pytest.mark.parametrize("levels", [2, 5, 8])
def test_mutual_information_equals_sklearn(levels):
    rng = np.random.default_rng(levels)
    for n in (1, 7, 64, 500):
        x = rng.integers(levels, size=n)
        y = np.where(rng.random(n) < 0.5, x, rng.integers(levels, size=n))
        oracle = mutual_info_score(x, y) / math.log(2.0)
        assert mutual_information_bits(x, y) == pytest.approx(oracle, abs=1e-12)


def test_quantile_buckets_equal_pandas_cuts_of_distinct_edges():
    rng = np.random.default_rng(9)
    for x in (rng.normal(size=100), rng.lognormal(size=41)):
        edges = np.unique(np.quantile(x, np.arange(1, 8) / 8))
        cut = pd.cut(x, [-np.inf, *edges, np.inf], right=False, labels=False)
        np.testing.assert_array_equal(quantile_buckets(x), cut)


def test_the_strongest_event_phase_is_where_a_periodogram_of_counts_peaks():
    rng = np.random.default_rng(6)
    times = 60.0 * (np.arange(100) + rng.uniform(-0.2, 0.2, 100))
    times -= times[0]
    grid = np.arange(0.0, times[-1], 5.0)
    counts = np.histogram(times, np.append(grid, times[-1]))[0].astype(float)
    frequencies = np.linspace(1 / 90.0, 1 / 40.0, 2000)
    power = lombscargle(grid, counts - counts.mean(), 2.0 * np.pi * frequencies)
    assert event_phase(times).period_seconds == pytest.approx(1.0 / frequencies[power.argmax()], rel=2e-3)
