"""Divergences against scipy, and the reference pairs of hosts."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from eguard.estimators import jensen_shannon_nats, kl_divergence_bits

REFERENCE = json.loads((Path(__file__).parents[2] / "data/raw/reference/jensen_shannon.json").read_text())


@pytest.mark.parametrize("pair", REFERENCE["pairs"], ids=lambda pair: f"{pair['a']} {pair['b']}")
def test_reference_pairs(pair):
    p, q = (np.array(pair[name], dtype=float) / sum(pair[name]) for name in ("counts_a", "counts_b"))
    assert jensen_shannon_nats(p, q) == pytest.approx(pair["js_nats"], abs=1e-14)
    assert jensen_shannon_nats(p, q) == pytest.approx((pair["kl_a_to_mix"] + pair["kl_b_to_mix"]) / 2.0, abs=1e-14)


def test_reference_bounds():
    assert jensen_shannon_nats([0.5, 0.5], [0.5, 0.5]) == REFERENCE["bounds"]["identical"]
    assert jensen_shannon_nats([1, 0], [0, 1]) == pytest.approx(REFERENCE["bounds"]["disjoint"], abs=1e-15)


@pytest.mark.parametrize("concentration", [0.05, 0.5, 50.0])
def test_jensen_shannon_is_the_square_of_scipys_distance(concentration):
    rng = np.random.default_rng(3)
    p, q = rng.dirichlet(np.full(8, concentration), size=(2, 500))
    np.testing.assert_allclose(jensen_shannon_nats(p, q), jensenshannon(p, q, axis=1) ** 2, atol=1e-14)


def test_kl_equals_scipys_entropy_on_smoothed_counts():
    rng = np.random.default_rng(4)
    counts, baseline = rng.integers(1, 60, size=(300, 8)), rng.integers(0, 900, size=(300, 8))
    counts[:, 1:] *= rng.random((300, 7)) < 0.7
    for smoothing in (0.5, 3.0):
        oracle = entropy(counts, baseline + smoothing, axis=1) / math.log(2.0)
        np.testing.assert_allclose(kl_divergence_bits(counts, baseline, smoothing), oracle, atol=1e-13)
