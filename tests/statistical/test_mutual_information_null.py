"""Mutual information of independent sequences: the plug-in's bias by sample size, and a p-value that is uniform."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from eguard.estimators import mutual_information_bits, permutation_mutual_information, quantile_buckets

REFERENCE = json.loads((Path(__file__).parents[2] / "data/raw/reference/beacon_mi.json").read_text())


def independent(n, runs, seed):
    x, y = np.random.default_rng(seed).integers(8, size=(2, runs, n))
    return mutual_information_bits(x, y)


@pytest.mark.parametrize(
    ("n", "probability", "tolerance"),
    [(20, 1.0, 0.0005), (32, 1.0, 0.0005), (64, 0.958, 0.006), (128, 0.0038, 0.0015), (256, 0.0, 0.0)],
)
def test_probability_that_independence_passes_half_a_bit(n, probability, tolerance):
    share = float((independent(n, 20_000, seed=n) > 0.5).mean())
    assert share == pytest.approx(probability, abs=tolerance)


def test_twenty_independent_points_have_1_39_bits():
    assert independent(20, 10_000, seed=1).mean() == pytest.approx(1.39, abs=0.01)


@pytest.mark.parametrize("n", [int(n) for n in REFERENCE["independent_null_8x8_uniform"]["by_n"]])
def test_reference_null(n):
    stored = REFERENCE["independent_null_8x8_uniform"]["by_n"][str(n)]
    bits = independent(n, 3000, seed=2)
    # The stored values come from 400 draws: three standard errors of theirs.
    assert bits.mean() == pytest.approx(stored["mean"], abs=3.0 * bits.std() / 20.0)
    assert np.quantile(bits, 0.95) == pytest.approx(stored["q95"], rel=0.06)


@pytest.mark.parametrize("n", [512, 2048])
def test_the_bias_is_the_chi_square_one_for_large_samples(n):
    expected = 49 / (2.0 * n * math.log(2.0))
    assert independent(n, 4000, seed=3).mean() == pytest.approx(expected, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("n", [32, 128])
def test_permutation_p_value_is_uniform_and_the_debiased_value_centred(n):
    rng = np.random.default_rng(n)
    values, p_values = [], []
    for _ in range(800):
        # Continuous times against sizes of a few kinds, as traffic has them; independent.
        x, y = (
            quantile_buckets(rng.exponential(size=n)),
            rng.choice(8, size=n, p=[0.5, 0.2, 0.1, 0.1, 0.04, 0.03, 0.02, 0.01]),
        )
        debiased, p_value = permutation_mutual_information(x, y, rng, n_permutations=99)
        values.append(debiased)
        p_values.append(p_value)
    # p-values lie on the lattice 1/100 .. 1; spread within their cell they are uniform.
    spread = np.array(p_values) - rng.random(800) / 100.0
    assert kstest(spread, "uniform").pvalue > 0.001
    for alpha in (0.01, 0.05, 0.1):
        assert np.mean(np.array(p_values) <= alpha) <= alpha + 3.0 * math.sqrt(alpha * (1 - alpha) / 800)
    # The floor at 0 leaves half of the noise: far below the plug-in's bias of 24/(2 n ln 2) bits and more.
    assert np.mean(values) < 0.25 * 24 / (2.0 * n * math.log(2.0))


@pytest.mark.slow
def test_a_real_dependence_is_found_from_64_observations():
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(200):
        x = rng.integers(8, size=64)
        y = np.where(rng.random(64) < 0.5, x, rng.integers(8, size=64))
        found += permutation_mutual_information(x, y, rng, n_permutations=99)[1] <= 0.01
    assert found / 200 >= 0.95
