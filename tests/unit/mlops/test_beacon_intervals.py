"""Exact intervals agree with scipy's and refuse what is no count."""

import pytest
from scipy.stats import binomtest

from eguard.errors import EstimatorInputError
from eguard.mlops.beacon_intervals import clopper_pearson, rate


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (0, 40), (40, 40), (1, 292), (7, 13), (150, 1512)])
def test_agrees_with_scipy(successes, trials):
    expected = binomtest(successes, trials).proportion_ci(0.95, "exact")
    assert clopper_pearson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_no_trials_tell_nothing():
    assert rate(0, 0) == {"count": 0, "of": 0, "rate": None, "interval": [0.0, 1.0]}


@pytest.mark.parametrize(("successes", "trials"), [(-1, 3), (4, 3)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(EstimatorInputError, match="successes"):
        clopper_pearson(successes, trials)
