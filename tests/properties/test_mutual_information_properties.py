"""Invariants of mutual information and its buckets."""

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eguard.estimators import (
    joint_counts,
    joint_mutual_information_bits,
    mutual_information_bits,
    permutation_mutual_information,
    quantile_buckets,
)

BUCKETS = st.integers(0, 7)


@st.composite
def paired(draw):
    n = draw(st.integers(1, 60))
    return tuple(draw(arrays(np.int64, n, elements=BUCKETS)) for _ in range(2))


@given(paired(), st.permutations(range(8)), st.randoms(use_true_random=False))
def test_information_is_symmetric_and_blind_to_labels_and_order(xy, relabel, random):
    x, y = xy
    bits = mutual_information_bits(x, y)
    order = list(range(x.size))
    random.shuffle(order)
    for other in (
        mutual_information_bits(y, x),
        mutual_information_bits(np.array(relabel)[x], y),
        mutual_information_bits(x[order], y[order]),
    ):
        np.testing.assert_allclose(other, bits, atol=1e-12)


@given(paired())
def test_information_is_bounded_by_both_entropies(xy):
    x, y = xy
    bits = float(mutual_information_bits(x, y))
    assert 0.0 <= bits <= 3.0 + 1e-12
    for one in xy:
        entropy = float(mutual_information_bits(one, one))
        shares = np.bincount(one)[np.bincount(one) > 0] / one.size
        assert math.isclose(entropy, -(shares * np.log2(shares)).sum(), abs_tol=1e-12)
        assert bits <= entropy + 1e-12


@given(arrays(np.float64, (3, 4, 4), elements=st.integers(0, 40).map(float)))
def test_tables_in_a_batch_equal_tables_alone(joint):
    joint[..., 0, 0] += 1.0
    batch = joint_mutual_information_bits(joint)
    corrected = joint_mutual_information_bits(joint, miller_madow=True)
    for index in range(3):
        assert batch[index] == joint_mutual_information_bits(joint[index])
        assert corrected[index] == joint_mutual_information_bits(joint[index], miller_madow=True)


@given(paired(), st.integers(0, 2**32))
def test_permutation_results_are_in_range_and_zero_information_is_never_significant(xy, seed):
    debiased, p_value = permutation_mutual_information(*xy, np.random.default_rng(seed), n_permutations=19)
    plug_in = float(mutual_information_bits(*xy))
    assert 0.0 <= debiased <= plug_in + 1e-12
    assert 0.05 <= p_value <= 1.0
    if plug_in == 0.0:
        assert p_value == 1.0


@given(arrays(np.float64, st.integers(1, 80), elements=st.floats(-1e9, 1e9)))
def test_buckets_keep_order_and_ties(x):
    buckets = quantile_buckets(x)
    assert buckets.min() >= 0
    assert buckets.max() <= 7
    order = np.argsort(x)
    assert (np.diff(buckets[order]) >= 0).all()
    assert all(buckets[i] == buckets[j] for i, j in itertools.pairwise(order) if x[i] == x[j])


@given(paired())
def test_the_table_counts_every_pair_once(xy):
    x, y = xy
    table = joint_counts(x, y)
    assert table.sum() == x.size
    np.testing.assert_array_equal(table.sum(axis=1), np.bincount(x, minlength=8))
    np.testing.assert_array_equal(table.sum(axis=0), np.bincount(y, minlength=8))
