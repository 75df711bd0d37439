"""Coherence of many samples at once, against the phase test of one."""

import numpy as np
import pytest

from eguard.estimators.interval_coherence import BLOCK_INTERVALS, interval_coherence
from eguard.estimators.phase import interval_phase


def samples_of(rng, n):
    kinds = [
        lambda size: rng.exponential(60.0, size),
        lambda size: 60.0 * rng.geometric(0.5, size) + rng.uniform(-5.0, 5.0, size),
        lambda size: np.full(size, 60.0),
        lambda size: rng.choice([1.0, 60.0], size),
        lambda size: rng.lognormal(0.0, 4.0, size),
    ]
    return [kinds[index % len(kinds)](int(rng.integers(3, 256))) for index in range(n)]


def test_coherence_and_period_are_those_of_the_phase_test():
    samples = samples_of(np.random.default_rng(1), 120)
    offsets = np.concatenate([[0], np.cumsum([sample.size for sample in samples])])
    assert offsets[-1] > 3 * BLOCK_INTERVALS
    found = interval_coherence(np.concatenate(samples), offsets, np.array([np.median(s) for s in samples]))
    for index, sample in enumerate(samples):
        test, coherence = interval_phase(sample)
        assert found.coherence[index] == pytest.approx(coherence, abs=1e-9)
        # Which of several equally good candidates is the period may turn on the table's error.
        if coherence > 0.9:
            assert found.period[index] == pytest.approx(test.period_seconds, rel=0.02)


def test_a_longer_sample_than_a_block_is_one_block():
    rng = np.random.default_rng(2)
    sample = rng.exponential(1.0, 3 * BLOCK_INTERVALS)
    found = interval_coherence(sample, np.array([0, sample.size]), np.array([np.median(sample)]))
    assert found.coherence[0] == pytest.approx(interval_phase(sample)[1], abs=1e-9)


def test_the_period_of_missed_beats_is_that_of_the_timer():
    rng = np.random.default_rng(3)
    sample = 300.0 * rng.geometric(0.5, 200) + rng.uniform(-9.0, 9.0, 200)
    found = interval_coherence(sample, np.array([0, 200]), np.array([np.median(sample)]))
    assert found.coherence[0] > 0.95
    assert found.period[0] == pytest.approx(300.0, rel=0.01)
