"""Properties of window thresholds, by enumeration of all windows of small processes."""

import itertools
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eguard.estimators.predictive import predictive_concentration, predictive_kl_thresholds

DELTAS = (0.2, 0.05, 1e-2, 1e-3, 1e-5)


def enumerated(concentration, reference, events):
    """Divergence in bits and Dirichlet-multinomial probability of every window."""
    classes = reference.size
    counts = np.array(
        [
            (*head, events - sum(head))
            for head in itertools.product(range(events + 1), repeat=classes - 1)
            if sum(head) <= events
        ]
    )
    log_gamma = np.vectorize(math.lgamma)
    total = concentration.sum()
    log_probability = math.lgamma(events + 1) + math.lgamma(total) - math.lgamma(events + total)
    log_probability = log_probability + (
        log_gamma(counts + concentration) - log_gamma(concentration) - log_gamma(counts + 1)
    ).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = np.where(counts > 0, counts / events * np.log2(counts / events / reference), 0.0).sum(axis=1)
    return divergence, np.exp(log_probability)


@settings(max_examples=60, deadline=None)
@given(
    baseline=st.lists(st.integers(0, 60), min_size=2, max_size=4),
    events=st.integers(2, 12),
    phi=st.sampled_from([1.0, 1.5]),
)
def test_the_rate_never_exceeds_delta_and_the_threshold_is_hardly_above_the_least_possible(baseline, events, phi):
    concentration = predictive_concentration(baseline)
    reference = concentration / concentration.sum()
    if phi > 1.0:
        concentration = reference / ((phi - 1.0) / (events - phi) + 1.0 / concentration.sum())
    divergence, probability = enumerated(concentration, reference, events)
    assert abs(probability.sum() - 1.0) < 1e-9
    attained = np.unique(divergence.round(12))
    tails = np.array([probability[divergence > value + 1e-10].sum() for value in attained])
    thresholds = predictive_kl_thresholds(baseline, events, DELTAS, phi=phi)
    largest = -math.log2(reference.min())
    for threshold, delta in zip(thresholds, DELTAS, strict=True):
        assert probability[divergence > threshold].sum() <= delta * (1 + 1e-9)
        least = attained[np.argmax(tails <= delta * (1 + 1e-9))]
        if least >= attained[-1] - 1e-9:
            assert threshold == math.inf
        elif threshold < math.inf:
            assert threshold <= least + max(0.003, len(baseline) * largest / (1024 if phi == 1.0 else 384))


@settings(max_examples=15, deadline=None)
@given(baseline=st.lists(st.integers(0, 2000), min_size=8, max_size=8), order=st.permutations(range(8)))
def test_the_order_of_classes_does_not_matter(baseline, order):
    thresholds = predictive_kl_thresholds(baseline, grid_bits=0.004)
    shuffled = predictive_kl_thresholds([baseline[i] for i in order], grid_bits=0.004)
    np.testing.assert_allclose(shuffled, thresholds, rtol=1e-9)
