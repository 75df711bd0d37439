"""Invariants of the periodicity score over arbitrary sequences of times."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eguard.estimators import bowley_skewness, periodicity_score

GAPS = st.lists(st.integers(-50, 5000).map(lambda i: i / 16.0), min_size=1, max_size=120)


@given(GAPS)
def test_everything_stays_in_its_range(gaps):
    result = periodicity_score(np.cumsum(gaps))
    for share in (result.score, result.timer, result.symmetry, result.count_regularity, result.p_value):
        assert 0.0 <= share <= 1.0
    assert result.n_observations + result.n_skipped <= len(gaps)
    assert math.isnan(result.period_seconds) == (result.score == 0.0 and result.p_value == 1.0)
    if not math.isnan(result.period_seconds):
        assert result.period_seconds > 0.0


@given(GAPS, st.integers(0, 2**20))
def test_the_origin_of_time_does_not_matter(gaps, origin):
    times = np.cumsum(gaps)
    # repr and not ==: a NaN period equals itself here.
    assert repr(periodicity_score(times)) == repr(periodicity_score(times + origin))


@given(st.lists(st.integers(16, 5000).map(float), min_size=25, max_size=100), st.integers(1, 6))
def test_the_unit_of_time_does_not_matter_where_nothing_is_a_burst(gaps, exponent):
    factor = 2.0**exponent
    plain, scaled = periodicity_score(np.cumsum(gaps)), periodicity_score(factor * np.cumsum(gaps))
    assert math.isclose(scaled.score, plain.score, rel_tol=1e-9)
    assert math.isclose(scaled.p_value, plain.p_value, rel_tol=1e-6)
    assert math.isclose(scaled.period_seconds, factor * plain.period_seconds, rel_tol=1e-9)


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=60), st.integers(-5, 5), st.integers(-99, 99))
def test_quartile_skewness_is_bounded_odd_and_blind_to_shift_and_scale(values, exponent, shift):
    skewness = bowley_skewness(values)
    assert -1.0 <= skewness <= 1.0
    assert bowley_skewness([-v for v in values]) == -skewness
    assert math.isclose(bowley_skewness([2.0**exponent * (v + shift) for v in values]), skewness, abs_tol=1e-12)
