"""The dynamic programme against enumeration of every window."""

import itertools
import math

import numpy as np
import pytest

from eguard.estimators.kl_tail import dirichlet_multinomial_weights, kl_tail, multinomial_weights

REFERENCE = np.array([0.6, 0.3, 0.08, 0.02])
WINDOW = 12


def windows(classes, events):
    for head in itertools.product(range(events + 1), repeat=classes - 1):
        if sum(head) <= events:
            yield (*head, events - sum(head))


def enumerated(weights):
    counts = np.array(list(windows(len(weights), WINDOW)))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(counts > 0, counts / WINDOW * np.log2(counts / WINDOW / REFERENCE), 0.0)
    return terms.sum(axis=1), np.prod([weights[i, counts[:, i]] for i in range(len(weights))], axis=0)


def test_dirichlet_multinomial_weights_multiply_to_its_probabilities():
    alpha = np.array([0.5, 2.0, 7.5])
    weights = dirichlet_multinomial_weights(alpha, 9)
    total = 0.0
    for counts in windows(3, 9):
        expected = math.exp(
            math.lgamma(10)
            + math.lgamma(10.0)
            - math.lgamma(19.0)
            + sum(math.lgamma(c + a) - math.lgamma(a) - math.lgamma(c + 1) for c, a in zip(counts, alpha, strict=True))
        )
        product = math.prod(weights[i, c] for i, c in enumerate(counts))
        assert product == pytest.approx(expected, rel=1e-11)
        total += product
    assert total == pytest.approx(1.0, abs=1e-12)


def test_multinomial_weights_multiply_to_its_probabilities():
    weights = multinomial_weights(np.array([0.5, 0.5, 0.0]), 4)
    assert weights[0, 3] * weights[1, 1] * weights[2, 0] == pytest.approx(4 / 16, rel=1e-12)
    assert weights[0, 3] * weights[1, 0] * weights[2, 1] == 0.0


def test_huge_baselines_do_not_overflow():
    weights = dirichlet_multinomial_weights(np.full(8, 1e9), 128)
    assert np.isfinite(weights).all()
    assert weights[1, 16] == pytest.approx(multinomial_weights(np.full(8, 0.125), 128)[1, 16], rel=1e-5)


@pytest.mark.parametrize(
    "weights",
    [
        dirichlet_multinomial_weights(REFERENCE * 30, WINDOW),
        dirichlet_multinomial_weights(REFERENCE * 1.5, WINDOW),
        multinomial_weights(REFERENCE, WINDOW),
        multinomial_weights(REFERENCE[::-1].copy(), WINDOW),
    ],
)
def test_the_tail_is_the_enumerated_one(weights):
    divergence, probability = enumerated(weights)
    edges, tail = kl_tail(weights, REFERENCE, 1e-5, 2.0, round_up=False)
    for x in (0.05, 0.1, 0.2, 0.35, 0.5, 0.8, 1.3, 1.9):
        # Clear of the atoms, where an edge stands on either side of one.
        if np.abs(divergence - x).min() > 1e-4:
            assert np.interp(x, edges, tail) == pytest.approx(probability[divergence > x].sum(), abs=1e-12)


@pytest.mark.parametrize("grid_bits", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("concentration", [1.5, 30.0])
def test_rounded_up_the_tail_is_an_upper_bound_at_every_edge(grid_bits, concentration):
    weights = dirichlet_multinomial_weights(REFERENCE * concentration, WINDOW)
    divergence, probability = enumerated(weights)
    edges, tail = kl_tail(weights, REFERENCE, grid_bits, 3.0, round_up=True)
    exact = np.array([probability[divergence > edge + 1e-9].sum() for edge in edges])
    assert (tail >= exact - 1e-12).all()
    assert edges[-1] >= 3.0


def test_following_the_tail_less_far_does_not_change_it():
    """Counts and totals that lead beyond the last cell are left out: they must be in the tail all the same."""
    weights = dirichlet_multinomial_weights(np.full(8, 5.0), 64)
    reference = np.full(8, 0.125)
    edges, near = kl_tail(weights, reference, 0.002, 0.25, round_up=True)
    _, far = kl_tail(weights, reference, 0.002, 1.5, round_up=True)
    assert near[: edges.size - 2] == pytest.approx(far[: edges.size - 2], abs=1e-12)
