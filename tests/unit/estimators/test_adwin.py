"""ADWIN's bound, window and cuts."""

import math

import numpy as np
import pytest

from eguard.errors import EstimatorInputError
from eguard.estimators.adwin import Adwin, adwin_epsilon


@pytest.mark.parametrize(
    ("n0", "n1", "hoeffding", "variance_form"),
    [
        (50, 50, 0.427272, 0.266005),
        (97, 3, 1.252357, 2.052789),
        (900, 100, 0.230139, 0.087646),
        (1000, 1000, 0.098128, 0.021368),
    ],
)
def test_the_bounds_are_the_published_ones(n0, n1, hoeffding, variance_form):
    assert adwin_epsilon(n0, n1, 0.002) == pytest.approx(hoeffding, abs=1e-6)
    assert adwin_epsilon(n0, n1, 0.002, "variance", 0.0025) == pytest.approx(variance_form, abs=1e-6)


def test_three_new_values_are_too_few_for_any_shift():
    assert adwin_epsilon(100, 3, 0.002) > 1.0
    detector = Adwin(form="hoeffding", min_window_length=1)
    assert not any(detector.update(0.0) for _ in range(100))
    assert not any(detector.update(1.0) for _ in range(3))


@pytest.mark.parametrize("form", ["variance", "hoeffding"])
def test_a_cut_drops_the_old_part_and_keeps_the_new(form):
    rng = np.random.default_rng(5)
    detector = Adwin(form=form)
    assert sum(detector.update(x) for x in rng.beta(2, 18, 1000)) == 0
    assert sum(detector.update(x) for x in rng.beta(6, 14, 1000)) > 0
    assert 800 < detector.width < 1150
    assert detector.mean == pytest.approx(0.3, abs=0.03)


def test_the_first_alarm_comes_at_the_published_index():
    rng = np.random.default_rng(5)
    stream = np.r_[rng.beta(2, 18, 1000), rng.beta(6, 14, 1000)]
    detector = Adwin()
    assert next(i for i, x in enumerate(stream) if detector.update(x)) == 1041


def test_mean_and_variance_are_those_of_the_values_in_the_window():
    values = np.random.default_rng(1).beta(2, 18, 777)
    detector = Adwin(delta=1e-9)
    for x in values:
        detector.update(x)
    assert detector.width == 777
    assert detector.mean == pytest.approx(values.mean(), rel=1e-12)
    assert detector.variance == pytest.approx(values.var(), rel=1e-12)


def test_mean_and_variance_stay_right_after_cuts():
    values = np.r_[np.zeros(300), np.ones(300)] + np.random.default_rng(2).normal(0, 0.01, 600)
    detector = Adwin()
    for x in values:
        detector.update(x)
    window = values[-detector.width :]
    assert 250 < detector.width < 320
    assert detector.mean == pytest.approx(window.mean(), rel=1e-12)
    assert detector.variance == pytest.approx(window.var(), rel=1e-9)


def test_the_histogram_stays_logarithmic():
    detector = Adwin(delta=1e-9, clock=10**9)
    for _ in range(100_000):
        detector.update(0.5)
    assert sum(1 for _ in detector._buckets()) <= 6 * math.ceil(math.log2(100_000))
    assert sum(size for size, _ in detector._buckets()) == 100_000


def test_the_clock_sets_how_often_cuts_are_tried():
    stream = [0.0] * 100 + [1.0] * 100
    every = Adwin()
    first = next(i for i, x in enumerate(stream) if every.update(x))
    seldom = Adwin(clock=32)
    later = next(i for i, x in enumerate(stream) if seldom.update(x))
    assert later >= first
    assert (later + 1) % 32 == 0


def test_reset_empties_the_window():
    detector = Adwin()
    for x in (0.1, 0.2, 0.3):
        detector.update(x)
    detector.reset()
    assert (detector.width, detector.mean, detector.variance) == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("argument", "parameters"),
    [
        ("delta", {"delta": 0.0}),
        ("delta", {"delta": 1.0}),
        ("form", {"form": "guess"}),
        ("max_buckets", {"max_buckets": 0}),
        ("min_window_length", {"min_window_length": 0}),
        ("grace_period", {"grace_period": 1}),
        ("clock", {"clock": 0}),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(argument, parameters):
    with pytest.raises(EstimatorInputError) as caught:
        Adwin(**parameters)
    assert caught.value.argument == argument


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("n0", (0, 5, 0.1)),
        ("n1", (5, math.inf, 0.1)),
        ("n1", (1, 1, 0.1)),
        ("delta", (5, 5, 1.0)),
        ("form", (5, 5, 0.1, "guess")),
        ("variance", (5, 5, 0.1, "variance")),
        ("variance", (5, 5, 0.1, "variance", -1.0)),
    ],
)
def test_bounds_of_nothing_are_refused_by_name(argument, arguments):
    with pytest.raises(EstimatorInputError) as caught:
        adwin_epsilon(*arguments)
    assert caught.value.argument == argument


def test_a_value_that_is_no_number_is_refused_and_changes_nothing():
    detector = Adwin()
    with pytest.raises(EstimatorInputError, match="x"):
        detector.update(math.nan)
    assert detector.width == 0
