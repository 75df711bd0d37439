"""Huber's efficiency at the Gaussian, the breakdown of each location, and the bias of Jensen-Shannon."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from eguard.estimators import (
    aggregate_distributions,
    geometric_median,
    huber_location,
    jensen_shannon_bias_nats,
    jensen_shannon_nats,
    trimmed_mean,
    trimmed_median,
)


def asymptotic_efficiency(k):
    inside = 2.0 * norm.cdf(k) - 1.0
    second_moment = inside - 2.0 * k * norm.pdf(k) + 2.0 * k * k * norm.sf(k)
    return inside**2 / second_moment


def test_the_tuning_constant_is_the_one_of_95_percent_efficiency():
    assert brentq(lambda k: asymptotic_efficiency(k) - 0.95, 1.0, 2.0) == pytest.approx(1.344998, abs=1e-6)


def test_huber_with_known_scale_is_95_percent_efficient_at_the_gaussian():
    x = np.random.default_rng(1).normal(size=(200, 40_000))
    huber = huber_location(x, scale=1.0)[0]
    # The mean's variance is known, 1/200; the ratio of 40,000 squares has a standard error of .7 %.
    assert x.mean(axis=0).var() / huber.var() == pytest.approx(0.95, abs=0.01)


def test_huber_with_its_own_scale_keeps_the_efficiency_and_the_median_does_not():
    x = np.random.default_rng(2).normal(50.0, 1500.0, size=(200, 20_000))
    mean = x.mean(axis=0).var()
    assert mean / huber_location(x)[0].var() == pytest.approx(0.95, abs=0.015)
    assert mean / trimmed_median(x).var() == pytest.approx(2.0 / math.pi, abs=0.015)
    # The literal formula, k = 1.345 on raw units, is the median in disguise.
    assert mean / huber_location(x, scale=1.0)[0].var() == pytest.approx(2.0 / math.pi, abs=0.015)


@pytest.mark.parametrize("k", [5, 6, 41, 200])
def test_median_and_huber_break_down_at_half_and_not_before(k):
    honest = np.random.default_rng(k).normal(size=k)
    tolerated = (k - 1) // 2
    for far in (1e3, 1e6, 1e12):
        poisoned = honest.copy()
        poisoned[:tolerated] = far
        kept = honest[tolerated:]
        assert kept.min() <= trimmed_median(poisoned) <= kept.max()
        # Huber may leave the honest span, but by no more than k scales, and both of these are bounded.
        assert abs(huber_location(poisoned)[0]) < 25.0
        poisoned[: k - tolerated] = far
        assert trimmed_median(poisoned) >= far / 2.0
        assert huber_location(poisoned)[0] >= far / 2.0


def test_the_trimmed_mean_breaks_down_one_liar_after_its_alpha():
    honest = np.random.default_rng(3).normal(size=100)
    for liars, broken in ((5, False), (6, True)):
        poisoned = honest.copy()
        poisoned[:liars] = 1e9
        assert bool(abs(trimmed_mean(poisoned, alpha=0.05)) > 1e6) is broken


def test_the_geometric_median_survives_a_minority_in_any_direction():
    rng = np.random.default_rng(4)
    honest = rng.normal(size=(101, 3))
    for _ in range(20):
        poisoned = honest.copy()
        poisoned[:50] = 1e6 * rng.normal(size=3)
        assert np.linalg.norm(geometric_median(poisoned)) < 10.0
    poisoned[:51] = 1e6
    assert np.linalg.norm(geometric_median(poisoned)) > 1e5


def test_an_agents_event_count_buys_no_weight():
    # A million events or thirty: the row is the same and counts once.
    rows = np.array([[0.8, 0.2]] * 3 + [[0.1, 0.9]] * 2)
    assert aggregate_distributions(rows).distribution.tolist() == pytest.approx([0.8, 0.2])


@pytest.mark.parametrize(("n_p", "n_q", "d"), [(200, 200, 8), (100, 1000, 8), (500, 500, 3)])
def test_jensen_shannon_under_the_null_is_its_bias_on_average(n_p, n_q, d):
    rng = np.random.default_rng(d)
    base = rng.dirichlet(np.full(d, 5.0))
    p = rng.multinomial(n_p, base, size=20_000) / n_p
    q = rng.multinomial(n_q, base, size=20_000) / n_q
    assert jensen_shannon_nats(p, q).mean() == pytest.approx(jensen_shannon_bias_nats(n_p, n_q, d), rel=0.05)
