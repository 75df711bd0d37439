"""The conformal test martingale: bets by hand, online ranks, and one implementation against the other."""

import math

import numpy as np
import pytest

from eguard.errors import EstimatorInputError
from eguard.estimators.conformal import conformal_p_values
from eguard.estimators.martingale import ConformalMartingale, simple_jumper_log_wealth


class Fixed:
    """A generator whose uniform draws are all one number."""

    def __init__(self, value):
        self.value = value

    def random(self):
        return self.value


def test_the_wealth_follows_the_three_accounts():
    # First bet on thirds: (1/3)(1 + .4) + 1/3 + (1/3)(1 - .4) = 1. Second: shares 1.4/3, 1/3, .6/3 move .01 to the
    # middle: .99 * 1.4/3 + .01/3, ..., then grow by 1.4, 1, .6.
    down, flat, up = (0.99 * share / 3 + 0.01 / 3 for share in (1.4, 1.0, 0.6))
    expected = [0.0, math.log(1.4 * down + flat + 0.6 * up)]
    assert simple_jumper_log_wealth([0.1, 0.1]).tolist() == pytest.approx(expected, abs=1e-12)


def test_runs_along_leading_axes_are_separate():
    p_values = np.random.default_rng(0).random((4, 3, 50))
    together = simple_jumper_log_wealth(p_values)
    assert together.shape == (4, 3, 50)
    assert together[2, 1] == pytest.approx(simple_jumper_log_wealth(p_values[2, 1]), abs=1e-12)


def test_the_expected_wealth_is_one():
    """By exact integration over p in {0, 1} steps of a midpoint rule: bets are linear in p."""
    grid = (np.arange(10) + 0.5) / 10
    pairs = np.array([(p, q) for p in grid for q in grid])
    assert np.exp(simple_jumper_log_wealth(pairs)[:, -1]).mean() == pytest.approx(1.0, abs=1e-12)


def test_the_wealth_neither_overflows_nor_underflows():
    rising = simple_jumper_log_wealth(np.zeros(5000))
    assert np.isfinite(rising).all()
    assert rising[-1] > 1000.0
    assert np.isfinite(simple_jumper_log_wealth(np.full(5000, 0.5))).all()


def test_online_p_values_rank_among_calibration_and_all_earlier_scores():
    martingale = ConformalMartingale([1.0, 2.0, 3.0], Fixed(0.5))
    seen = []
    for score in (2.5, 2.5, 9.0):
        martingale.update(score)
        seen.append(martingale.last_p_value)
    # Above 2.5: {3}; then {3} with one tie; above 9: none among five.
    assert seen == pytest.approx([(1 + 0.5 * 1) / 4, (1 + 0.5 * 2) / 5, (0 + 0.5 * 1) / 6])


def test_the_first_p_value_is_the_smoothed_conformal_one():
    calibration = np.random.default_rng(1).normal(size=100)
    martingale = ConformalMartingale(calibration, np.random.default_rng(7))
    martingale.update(0.3)
    assert martingale.last_p_value == conformal_p_values(calibration, [0.3], np.random.default_rng(7))[0]


def test_the_class_bets_as_the_function():
    rng = np.random.default_rng(2)
    martingale = ConformalMartingale(rng.normal(size=50), rng)
    p_values, wealth = [], []
    for score in rng.normal(0.5, size=300):
        martingale.update(score)
        p_values.append(martingale.last_p_value)
        wealth.append(martingale.log_wealth)
    assert wealth == pytest.approx(simple_jumper_log_wealth(p_values), abs=1e-9)
    assert martingale.largest_log_wealth == max(wealth)


def test_a_shift_upwards_or_downwards_is_found():
    for shift in (1.0, -1.0):
        rng = np.random.default_rng(3)
        martingale = ConformalMartingale(rng.normal(size=1000), rng)
        assert sum(martingale.update(s) for s in rng.normal(size=1000)) == 0
        alarms = [martingale.update(s) for s in rng.normal(shift, size=300)]
        assert alarms.index(True) < 150
        assert martingale.alarmed


def test_an_alarm_is_remembered_after_the_wealth_has_fallen():
    rng = np.random.default_rng(4)
    martingale = ConformalMartingale(rng.normal(size=200), rng)
    for score in [5.0] * 60:
        martingale.update(score)
    while martingale.update(float(rng.normal())):
        pass
    assert martingale.alarmed
    assert martingale.log_wealth < math.log(100)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("p_values", lambda: simple_jumper_log_wealth([0.5, 1.1])),
        ("p_values", lambda: simple_jumper_log_wealth([-0.1])),
        ("p_values", lambda: simple_jumper_log_wealth(0.5)),
        ("jump", lambda: simple_jumper_log_wealth([0.5], jump=0.0)),
        ("calibration", lambda: ConformalMartingale([], np.random.default_rng(0))),
        ("jump", lambda: ConformalMartingale([1.0], np.random.default_rng(0), jump=1.0)),
        ("alarm_at", lambda: ConformalMartingale([1.0], np.random.default_rng(0), alarm_at=1.0)),
        ("score", lambda: ConformalMartingale([1.0], np.random.default_rng(0)).update(math.nan)),
    ],
)
def test_input_without_an_answer_is_refused_by_name(argument, call):
    with pytest.raises(EstimatorInputError) as caught:
        call()
    assert caught.value.argument == argument
