"""The single Page-Hinkley test against hand-computed traces."""

import math

import pytest

from eguard.errors import EstimatorInputError
from eguard.estimators.page_hinkley import PageHinkley

TRACE = (1, 1, 1, 1, 5, 5, 5)
STATISTICS = (0, 0, 0, 0, 3.1, 5.666666667, 7.852380952)


def statistics(detector, stream):
    values = []
    for x in stream:
        detector.update(x)
        values.append(detector.statistic)
    return values


def test_the_raw_statistic_follows_the_printed_trace():
    assert statistics(PageHinkley(0.1, 100.0), TRACE) == pytest.approx(STATISTICS, abs=1e-9)


def test_the_downward_test_is_the_upward_test_of_the_negated_stream():
    detector = PageHinkley(0.1, 100.0, direction="down")
    assert statistics(detector, [-x for x in TRACE]) == pytest.approx(STATISTICS, abs=1e-9)


def test_the_upward_test_never_climbs_on_a_fall():
    assert statistics(PageHinkley(0.1, 100.0), [-x for x in TRACE]) == [0.0] * len(TRACE)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_both_directions_are_watched_together(sign):
    detector = PageHinkley(0.1, 5.0, direction="both", min_instances=1)
    assert [detector.update(sign * x) for x in TRACE] == [False] * 5 + [True, False]


def test_no_alarm_on_a_stationary_stream_where_the_manuals_formula_alarms():
    """max(m) - m with -delta grows by delta a value: it would pass 5 after 51 values of a constant stream."""
    detector = PageHinkley(0.1, 5.0)
    assert not any(detector.update(1.0) for _ in range(10_000))


def test_no_alarm_before_min_instances_however_high_the_statistic():
    detector = PageHinkley(0.1, 5.0, min_instances=7)
    assert [detector.update(x) for x in TRACE] == [False] * 6 + [True]


def test_an_alarm_leaves_its_statistic_readable_and_the_next_value_starts_afresh():
    detector = PageHinkley(0.1, 5.0, min_instances=6)
    for x in TRACE[:6]:
        detector.update(x)
    assert detector.in_alarm
    assert detector.statistic == pytest.approx(5.666666667, abs=1e-9)
    assert detector.update(5.0) is False
    assert (detector.count, detector.mean, detector.statistic) == (1, 5.0, 0.0)


def test_forgetting_shrinks_the_sum_before_each_value():
    detector = PageHinkley(0.0, 100.0, forgetting=0.5)
    # Means 0, 1, 4/3: increments 0, 1, 2/3; sum 0, 1, 1/2 + 2/3.
    assert statistics(detector, (0, 2, 2)) == pytest.approx([0.0, 1.0, 0.5 + 2 / 3])


def test_standardised_values_count_only_after_the_burn_in_and_against_earlier_values():
    detector = PageHinkley(0.5, 100.0, min_instances=4, standardise=True)
    # 1, 3, 1, 3: mean 2, deviation 1. Then 4 is z = 2, adding 2 - 0.5.
    assert statistics(detector, (1, 3, 1, 3, 4)) == pytest.approx([0, 0, 0, 0, 1.5])
    # All five: mean 12/5, sum of squares 36 - 144/5 = 7.2, deviation 1.2. Then 3 is z = 0.5, adding nothing.
    detector.update(3)
    assert detector.statistic == pytest.approx(1.5)


def test_a_single_value_adds_at_most_the_clip():
    detector = PageHinkley(0.5, 100.0, min_instances=4, standardise=True, clip=4.0)
    statistics(detector, (1, 3, 1, 3, 1e9))
    assert detector.statistic == 3.5


def test_a_downward_excess_is_clipped_too():
    detector = PageHinkley(0.5, 100.0, "down", min_instances=4, standardise=True, clip=4.0)
    statistics(detector, (1, 3, 1, 3, -1e9))
    assert detector.statistic == 3.5


def test_the_deviation_of_a_constant_stream_is_its_floor():
    detector = PageHinkley(0.5, 100.0, min_instances=4, standardise=True)
    statistics(detector, (0, 0, 0, 0, 0.016))
    assert detector.statistic == pytest.approx(0.016 / 0.008 - 0.5)


def test_the_moments_go_on_running_after_the_burn_in():
    detector = PageHinkley(0.5, 100.0, min_instances=2, standardise=True)
    # 0, 2: mean 1, deviation 1, so 3 is z = 2. Then 0, 2, 3: mean 5/3, deviation sqrt(14)/3, so 3 is z = 4/sqrt(14).
    assert statistics(detector, (0, 2, 3, 3)) == pytest.approx([0, 0, 1.5, 1.5 + 4 / math.sqrt(14) - 0.5])


def test_reset_forgets_everything():
    detector = PageHinkley(0.1, 5.0)
    statistics(detector, TRACE)
    detector.reset()
    assert (detector.count, detector.mean, detector.statistic, detector.in_alarm) == (0, 0.0, 0.0, False)


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_refused_and_changes_nothing(x):
    detector = PageHinkley(0.1, 5.0)
    detector.update(1.0)
    with pytest.raises(EstimatorInputError, match="x: must be finite"):
        detector.update(x)
    assert (detector.count, detector.mean) == (1, 1.0)


@pytest.mark.parametrize(
    ("argument", "parameters"),
    [
        ("delta", {"delta": -0.1}),
        ("delta", {"delta": math.nan}),
        ("threshold", {"threshold": 0.0}),
        ("threshold", {"threshold": math.inf}),
        ("direction", {"direction": "sideways"}),
        ("min_instances", {"min_instances": 0}),
        ("min_instances", {"min_instances": 1, "standardise": True}),
        ("clip", {"clip": 0.0}),
        ("clip", {"clip": math.nan}),
        ("forgetting", {"forgetting": 0.0}),
        ("forgetting", {"forgetting": 1.1}),
        ("deviation_floor", {"deviation_floor": 0.0}),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(argument, parameters):
    with pytest.raises(EstimatorInputError) as caught:
        PageHinkley(**({"delta": 0.1, "threshold": 5.0} | parameters))
    assert caught.value.argument == argument
