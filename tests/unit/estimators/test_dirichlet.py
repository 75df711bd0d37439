"""The seed's posterior: golden vectors and the limits of the shrinkage rule."""

import numpy as np
import pytest

from eguard.errors import EstimatorInputError
from eguard.estimators import dirichlet_posterior, seed_concentration, smoothed_prior_mean

PRIOR = [0.6, 0.3, 0.1]


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (10, [0.54545455, 0.27272727, 0.18181818]),
        (100, [0.3, 0.15, 0.55]),
        (1000, [0.05454545, 0.02727273, 0.91818182]),
    ],
)
def test_golden_vectors_with_fixed_concentration(n, expected):
    assert dirichlet_posterior(PRIOR, [0, 0, n], kappa=100).round(8).tolist() == expected


def test_without_events_the_posterior_is_the_prior():
    np.testing.assert_allclose(dirichlet_posterior(PRIOR, [0, 0, 0]), PRIOR, atol=1e-15)


def test_from_a_thousand_events_on_it_is_the_local_frequencies():
    assert dirichlet_posterior(PRIOR, [250, 250, 500]).tolist() == [0.25, 0.25, 0.5]
    counts = np.array([1234, 4321, 4445])
    np.testing.assert_allclose(dirichlet_posterior(PRIOR, counts), counts / 10_000, atol=1e-3)


def test_the_concentration_falls_linearly_to_zero():
    assert seed_concentration([0, 250, 999, 1000, 1e9]).tolist() == pytest.approx([100.0, 75.0, 0.1, 0.0, 0.0])


def test_the_default_concentration_follows_each_profile_of_a_batch():
    counts = np.array([[0, 0, 0], [300, 100, 100], [0, 0, 2000]])
    batch = dirichlet_posterior(PRIOR, counts)
    np.testing.assert_allclose(batch[1], (50 * np.array(PRIOR) + counts[1]) / 550)
    for row, single in zip(batch, counts, strict=True):
        np.testing.assert_array_equal(row, dirichlet_posterior(PRIOR, single))


def test_concentration_may_differ_by_profile():
    batch = dirichlet_posterior([PRIOR, [0.1, 0.1, 0.8]], [[1, 0, 0], [1, 0, 0]], kappa=[0.0, 1.0])
    np.testing.assert_allclose(batch, [[1, 0, 0], [0.55, 0.05, 0.4]])


def test_the_prior_mean_gives_every_class_a_chance():
    mean = smoothed_prior_mean([0.75, 0.25, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(mean, np.array([0.751, 0.251] + [0.001] * 6) / 1.008)
    assert mean.sum() == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([0.6, 0.3], [1, 1]), "prior_mean"),
        ((PRIOR, [1, 1]), "counts"),
        ((PRIOR, 5), "counts"),
        ((PRIOR, [1, -1, 1]), "counts"),
        ((PRIOR, [0, 0, 0], 0.0), "counts"),
        ((PRIOR, [1, 0, 0], -1.0), "kappa"),
        ((PRIOR, [[1, 0, 0]] * 3, [1.0, 2.0]), "counts"),
    ],
)
def test_the_posterior_refuses_by_name(arguments, name):
    with pytest.raises(EstimatorInputError) as caught:
        dirichlet_posterior(*arguments)
    assert caught.value.argument == name


@pytest.mark.parametrize("n", [-1, np.nan, []])
def test_the_concentration_refuses_what_is_no_count(n):
    with pytest.raises(EstimatorInputError):
        seed_concentration(n)


@pytest.mark.parametrize(("median", "eta", "name"), [([0.5, 0.4], 1e-3, "median"), ([0.5, 0.5], 0.0, "eta")])
def test_the_prior_mean_refuses_by_name(median, eta, name):
    with pytest.raises(EstimatorInputError) as caught:
        smoothed_prior_mean(median, eta)
    assert caught.value.argument == name
