"""Bounds of counts against SciPy's distributions and against sums by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from eguard.errors import EstimatorInputError
from eguard.estimators import binomial_bound, poisson_bound


def test_the_poisson_bound_by_hand():
    # P(X <= 4) of mean 1 is e^-1 (1 + 1 + 1/2 + 1/6 + 1/24) = .99634, with 1/120 more it is .99941.
    below = math.exp(-1.0) * (1 + 1 + 1 / 2 + 1 / 6 + 1 / 24)
    assert below < 0.999 <= below + math.exp(-1.0) / 120
    assert poisson_bound(1.0) == 5


def test_the_binomial_bound_by_hand():
    # Three trials at .1: P(X <= 1) = .972, P(X <= 2) = .999 exactly, as 1 - .1**3.
    assert binomial_bound(3, 0.1, 0.998) == 2
    assert binomial_bound(3, 0.1, 0.972 - 1e-9) == 1
    assert binomial_bound(3, 0.1, 0.9991) == 3


def test_poisson_bounds_are_scipys():
    for mean in np.concatenate([np.geomspace(1e-6, 1e7, 200), np.arange(1.0, 60.0)]):
        for probability in (0.5, 0.99, 0.999):
            assert poisson_bound(float(mean), probability) == int(stats.poisson.ppf(probability, mean))


def test_binomial_bounds_are_scipys():
    for trials in (1, 2, 10, 99, 1000, 200_000):
        for share in (1e-6, 1e-3, 0.01, 0.1, 0.5, 0.97):
            for probability in (0.9, 0.99, 0.999):
                expected = int(stats.binom.ppf(probability, trials, share))
                assert binomial_bound(trials, share, probability) == expected


def test_edges():
    assert poisson_bound(0.0) == 0
    assert [binomial_bound(0, 0.3), binomial_bound(7, 0.0), binomial_bound(7, 1.0)] == [0, 0, 7]


@pytest.mark.parametrize("mean", [-1.0, math.nan, math.inf])
def test_a_mean_that_is_none_is_refused(mean):
    with pytest.raises(EstimatorInputError, match="mean"):
        poisson_bound(mean)


@pytest.mark.parametrize(
    ("trials", "share", "probability"),
    [(-1, 0.5, 0.9), (1, -0.1, 0.9), (1, 1.1, 0.9), (1, math.nan, 0.9), (1, 0.5, 1.0)],
)
def test_trials_and_shares_that_are_none_are_refused(trials, share, probability):
    with pytest.raises(EstimatorInputError):
        binomial_bound(trials, share, probability)
