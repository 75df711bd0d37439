"""Invariants of robust location and aggregation over arbitrary samples."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from eguard.estimators import (
    aggregate_distributions,
    aggregate_many,
    geometric_median,
    huber_location,
    robust_summary,
    trimmed_mean,
    trimmed_median,
)

FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)
# On a lattice of dyadic fractions sums, shifts and scalings by powers of two are exact.
LATTICE = st.integers(-4096, 4096).map(lambda i: i / 64.0)
SAMPLES = arrays(np.float64, st.integers(1, 40), elements=FINITE)
LATTICE_SAMPLES = arrays(np.float64, st.integers(1, 40), elements=LATTICE)
ALPHA = st.floats(0.001, 0.499)
LOCATIONS = (trimmed_median, trimmed_mean, lambda x: huber_location(x)[0])


@st.composite
def votes(draw, max_agents=24, d=None):
    shape = (draw(st.integers(1, max_agents)), d or draw(st.integers(2, 8)))
    weights = draw(arrays(np.float64, shape, elements=st.integers(0, 50).map(float)))
    weights[:, 0] += weights.sum(axis=1) == 0.0
    return weights / weights.sum(axis=1, keepdims=True)


@given(SAMPLES, st.randoms(use_true_random=False))
def test_the_order_of_agents_does_not_matter(x, random):
    shuffled = x.copy()
    random.shuffle(shuffled)
    for location in LOCATIONS:
        assert location(x) == location(shuffled)


@given(LATTICE_SAMPLES, LATTICE, st.integers(-8, 8))
def test_shift_and_scale_carry_over(x, shift, exponent):
    factor = 2.0**exponent
    for location in LOCATIONS:
        expected = factor * float(location(x)) + shift
        np.testing.assert_allclose(location(factor * x + shift), expected, rtol=1e-11, atol=1e-11 * factor)
    _, scale = huber_location(x)
    np.testing.assert_allclose(huber_location(factor * x + shift)[1], factor * scale, rtol=1e-12)


@given(LATTICE_SAMPLES)
def test_reflection_carries_over(x):
    for location in LOCATIONS:
        np.testing.assert_allclose(location(-x), -location(x), rtol=1e-11, atol=1e-11)


@given(SAMPLES, ALPHA)
def test_location_stays_within_the_sample_and_huber_within_k_s_of_the_median(x, alpha):
    summary = robust_summary(x, alpha)
    slack = 1e-9 * (1.0 + np.abs(x).max())
    for location in (summary.median, summary.trimmed_mean, summary.huber):
        assert x.min() - slack <= location <= x.max() + slack
    assert abs(summary.huber - summary.median) <= 1.345 * summary.scale + slack


@given(SAMPLES)
def test_huber_solves_its_equation(x):
    location, scale = huber_location(x)
    if scale > 1e-6:
        residuals = np.clip((x - location) / scale, -1.345, 1.345)
        assert abs(residuals.sum()) <= 1e-8 * x.size


@given(arrays(np.float64, array_shapes(min_dims=2, max_dims=3, max_side=9), elements=FINITE), st.data())
def test_vectorised_equals_one_column_at_a_time(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    summary = robust_summary(x, axis=axis, threads=data.draw(st.sampled_from([1, 2])))
    columns = np.moveaxis(x, axis, 0)
    for index in np.ndindex(columns.shape[1:]):
        column = columns[(slice(None), *index)]
        assert summary.median[index] == trimmed_median(column)
        assert summary.trimmed_mean[index] == trimmed_mean(column)
        location, scale = huber_location(column)
        assert summary.scale[index] == scale
        np.testing.assert_allclose(summary.huber[index], location, rtol=1e-12, atol=1e-12 * float(scale))


@given(votes())
def test_consensus_is_a_distribution_or_says_why_not(p):
    for method in ("trimmed_median", "trimmed_mean", "geometric_median"):
        consensus = aggregate_distributions(p, method=method)
        assert (consensus.distribution is None) == (consensus.mass < 0.5)
        if consensus.distribution is not None:
            assert abs(consensus.distribution.sum() - 1.0) < 1e-12
            assert consensus.distribution.min() >= 0.0


@given(votes(), st.randoms(use_true_random=False))
def test_consensus_ignores_the_order_of_agents_and_follows_that_of_classes(p, random):
    agents, classes = list(range(p.shape[0])), list(range(p.shape[1]))
    random.shuffle(agents)
    random.shuffle(classes)
    plain, permuted = aggregate_distributions(p), aggregate_distributions(p[agents][:, classes])
    np.testing.assert_allclose(permuted.mass, plain.mass, rtol=1e-14)
    if plain.distribution is not None and permuted.distribution is not None:
        np.testing.assert_allclose(permuted.distribution, plain.distribution[classes], rtol=1e-13)


@given(st.lists(votes(max_agents=6, d=4), min_size=1, max_size=8))
def test_many_keys_equal_each_key_alone(cohorts):
    offsets = np.cumsum([0] + [len(p) for p in cohorts])
    fleet = aggregate_many(np.concatenate(cohorts), offsets)
    for index, p in enumerate(cohorts):
        single = aggregate_distributions(p)
        assert fleet[index].mass == single.mass
        assert fleet[index].tolerated_faults == single.tolerated_faults == (len(p) - 1) // 2


@given(votes(max_agents=15, d=5), st.integers(0, 7), st.data())
def test_a_tolerated_minority_cannot_leave_the_span_of_honest_votes(honest, liars, data):
    liars = min(liars, (len(honest) - 1) // 2)
    lies = data.draw(st.lists(st.integers(0, 4), min_size=liars, max_size=liars))
    p = np.vstack([honest, np.eye(5)[lies]]) if lies else honest
    consensus = aggregate_distributions(p)
    assert consensus.tolerated_faults >= liars
    if consensus.distribution is not None:
        medians = consensus.distribution * consensus.mass
        assert (medians >= honest.min(axis=0) - 1e-12).all()
        assert (medians <= honest.max(axis=0) + 1e-12).all()


@given(votes(max_agents=12, d=3))
def test_geometric_median_is_on_the_simplex_and_costs_least_among_the_votes(p):
    center = geometric_median(p)
    assert abs(center.sum() - 1.0) < 1e-9
    assert center.min() >= 0.0
    cost = np.linalg.norm(p - center, axis=1).sum()
    for vote in p:
        assert cost <= np.linalg.norm(p - vote, axis=1).sum() + 1e-9


@given(votes(max_agents=9, d=3), st.floats(0.0, 6.28))
def test_geometric_median_turns_with_its_points(p, angle):
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])

    def cost(points, y):
        return np.linalg.norm(points - y, axis=1).sum()

    # Costs and not points are compared: collinear even samples have many medians.
    turned = p @ rotation.T
    np.testing.assert_allclose(cost(turned, geometric_median(turned)), cost(p, geometric_median(p)), atol=1e-9)
