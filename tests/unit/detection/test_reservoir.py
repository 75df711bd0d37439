"""The uniform reservoir: every event has the same chance, and batches do not matter."""

import numpy as np
import pytest
from scipy import stats

from eguard.detection.reservoir import UniformReservoir


def test_a_short_stream_is_kept_whole():
    reservoir = UniformReservoir(10, np.random.default_rng(0))
    assert reservoir.offer(4).tolist() == [0, 1, 2, 3]
    assert reservoir.offer(3).tolist() == [0, 1, 2]
    assert reservoir.sample().tolist() == list(range(7))


def test_the_sample_has_the_capacity_and_every_member_was_accepted():
    reservoir = UniformReservoir(50, np.random.default_rng(1))
    accepted = {1000 * batch + position for batch in range(20) for position in reservoir.offer(1000).tolist()}
    sample = reservoir.sample()
    assert len(sample) == 50
    assert accepted.issuperset(sample.tolist())
    assert len(accepted) < 1000  # about 50 (1 + ln 400) = 350


@pytest.mark.parametrize("size", [1, 7, 256, 5000])
def test_batches_of_any_size_give_the_same_sample(size):
    whole, parts = (UniformReservoir(30, np.random.default_rng(3)) for _ in range(2))
    whole.offer(5000)
    for start in range(0, 5000, size):
        parts.offer(min(size, 5000 - start))
    assert parts.sample().tolist() == whole.sample().tolist()
    assert parts.seen == whole.seen == 5000


def test_every_position_is_equally_likely():
    rng = np.random.default_rng(4)
    hits = np.zeros(200)
    for _ in range(4000):
        reservoir = UniformReservoir(10, rng)
        reservoir.offer(200)
        hits[reservoir.sample()] += 1
    # 40,000 draws over 200 positions; draws of one sample are not independent, which only shrinks the statistic.
    assert stats.chisquare(hits).pvalue > 0.001


def test_no_capacity_keeps_nothing():
    reservoir = UniformReservoir(0, np.random.default_rng(0))
    assert reservoir.offer(100).tolist() == []
    assert reservoir.sample().tolist() == []


def test_reset_starts_a_new_sample():
    reservoir = UniformReservoir(5, np.random.default_rng(0))
    reservoir.offer(100)
    reservoir.reset()
    assert reservoir.offer(3).tolist() == [0, 1, 2]
    assert reservoir.sample().tolist() == [0, 1, 2]
