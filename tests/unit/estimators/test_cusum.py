"""One-sided CUSUM: hand-computed sums, what an alarm does, and the bank's missing values."""

import math

import numpy as np
import pytest

from eguard.errors import EstimatorInputError
from eguard.estimators.cusum import Cusum, CusumBank

# Mean 0, sum of squares 4, sample deviation sqrt(4/3).
BURN_IN = (1.0, -1.0, 1.0, -1.0)


def charted(chart, stream):
    alarms = [chart.update(x) for x in stream]
    return alarms, chart.statistic


def test_the_sum_takes_the_standardised_excess_over_k():
    assert charted(Cusum(burn_in=4), (*BURN_IN, 2.0)) == ([False] * 5, pytest.approx(2.0 / math.sqrt(4 / 3) - 0.5))


def test_the_sum_never_falls_below_zero():
    assert charted(Cusum(burn_in=4), (*BURN_IN, -100.0))[1] == 0.0


def test_an_increment_is_capped():
    assert charted(Cusum(burn_in=4), (*BURN_IN, 1e6))[1] == 4.5
    assert charted(Cusum(burn_in=4, increment_cap=4.0), (*BURN_IN, 1e6))[1] == 3.5


def test_one_outlier_never_alarms_and_two_in_a_row_do():
    assert not any(charted(Cusum(burn_in=30), [1.0, -1.0] * 15 + [1e3] + [1.0, -1.0] * 10 + [1e6])[0])
    alarms, _ = charted(Cusum(burn_in=30), [1.0, -1.0] * 15 + [1e3, 1e4])
    assert alarms.index(True) == 31


def test_an_alarm_restarts_the_sum_but_not_the_moments():
    stream = [1.0, -1.0] * 15 + [9.0] * 3
    chart = Cusum()
    alarms, _ = charted(chart, stream)
    assert [i for i, alarm in enumerate(alarms) if alarm] == [31]
    # Judged by running moments the third value of the new level still lies above the mean: the sum climbs again.
    assert 0.0 < chart.statistic <= 8.0


def test_a_lasting_change_alarms_again():
    rng = np.random.default_rng(0)
    chart = Cusum()
    alarms, _ = charted(chart, np.r_[rng.normal(size=200), rng.normal(5.0, size=20)])
    assert sum(alarms[:200]) == 0
    assert sum(alarms[200:]) >= 3


def test_reset_begins_a_new_burn_in():
    chart = Cusum(burn_in=4)
    charted(chart, (*BURN_IN, 1e6))
    chart.reset()
    assert charted(chart, (5.0, 6.0, 7.0, 900.0)) == ([False] * 4, 0.0)


def test_a_series_without_a_value_keeps_its_state():
    bank = CusumBank(2, burn_in=4)
    single = Cusum(burn_in=4)
    for x in (*BURN_IN, 1.5, 2.5):
        bank.update([x, math.nan])
        single.update(x)
    assert bank.statistic.tolist() == [single.statistic, 0.0]
    # The second series is still in its burn-in.
    assert bank.update([math.nan, 1e6]).tolist() == [False, False]
    assert bank.statistic.tolist() == [single.statistic, 0.0]


def test_the_bank_resets_named_series():
    bank = CusumBank(2, burn_in=4)
    for x in (*BURN_IN, 1.5):
        bank.update([x, x])
    kept = bank.statistic[0]
    bank.reset([1])
    assert bank.statistic.tolist() == [kept, 0.0]
    bank.reset()
    assert not bank.statistic.any()


@pytest.mark.parametrize("form", [Cusum, lambda **parameters: CusumBank(1, **parameters)])
@pytest.mark.parametrize(
    ("argument", "parameters"),
    [
        ("k", {"k": -1.0}),
        ("h", {"h": 0.0}),
        ("burn_in", {"burn_in": 1}),
        ("increment_cap", {"increment_cap": 0.5}),
        ("deviation_floor", {"deviation_floor": -1.0}),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(form, argument, parameters):
    with pytest.raises(EstimatorInputError) as caught:
        form(**parameters)
    assert caught.value.argument == argument


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(EstimatorInputError, match="size"):
        CusumBank(0)
    with pytest.raises(EstimatorInputError, match="shape"):
        CusumBank(2).update([1.0])
    with pytest.raises(EstimatorInputError, match="finite"):
        CusumBank(2).update([1.0, math.inf])
    with pytest.raises(EstimatorInputError, match="finite"):
        Cusum().update(math.inf)


def test_a_restored_chart_goes_on_as_if_there_had_been_no_pause():
    first, second = Cusum(burn_in=4), Cusum(burn_in=4)
    assert charted(first, (*BURN_IN, 2.0, 3.0))[1] > 0
    second.restore(first.state())
    assert second.count == 6
    assert charted(first, (4.0, 5.0)) == charted(second, (4.0, 5.0))


def test_values_that_are_not_learned_stay_as_suspicious_as_they_were():
    learning, holding = Cusum(burn_in=4), Cusum(burn_in=4)
    for x in BURN_IN:
        learning.update(x)
        holding.update(x)
    sums = []
    for _ in range(3):
        holding.update(2.0, learn=False)
        sums.append(holding.statistic)
        learning.update(2.0)
    step = 2.0 / math.sqrt(4 / 3) - 0.5
    assert sums == pytest.approx([step, 2 * step, 3 * step])
    assert holding.count == 4
    assert learning.statistic < sums[-1]
