"""Ranks, thresholds and p-values of split conformal prediction: the published tables."""

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta

from eguard.errors import EstimatorInputError
from eguard.estimators.conformal import (
    conformal_p_values,
    conformal_rank,
    conformal_threshold,
    mondrian_thresholds,
    pac_rank,
)

REFERENCE = json.loads(
    (Path(__file__).parents[3] / "data" / "raw" / "reference" / "conformal.json").read_text(encoding="utf-8")
)
CALIBRATION = [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.9, 1.0]
SCORES = [0.5, 0.05, 2.0, 0.9]


@pytest.mark.parametrize(
    ("n", "alpha", "rank"),
    [
        (18, 0.05, None),
        (19, 0.05, 19),
        (98, 0.01, None),
        (99, 0.01, 99),
        (100, 0.01, 100),
        (199, 0.01, 198),
        (999, 0.01, 990),
        (1000, 0.01, 991),
        (8, 0.1, None),
        (9, 0.1, 9),
    ],
)
def test_ranks_are_the_printed_ones(n, alpha, rank):
    assert conformal_rank(n, alpha) == rank


@pytest.mark.parametrize("row", REFERENCE["table"], ids=lambda row: f"{row['n']}-{row['alpha']}")
def test_ranks_and_coverage_agree_with_the_reference_table(row):
    n, alpha = row["n"], row["alpha"]
    rank = conformal_rank(n, alpha)
    if "threshold" in row:
        assert rank is None
        return
    assert rank == row["rank"]
    coverage = beta(rank, n + 1 - rank)
    assert coverage.mean() == pytest.approx(row["coverage_mean"], abs=1e-12)
    assert coverage.ppf([0.05, 0.5, 0.95]) == pytest.approx(
        [row["coverage_q05"], row["coverage_q50"], row["coverage_q95"]], abs=1e-9
    )


def test_the_smallest_calibration_sets_with_a_finite_threshold_are_the_reference_ones():
    for alpha, least in REFERENCE["min_n_for_finite_threshold"].items():
        assert conformal_rank(least, float(alpha)) == least
        assert conformal_rank(least - 1, float(alpha)) is None


def test_the_rank_takes_the_decimal_that_was_written():
    """0.3 is below 3/10 in binary: computed from the float, ceil(0.7 * 10) would be 8."""
    assert Fraction(0.3) < Fraction(3, 10)
    assert conformal_rank(9, 0.3) == 7
    assert conformal_rank(9, Fraction(3, 10)) == 7


@pytest.mark.parametrize(
    ("n", "rank"),
    [(298, None), (299, 299), (300, 300), (500, 499), (1000, 996), (5000, 4962), (10_000, 9917)],
)
def test_pac_ranks_are_the_printed_ones(n, rank):
    assert pac_rank(n, 0.01) == rank


def test_the_pac_rank_is_the_smallest_that_holds():
    for n in (300, 555, 2000):
        rank = pac_rank(n, 0.01)
        assert beta(n + 1 - rank, rank).cdf(0.01) >= 0.95
        assert beta(n + 2 - rank, rank - 1).cdf(0.01) < 0.95


def test_the_threshold_is_the_score_of_that_rank():
    scores = np.random.default_rng(0).permutation(1000)
    marginal = conformal_threshold(scores, 0.01)
    assert (marginal.threshold, marginal.rank, marginal.n, marginal.status) == (990.0, 991, 1000, "calibrated")
    pac = conformal_threshold(scores, 0.01, guarantee="pac")
    assert (pac.threshold, pac.rank, pac.guarantee) == (995.0, 996, "pac")


def test_too_few_scores_give_an_infinite_threshold_that_flags_nothing():
    threshold = conformal_threshold(range(98), 0.01)
    assert (threshold.threshold, threshold.rank, threshold.status) == (math.inf, None, "insufficient_calibration")
    assert not threshold.flags([1e308]).any()
    assert conformal_threshold(range(298), 0.01, guarantee="pac").status == "insufficient_calibration"


def test_a_score_equal_to_the_threshold_is_not_flagged():
    threshold = conformal_threshold([0.5] * 99, 0.01)
    assert threshold.flags([0.5, np.nextafter(0.5, 1.0)]).tolist() == [False, True]


def test_interpolated_quantiles_would_flag_more():
    """Why never numpy.quantile: with 99 scores its 99 % point lies below the largest score."""
    scores = np.arange(99.0)
    assert np.quantile(scores, 0.99) < conformal_threshold(scores, 0.01).threshold


def test_a_category_has_its_own_threshold_when_it_has_scores_enough():
    scores = [*range(100, 199), *range(50)]
    thresholds = mondrian_thresholds(scores, ["exec"] * 99 + ["login"] * 50, 0.01)
    assert thresholds.of("exec").threshold == 198.0
    assert thresholds.by_category["login"].status == "insufficient_calibration"
    assert thresholds.of("login") is thresholds.pooled
    assert thresholds.of("never seen") is thresholds.pooled
    assert thresholds.pooled.n == 149


def test_plain_p_values_are_the_printed_ones():
    assert conformal_p_values(CALIBRATION, SCORES).tolist() == [0.6, 1.0, 0.1, 0.3]


def test_smoothed_p_values_lie_in_the_printed_ranges():
    low, high = np.array([0.2, 0.9, 0.0, 0.1]), np.array([0.6, 1.0, 0.1, 0.3])
    drawn = np.array([conformal_p_values(CALIBRATION, SCORES, np.random.default_rng(i)) for i in range(500)])
    assert (drawn >= low).all()
    assert (drawn <= high).all()
    # Uniform on the range: the extremes are approached.
    assert drawn.min(axis=0) == pytest.approx(low, abs=0.01)
    assert drawn.max(axis=0) == pytest.approx(high, abs=0.01)


def test_p_values_keep_the_shape_of_the_scores():
    assert conformal_p_values(CALIBRATION, np.zeros((2, 3))).shape == (2, 3)
    assert conformal_p_values(CALIBRATION, 0.5, np.random.default_rng(0)).shape == ()


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("alpha", lambda: conformal_rank(100, 0.0)),
        ("alpha", lambda: conformal_rank(100, 0.5)),
        ("n", lambda: conformal_rank(0, 0.1)),
        ("n", lambda: pac_rank(0, 0.1)),
        ("confidence", lambda: pac_rank(100, 0.1, confidence=1.0)),
        ("scores", lambda: conformal_threshold([], 0.1)),
        ("scores", lambda: conformal_threshold([0.1, math.nan], 0.1)),
        ("guarantee", lambda: conformal_threshold([0.1], 0.1, guarantee="full")),
        ("categories", lambda: mondrian_thresholds([0.1, 0.2], ["a"], 0.1)),
        ("calibration", lambda: conformal_p_values([], [0.1])),
        ("scores", lambda: conformal_p_values([0.1], [math.inf])),
    ],
)
def test_input_without_an_answer_is_refused_by_name(argument, call):
    with pytest.raises(EstimatorInputError) as caught:
        call()
    assert caught.value.argument == argument
