"""The shared argument checks name the argument and say what is wrong with it."""

import numpy as np
import pytest

from eguard.errors import EguardError, EstimatorInputError
from eguard.estimators.validation import as_counts, as_finite, as_probabilities, in_open_interval


def test_finite_returns_float64_of_the_same_shape():
    result = as_finite("x", [[1, 2], [3, 4]])
    assert result.dtype == np.float64
    assert result.shape == (2, 2)


def test_finite_shares_memory_with_float64_input():
    x = np.array([1.0, 2.0])
    assert np.shares_memory(as_finite("x", x), x)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ([], "must not be empty"),
        (np.empty((0, 3)), "must not be empty"),
        ([1.0, np.nan, np.inf], "2 of 3 values"),
        (["a", "b"], "real numbers"),
        ([1 + 2j], "real numbers"),
        ([None, 1.0], "real numbers"),
        ([[1.0], [1.0, 2.0]], "rectangular"),
    ],
)
def test_finite_refuses_with_the_reason(x, words):
    with pytest.raises(EstimatorInputError, match=words) as caught:
        as_finite("interval", x)
    assert caught.value.argument == "interval"
    assert str(caught.value).startswith("interval: ")


def test_finite_checks_the_number_of_dimensions():
    with pytest.raises(EstimatorInputError, match=r"2 dimension\(s\), got shape \(3,\)"):
        as_finite("x", [1.0, 2.0, 3.0], ndim=2)


def test_an_input_error_is_a_value_error_and_an_eguard_error():
    with pytest.raises(ValueError, match="x"):
        as_finite("x", [])
    with pytest.raises(EguardError):
        as_finite("x", [])


def test_counts_refuse_negatives_and_keep_fractions():
    assert as_counts("n", [0, 0.5]).tolist() == [0.0, 0.5]
    with pytest.raises(EstimatorInputError, match=r"smallest is -0\.5"):
        as_counts("n", [1, -0.5])


def test_probabilities_are_checked_along_the_last_axis_and_not_rescaled():
    within = [[0.5, 0.5 + 9e-7], [1.0, 0.0]]
    assert as_probabilities("p", within).tolist() == within
    with pytest.raises(EstimatorInputError, match=r"sum to 1 .* got 1\.25"):
        as_probabilities("p", [[0.5, 0.5], [0.5, 0.75]])


@pytest.mark.parametrize("bad", [1.0, [1.5, -0.5], [0.5, 0.5 + 2e-6], [np.nan, 1.0]])
def test_probabilities_refuse_what_is_no_distribution(bad):
    with pytest.raises(EstimatorInputError):
        as_probabilities("p", bad)


@pytest.mark.parametrize("value", [0.0, 0.5, -1, 2, float("nan"), float("inf"), "much", None])
def test_open_interval_excludes_its_ends_and_everything_that_is_no_number(value):
    with pytest.raises(EstimatorInputError, match="alpha"):
        in_open_interval("alpha", value, 0.0, 0.5)


def test_open_interval_returns_a_plain_float():
    result = in_open_interval("alpha", np.float64(0.25), 0.0, 0.5)
    assert type(result) is float
    assert result == 0.25
