"""Mutual information where it is known, buckets, and the reference tables of eleven real pairs."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from eguard.errors import EstimatorInputError
from eguard.estimators import (
    joint_counts,
    joint_mutual_information_bits,
    log_buckets,
    mutual_information_bits,
    permutation_mutual_information,
    quantile_buckets,
)

REFERENCE = json.loads((Path(__file__).parents[3] / "data/raw/reference/beacon_mi.json").read_text())


@pytest.mark.parametrize("pair", REFERENCE["pairs"], ids=lambda pair: pair["pair"][-1])
def test_reference_tables(pair):
    joint = np.array(pair["joint_counts_8x8_iat_by_size"])
    assert joint_mutual_information_bits(joint) == pytest.approx(pair["mi_bits_plugin"], abs=1e-12)
    corrected = joint_mutual_information_bits(joint, miller_madow=True)
    assert corrected == pytest.approx(pair["mi_bits_miller_madow"], abs=1e-12)
    x, y = np.repeat(np.indices((8, 8)).reshape(2, 64), joint.ravel(), axis=1)
    np.testing.assert_array_equal(joint_counts(x, y), joint)
    assert mutual_information_bits(x, y) == joint_mutual_information_bits(joint)


def test_identity_over_eight_levels_is_three_bits():
    assert mutual_information_bits(np.tile(range(8), 5), np.tile(range(8), 5)) == 3.0


def test_constants_and_crossed_levels_share_nothing():
    assert mutual_information_bits([3] * 9, [5] * 9) == 0.0
    assert mutual_information_bits(np.repeat(range(8), 8), np.tile(range(8), 8)) == 0.0


def test_a_noisy_channel_has_its_capacity():
    joint = np.array([[45, 5], [5, 45]])
    assert joint_mutual_information_bits(joint) == pytest.approx(1 + 0.9 * math.log2(0.9) + 0.1 * math.log2(0.1))


def test_batches_equal_single_sequences(rng):
    x, y = rng.integers(8, size=(2, 4, 3, 50))
    batch = mutual_information_bits(x, y)
    assert batch.shape == (4, 3)
    assert batch[2, 1] == mutual_information_bits(x[2, 1], y[2, 1])


def test_quantile_buckets_are_equally_filled_without_ties(rng):
    buckets = quantile_buckets(rng.normal(size=800))
    assert np.bincount(buckets).tolist() == [100] * 8


def test_quantile_buckets_count_distinct_edges_at_most_the_value():
    # Inner octiles of this sample are 1 (six times) and 9: two distinct edges.
    x = [1.0] * 13 + [9.0] * 3
    edges = np.unique(np.quantile(x, np.arange(1, 8) / 8))
    np.testing.assert_array_equal(quantile_buckets(x), np.searchsorted(edges, x, side="right"))


def test_quantile_buckets_of_a_batch_equal_those_of_its_rows(rng):
    x = rng.integers(0, 12, size=(3, 5, 40)).astype(float)
    batch = quantile_buckets(x)
    for index in np.ndindex(3, 5):
        np.testing.assert_array_equal(batch[index], quantile_buckets(x[index]))


def test_log_buckets_have_fixed_edges():
    buckets = log_buckets([0.0, 0.99, 1.0, 9.99, 10.0, 999.9, 1000.0, 1e9], low=1.0, high=1000.0, bins=5)
    assert buckets.tolist() == [0, 0, 1, 1, 2, 3, 4, 4]


def test_a_perfect_beacon_has_no_information_and_no_significance(rng):
    assert permutation_mutual_information([4] * 64, [2] * 64, rng) == (0.0, 1.0)


def test_a_deterministic_relation_has_the_smallest_p_value(rng):
    levels = rng.integers(8, size=100)
    debiased, p_value = permutation_mutual_information(levels, 7 - levels, rng, n_permutations=99)
    assert p_value == 0.01
    plug_in = mutual_information_bits(levels, levels)
    assert plug_in - 0.8 < debiased < plug_in


def test_debiasing_takes_off_what_permuted_pairs_show():
    rng = np.random.default_rng(0)
    x, y = rng.integers(8, size=(2, 20))
    by_hand = [float(mutual_information_bits(x, rng.permutation(y))) for _ in range(2000)]
    debiased, _ = permutation_mutual_information(x, y, rng, n_permutations=2000)
    expected = max(0.0, float(mutual_information_bits(x, y)) - np.mean(by_hand))
    assert debiased == pytest.approx(expected, abs=0.02)


def test_the_same_generator_state_gives_the_same_answer():
    x, y = np.random.default_rng(1).integers(8, size=(2, 50))
    first = permutation_mutual_information(x, y, np.random.default_rng(2))
    assert first == permutation_mutual_information(x, y, np.random.default_rng(2))


@pytest.mark.parametrize(
    ("x", "y", "bins", "name"),
    [
        ([0, 8], [0, 1], 8, "x"),
        ([0, 1], [0, -1], 8, "y"),
        ([0.5, 1], [0, 1], 8, "x"),
        ([1e300, 1], [0, 1], 8, "x"),
        ([], [], 8, "x"),
        (3, 3, 8, "x"),
        ([0, 1], [0, 1, 1], 8, "y"),
        ([0, 0], [0, 0], 1, "bins"),
    ],
)
def test_what_is_no_bucket_is_refused_by_name(x, y, bins, name):
    with pytest.raises(EstimatorInputError) as caught:
        mutual_information_bits(x, y, bins)
    assert caught.value.argument == name


def test_permutations_are_refused_by_name(rng):
    with pytest.raises(EstimatorInputError, match="n_permutations"):
        permutation_mutual_information([0], [0], rng, n_permutations=0)
    with pytest.raises(EstimatorInputError, match="one-dimensional"):
        permutation_mutual_information([[0]], [[0]], rng)


@pytest.mark.parametrize("joint", [[1.0, 2.0], [[0, 0], [0, 0]], [[1, -1], [1, 1]]])
def test_tables_are_refused(joint):
    with pytest.raises(EstimatorInputError) as caught:
        joint_mutual_information_bits(joint)
    assert caught.value.argument == "joint"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(([1.0], 0.0, 1.0), "low"), (([1.0], 2.0, 1.0), "low"), (([-1.0], 1.0, 2.0), "x"), (([1.0], 1.0, 2.0, 2), "bins")],
)
def test_log_buckets_refuse_by_name(arguments, name):
    with pytest.raises(EstimatorInputError) as caught:
        log_buckets(*arguments)
    assert caught.value.argument == name


@pytest.mark.parametrize(("x", "bins", "name"), [(1.0, 8, "x"), ([np.nan], 8, "x"), ([1.0], 1, "bins")])
def test_quantile_buckets_refuse_by_name(x, bins, name):
    with pytest.raises(EstimatorInputError) as caught:
        quantile_buckets(x, bins)
    assert caught.value.argument == name
