"""Properties of conformal ranks, thresholds, p-values and the two-sample test."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eguard.estimators.conformal import conformal_p_values, conformal_rank, conformal_threshold, pac_rank
from eguard.estimators.two_sample import two_sample_ks

alphas = st.integers(1, 499).map(lambda thousandths: thousandths / 1000)
score_arrays = arrays(np.float64, st.integers(1, 60), elements=st.integers(-5, 5).map(float))


@given(n=st.integers(1, 100_000), alpha=alphas)
def test_the_rank_is_the_smallest_whose_share_reaches_the_coverage(n, alpha):
    coverage = 1 - Fraction(round(alpha * 1000), 1000)
    rank = conformal_rank(n, alpha)
    if rank is None:
        assert Fraction(n, n + 1) < coverage
    else:
        assert Fraction(rank, n + 1) >= coverage
        assert Fraction(rank - 1, n + 1) < coverage


@given(n=st.integers(1, 20_000), alpha=alphas)
def test_the_pac_rank_is_never_below_the_marginal_one_where_its_promise_is_stronger(n, alpha):
    """The 95 % quantile of a Beta law lies above its mean once the mean is at least one score away from the edge."""
    marginal, pac = conformal_rank(n, alpha), pac_rank(n, alpha)
    assert pac is None or (marginal is not None and pac >= marginal)


@settings(max_examples=100, deadline=None)
@given(calibration=score_arrays, scores=score_arrays, alpha=alphas)
def test_a_score_is_flagged_exactly_when_its_plain_p_value_is_at_most_alpha(calibration, scores, alpha):
    flagged = conformal_threshold(calibration, alpha).flags(scores)
    level = Fraction(round(alpha * 1000), 1000)
    n = calibration.size
    at_least = [int((calibration >= s).sum()) for s in scores]
    assert flagged.tolist() == [Fraction(k + 1, n + 1) <= level for k in at_least]
    assert conformal_p_values(calibration, scores).tolist() == [(k + 1) / (n + 1) for k in at_least]


@settings(max_examples=100, deadline=None)
@given(calibration=score_arrays, scores=score_arrays, seed=st.integers(0, 2**32 - 1))
def test_smoothed_p_values_lie_between_the_strict_and_the_plain_one(calibration, scores, seed):
    smoothed = conformal_p_values(calibration, scores, np.random.default_rng(seed))
    strict = np.array([(calibration > s).sum() for s in scores]) / (calibration.size + 1)
    assert (smoothed >= strict).all()
    assert (smoothed <= conformal_p_values(calibration, scores)).all()


@settings(max_examples=100, deadline=None)
@given(calibration=score_arrays, scores=score_arrays)
def test_p_values_depend_on_order_only(calibration, scores):
    bent = conformal_p_values(np.exp(calibration), np.exp(scores))
    assert np.array_equal(bent, conformal_p_values(calibration, scores))


@settings(max_examples=100, deadline=None)
@given(a=score_arrays, b=score_arrays)
def test_the_two_sample_statistic_is_the_largest_gap_and_its_p_value_a_probability(a, b):
    statistic, p_value = two_sample_ks(a, b)
    gaps = [abs(np.mean(a <= x) - np.mean(b <= x)) for x in np.r_[a, b]]
    assert abs(statistic - max(gaps)) < 1e-12
    assert 0.0 < p_value <= 1.0
    assert two_sample_ks(np.exp(a), np.exp(b)) == (statistic, p_value)
