"""Two-sample Kolmogorov-Smirnov test: small cases by hand, methods against each other."""

import math

import numpy as np
import pytest

from eguard.errors import EstimatorInputError
from eguard.estimators.two_sample import two_sample_ks


def test_disjoint_samples_of_three_have_two_of_twenty_orders():
    statistic, p_value = two_sample_ks([1, 2, 3], [4, 5, 6])
    assert (statistic, p_value) == (1.0, pytest.approx(2 / 20))


def test_alternating_samples_have_the_least_difference():
    """a b a b: the distribution functions differ by 1/2 at the most, as in every order of two and two."""
    assert two_sample_ks([1, 3], [2, 4]) == (0.5, 1.0)


def test_equal_samples_have_p_value_one():
    assert two_sample_ks([1, 2, 3], [3, 2, 1]) == (0.0, 1.0)


def test_ties_are_steps_taken_together():
    """Both functions jump at 1: never apart by more than 1/4, though sorting could put all of b first."""
    statistic, _ = two_sample_ks([1, 1, 1, 2], [1, 1, 1, 1])
    assert statistic == 0.25


def test_the_order_of_arguments_does_not_matter():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=30), rng.normal(0.3, size=70)
    assert two_sample_ks(a, b) == pytest.approx(two_sample_ks(b, a), rel=1e-12)


def test_the_limit_approaches_the_exact_p_value():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=900), rng.normal(0.12, size=1000)
    exact, limit = two_sample_ks(a, b, method="exact"), two_sample_ks(a, b, method="asymptotic")
    assert exact[0] == limit[0]
    assert exact[1] == pytest.approx(limit[1], rel=0.1)


def test_auto_is_exact_for_samples_of_ordinary_size_and_the_limit_beyond():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=100), rng.normal(0.2, size=120)
    assert two_sample_ks(a, b) == two_sample_ks(a, b, method="exact")
    large = rng.normal(size=20_000)
    assert two_sample_ks(a, large) == two_sample_ks(a, large, method="asymptotic")


def test_a_tiny_exact_p_value_keeps_its_precision():
    _, p_value = two_sample_ks(range(40), range(100, 140))
    assert p_value == pytest.approx(2 / math.comb(80, 40), rel=1e-12)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("a", lambda: two_sample_ks([], [1.0])),
        ("b", lambda: two_sample_ks([1.0], [math.nan])),
        ("method", lambda: two_sample_ks([1.0], [1.0], method="guess")),
    ],
)
def test_input_without_an_answer_is_refused_by_name(argument, call):
    with pytest.raises(EstimatorInputError) as caught:
        call()
    assert caught.value.argument == argument
