"""Invariants of divergences and of the seed's posterior."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eguard.estimators import (
    dirichlet_posterior,
    jensen_shannon_nats,
    kl_divergence_bits,
    seed_concentration,
    smoothed_prior_mean,
)

D = 6


def counts(minimum=0, rows=None):
    shape = D if rows is None else (rows, D)
    return arrays(np.float64, shape, elements=st.integers(minimum, 1000).map(float))


def normalised(c):
    c = c + (c.sum(axis=-1, keepdims=True) == 0.0)
    return c / c.sum(axis=-1, keepdims=True)


@given(counts(rows=3), counts(rows=3))
def test_jensen_shannon_is_symmetric_bounded_and_zero_only_for_equals(a, b):
    p, q = normalised(a), normalised(b)
    js = jensen_shannon_nats(p, q)
    np.testing.assert_array_equal(js, jensen_shannon_nats(q, p))
    assert (js >= 0.0).all()
    assert (js <= math.log(2.0)).all()
    np.testing.assert_array_equal(js == 0.0, (p == q).all(axis=1))
    assert js[1] == jensen_shannon_nats(p[1], q[1])


@given(counts(), counts(), counts())
def test_the_root_of_jensen_shannon_is_a_metric(a, b, c):
    p, q, r = normalised(a), normalised(b), normalised(c)
    pq, qr, pr = (math.sqrt(jensen_shannon_nats(x, y)) for x, y in ((p, q), (q, r), (p, r)))
    assert pr <= pq + qr + 1e-12


@given(counts(), counts())
def test_jensen_shannon_is_bounded_by_total_variation(a, b):
    p, q = normalised(a), normalised(b)
    variation = 0.5 * np.abs(p - q).sum()
    js = jensen_shannon_nats(p, q)
    assert variation**2 / 2.0 - 1e-12 <= js <= math.log(2.0) * variation + 1e-12


@given(counts(), counts(), st.permutations(range(D)))
def test_divergences_do_not_depend_on_the_order_of_classes(a, b, order):
    p, q = normalised(a), normalised(b)
    np.testing.assert_allclose(jensen_shannon_nats(p[order], q[order]), jensen_shannon_nats(p, q), atol=1e-14)
    window = a + (a.sum() == 0.0)
    np.testing.assert_allclose(kl_divergence_bits(window[order], b[order]), kl_divergence_bits(window, b), atol=1e-12)


@given(counts(rows=4), counts(), st.floats(0.01, 10.0))
def test_kl_is_not_negative_finite_and_the_same_in_a_batch(windows, baseline, smoothing):
    windows = windows + (windows.sum(axis=1, keepdims=True) == 0.0)
    bits = kl_divergence_bits(windows, baseline, smoothing)
    assert (bits >= 0.0).all()
    assert np.isfinite(bits).all()
    # No window is further away than one that holds nothing but the baseline's rarest class.
    worst = -math.log2((baseline.min() + smoothing) / (baseline.sum() + D * smoothing))
    assert (bits <= worst + 1e-9).all()
    assert bits[2] == kl_divergence_bits(windows[2], baseline, smoothing)


@given(counts(), counts(rows=3), st.floats(0.1, 1e4))
def test_the_posterior_is_a_distribution_between_prior_and_frequencies(prior, events, kappa):
    mean = smoothed_prior_mean(normalised(prior))
    assert mean.min() > 0.0
    posterior = dirichlet_posterior(mean, events, kappa)
    np.testing.assert_allclose(posterior.sum(axis=1), 1.0, atol=1e-12)
    frequencies = np.where(events.sum(axis=1, keepdims=True) > 0, normalised(events), mean)
    assert (posterior >= np.minimum(mean, frequencies) - 1e-12).all()
    assert (posterior <= np.maximum(mean, frequencies) + 1e-12).all()
    np.testing.assert_array_equal(posterior[1], dirichlet_posterior(mean, events[1], kappa))


@given(counts(), counts(), counts())
def test_with_fixed_concentration_evidence_may_arrive_in_two_parts(prior, first, second):
    mean = smoothed_prior_mean(normalised(prior))
    at_once = dirichlet_posterior(mean, first + second, 100.0)
    after_first = dirichlet_posterior(mean, first, 100.0)
    in_parts = dirichlet_posterior(after_first, second, 100.0 + first.sum())
    np.testing.assert_allclose(in_parts, at_once, atol=1e-12)


@given(st.lists(st.floats(0.0, 1e7), min_size=1, max_size=20))
def test_the_concentration_falls_and_stays_in_its_range(n):
    kappa = seed_concentration(np.sort(n))
    assert (np.diff(kappa) <= 0.0).all()
    assert kappa.min() >= 0.0
    assert kappa.max() <= 100.0
