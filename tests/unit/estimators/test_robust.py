"""Golden vectors and edge cases of robust location."""

import numpy as np
import pytest

from eguard.errors import EstimatorInputError
from eguard.estimators import huber_location, robust_summary, trimmed_mean, trimmed_median
from eguard.estimators.robust import _huber_root

VOTES = [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.65, 0.25, 0.1], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]]


def test_trimmed_median_of_five_votes():
    np.testing.assert_allclose(trimmed_median(VOTES), [0.6, 0.2, 0.1], rtol=0, atol=1e-15)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2, 0.499])
def test_alpha_never_changes_the_median_but_changes_the_mean(alpha, rng):
    x = rng.standard_cauchy(size=101)
    trim = int(alpha * 101)
    kept = np.sort(x)[trim : 101 - trim]
    assert trimmed_median(x, alpha) == np.median(kept) == np.median(x)
    np.testing.assert_allclose(trimmed_mean(x, alpha), kept.mean(), rtol=1e-13)


def test_trimmed_mean_with_fewer_than_twenty_agents_trims_nobody():
    assert trimmed_mean([0.0] * 18 + [19.0]) == 1.0
    assert trimmed_mean([0.0] * 19 + [20.0]) == 0.0


@pytest.mark.parametrize(
    ("x", "location", "scale", "digits"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 1000], 5.55391666, 3.70650555, 8),
        ([0.8, 0.9, 1, 1.1, 1.2, 1.3, 50], 1.11647, 0.29652044, 5),
        ([512] * 6 + [100, 2000, 90000], 512, 0, 12),
    ],
)
def test_huber_golden_vectors(x, location, scale, digits):
    measured, used = huber_location(x)
    assert round(float(measured), digits) == location
    assert round(float(used), 8) == scale


def test_huber_without_a_robust_scale_is_the_median_in_large_units(rng):
    x = rng.normal(0.0, 1500.0, size=101)
    literal, _ = huber_location(x, scale=1.0)
    scaled, _ = huber_location(x)
    assert abs(literal - np.median(x)) < 1500.0 * 0.01
    assert abs(scaled - x.mean()) < abs(np.median(x) - x.mean())


def test_huber_with_a_large_k_is_the_mean_and_with_a_small_one_the_median(rng):
    x = rng.normal(size=51)
    np.testing.assert_allclose(huber_location(x, k=1e6)[0], x.mean(), rtol=1e-12)
    np.testing.assert_allclose(huber_location(x, k=1e-9)[0], np.median(x), atol=1e-8)


@pytest.mark.parametrize("x", [[5.0], [5.0, 5.0], [1.0, 9.0], [0.0] * 9 + [1e300]])
def test_huber_of_tiny_or_constant_samples_is_the_median(x):
    location, _ = huber_location(x)
    assert location == np.median(x)


def test_with_nothing_near_the_median_the_median_is_the_answer():
    assert huber_location([-100.0, 100.0], scale=1.0)[0] == 0.0
    assert huber_location([-9.0, 1.0, 21.0, 90.0], scale=1.0)[0] == 11.0


def test_the_root_is_found_across_a_gap():
    # Nothing lies within k of 0; the root solves -2 + (1.2 - t) + (1.3 - t) + (1.4 - t) = 0.
    rows = np.array([[-1.5, -1.2, 1.2, 1.3, 1.4]])
    assert _huber_root(rows, np.array([1.0]), np.array([1e-12]))[0] == pytest.approx(1.9 / 3.0, abs=1e-15)


def test_an_enormous_k_is_the_mean_and_no_overflow():
    assert huber_location([1.0, 2.0, 3.0, 60.0], k=1e308)[0] == pytest.approx(16.5)


def test_huber_survives_values_at_the_end_of_the_range():
    assert huber_location([1.0, 2.0, 3.0, 1.7e308, 1.7e308])[0] > 3.0
    location, scale = huber_location([-1.7e308, 1.0, 2.0, 3.0, 4.0, 5.0, 1.7e308])
    assert 1.0 < location < 5.0
    assert np.isfinite(scale)


def test_huber_keeps_its_digits_on_a_high_level_with_a_tiny_spread():
    noise = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 100.0]) * 2.0**-20
    plain, _ = huber_location(noise)
    lifted, _ = huber_location(noise + 2.0**20)
    assert lifted - 2.0**20 == pytest.approx(plain, abs=2.0**-32)


def test_huber_takes_one_scale_or_one_a_column(rng):
    x = rng.normal(size=(30, 4))
    scales = np.array([0.5, 1.0, 2.0, 0.0])
    location, used = huber_location(x, scale=scales)
    np.testing.assert_array_equal(used, scales)
    for column in range(4):
        single, _ = huber_location(x[:, column], scale=scales[column])
        assert location[column] == single
    assert location[3] == np.median(x[:, 3])


def test_summary_equals_the_single_estimators(rng):
    x = rng.gamma(2.0, size=(3, 40, 5))
    summary = robust_summary(x, alpha=0.1, k=1.2, axis=1, threads=2)
    location, scale = huber_location(x, k=1.2, axis=1)
    np.testing.assert_array_equal(summary.median, trimmed_median(x, axis=1))
    np.testing.assert_array_equal(summary.trimmed_mean, trimmed_mean(x, alpha=0.1, axis=1))
    np.testing.assert_array_equal(summary.scale, scale)
    np.testing.assert_array_equal(summary.huber, location)


def test_inputs_are_left_alone(rng):
    x = rng.normal(size=(9, 3))
    before = x.copy()
    robust_summary(x)
    huber_location(x, scale=1.0)
    trimmed_median(x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("function", [trimmed_median, trimmed_mean, huber_location, robust_summary])
@pytest.mark.parametrize("x", [[], [1.0, np.nan], [np.inf, 1.0], ["a"]])
def test_bad_values_are_refused_by_name(function, x):
    with pytest.raises(EstimatorInputError) as caught:
        function(x)
    assert caught.value.argument == "x"


@pytest.mark.parametrize("function", [trimmed_median, trimmed_mean, robust_summary])
@pytest.mark.parametrize("alpha", [0.0, 0.5, -0.1, np.nan])
def test_alpha_outside_its_interval_is_refused(function, alpha):
    with pytest.raises(EstimatorInputError) as caught:
        function([1.0, 2.0], alpha=alpha)
    assert caught.value.argument == "alpha"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"k": 0.0}, "k"),
        ({"axis": 2}, "axis"),
        ({"axis": -3}, "axis"),
        ({"scale": -1.0}, "scale"),
        ({"scale": [1.0, 1.0, 1.0]}, "scale"),
        ({"scale": np.nan}, "scale"),
    ],
)
def test_huber_refuses_other_arguments_by_name(arguments, name):
    with pytest.raises(EstimatorInputError) as caught:
        huber_location([[1.0, 2.0], [3.0, 4.0]], **arguments)
    assert caught.value.argument == name
