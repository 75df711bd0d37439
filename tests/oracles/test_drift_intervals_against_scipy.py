"""Intervals of rates and medians, and hourly divergences, against scipy."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import binom, chi2

from eguard.mlops.drift_counts import divergences
from eguard.mlops.drift_intervals import median_with_interval, poisson_interval


@pytest.mark.parametrize("count", [0, 1, 2, 7, 40, 500])
def test_poisson_interval_is_garwoods(count):
    low, high = poisson_interval(count)
    assert low == pytest.approx(chi2.ppf(0.025, 2 * count) / 2 if count else 0.0)
    assert high == pytest.approx(chi2.ppf(0.975, 2 * count + 2) / 2)


@pytest.mark.parametrize("n", range(1, 60))
def test_median_interval_has_its_confidence_and_no_shorter_one_has(n):
    interval = median_with_interval([float(value) for value in range(1, n + 1)])["interval"]
    if interval is None:
        assert 2 * binom.cdf(0, n, 0.5) > 0.05
        return
    k = int(interval[0])
    assert interval == [k, n + 1 - k]
    assert 1 - 2 * binom.cdf(k - 1, n, 0.5) >= 0.95
    assert 1 - 2 * binom.cdf(k, n, 0.5) < 0.95


def test_a_median_among_infinite_delays():
    delays = [1.0, 2.0, 3.0, 4.0, *[np.inf] * 5]
    assert median_with_interval(delays) == {"value": None, "interval": [2.0, None]}
    assert median_with_interval([]) is None


def test_hourly_divergences_are_the_squares_of_scipys_distances():
    counts = np.random.default_rng(11).poisson(3.0, (4, 60, 12))
    found = divergences(counts, 24, min_events=1, same_hour_width=0)
    pinned = counts[:, :24].sum(axis=1)
    for series in range(4):
        for hour in range(24, 60):
            current = counts[series, hour]
            for name, reference in (
                ("pinned", pinned[series]),
                ("previous", counts[series, hour - 1]),
                ("same_hour", counts[series, hour % 24]),
            ):
                expected = jensenshannon(current, reference) ** 2
                assert found[name].js_nats[series, hour] == pytest.approx(expected, abs=1e-12)
