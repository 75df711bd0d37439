"""Standardising by the past: hand-computed moments."""

import math

import pytest

from eguard.errors import EstimatorInputError
from eguard.estimators.running_moments import RankStandardiser, RunningStandardiser


def test_a_value_is_judged_by_its_predecessors_only():
    standardise = RunningStandardiser(burn_in=3)
    # 1, 2, 3: mean 2, sample deviation 1. 1, 2, 3, 6: mean 3, sum of squares 14.
    assert [standardise.update(x) for x in (1, 2, 3, 6, 3)] == [None, None, None, 4.0, 0.0]
    assert standardise.deviation == pytest.approx(math.sqrt(14 / 4))


def test_a_constant_stream_does_not_divide_by_zero():
    standardise = RunningStandardiser(burn_in=2, deviation_floor=0.5)
    assert [standardise.update(x) for x in (1, 1, 1, 2)] == [None, None, 0.0, 2.0]


def test_moments_stay_accurate_far_from_zero():
    standardise = RunningStandardiser(burn_in=4)
    for x in (1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16):
        standardise.update(x)
    assert standardise.deviation == pytest.approx(math.sqrt(30), rel=1e-12)


def test_reset_begins_a_new_burn_in():
    standardise = RunningStandardiser(burn_in=2)
    for x in (1, 2, 3):
        standardise.update(x)
    standardise.reset()
    assert standardise.update(5) is None
    assert (standardise.count, standardise.mean) == (1, 5.0)


def test_ranks_are_the_normal_distribution_function():
    rank = RankStandardiser(burn_in=3)
    for x in (1, 2, 3):
        assert rank.update(x) is None
    assert rank.update(2) == 0.5
    rank.reset()
    assert [rank.update(x) for x in (1, 2, 3)] == [None] * 3
    assert rank.update(2 + 1.6448536269514722) == pytest.approx(0.95, abs=1e-12)


@pytest.mark.parametrize(
    ("argument", "parameters"),
    [("burn_in", {"burn_in": 1}), ("deviation_floor", {"deviation_floor": 0.0})],
)
def test_parameters_out_of_range_are_refused_by_name(argument, parameters):
    with pytest.raises(EstimatorInputError) as caught:
        RunningStandardiser(**parameters)
    assert caught.value.argument == argument


def test_a_value_that_is_no_number_is_refused_and_changes_nothing():
    standardise = RunningStandardiser()
    with pytest.raises(EstimatorInputError, match="x"):
        standardise.update(math.nan)
    assert standardise.count == 0


def test_what_is_not_to_be_learned_is_judged_all_the_same():
    standardise = RunningStandardiser(burn_in=3)
    for x in (1, 2, 3):
        standardise.update(x)
    assert [standardise.update(4, learn=False) for _ in range(3)] == [2.0, 2.0, 2.0]
    assert standardise.count == 3


def test_a_restored_stream_goes_on_as_if_there_had_been_no_pause():
    first, second = RunningStandardiser(burn_in=3), RunningStandardiser(burn_in=3)
    for x in (1, 2, 5):
        first.update(x)
    second.restore(first.state())
    assert [first.update(x) for x in (3, 8)] == [second.update(x) for x in (3, 8)]
    ranks, others = RankStandardiser(burn_in=2), RankStandardiser(burn_in=2)
    ranks.update(1.0)
    ranks.update(2.0)
    others.restore(ranks.state())
    assert ranks.update(3.0) == others.update(3.0) is not None
