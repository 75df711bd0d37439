"""Order statistics of many samples at once, against one sample at a time."""

import itertools

import numpy as np
import pytest

from eguard.estimators.segments import (
    doubled_medians,
    largest_ties,
    sample_numbers,
    sample_ranges,
    sort_samples,
    take_samples,
)


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 40, 60)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    # As large as a doubled deviation of 32-bit values can be, with many ties.
    return rng.choice([0, 1, 7, 2**32 - 1, 2**33 - 1], offsets[-1]), offsets


def parts(values, offsets):
    return [values[a:b] for a, b in itertools.pairwise(offsets)]


def test_samples_are_sorted_each_for_itself(samples):
    values, offsets = samples
    ordered = sort_samples(values, sample_numbers(offsets))
    for got, given in zip(parts(ordered, offsets), parts(values, offsets), strict=True):
        assert got.tolist() == sorted(given.tolist())


def test_medians_and_ties_are_those_of_each_sample(samples):
    values, offsets = samples
    numbers = sample_numbers(offsets)
    ordered = sort_samples(values, numbers)
    medians = doubled_medians(ordered, offsets[:-1], np.diff(offsets))
    assert medians.tolist() == [2.0 * np.median(part) for part in parts(values, offsets)]
    ties = largest_ties(ordered, numbers, offsets)
    assert ties.tolist() == [np.unique(part, return_counts=True)[1].max() for part in parts(values, offsets)]


def test_equal_values_of_neighbouring_samples_are_no_ties():
    values, offsets = np.array([5, 5, 5, 5]), np.array([0, 1, 4])
    assert largest_ties(values, sample_numbers(offsets), offsets).tolist() == [1, 3]


def test_chosen_samples_keep_their_values(samples):
    values, offsets = samples
    chosen = np.arange(offsets.size - 1) % 3 == 0
    rows, cuts = take_samples(offsets, chosen)
    kept = [part.tolist() for part, is_kept in zip(parts(values, offsets), chosen, strict=True) if is_kept]
    assert [part.tolist() for part in parts(values[rows], cuts)] == kept
    nothing, edge = take_samples(offsets, np.zeros_like(chosen))
    assert (nothing.tolist(), edge.tolist()) == ([], [0])


def test_ranges_may_repeat_and_overlap(samples):
    _, offsets = samples
    first, size = offsets[[3, 3, 1]], np.diff(offsets)[[3, 3, 1]]
    positions, begins = sample_ranges(first, size)
    expected = [np.arange(a, a + n) for a, n in zip(first.tolist(), size.tolist(), strict=True)]
    assert positions.tolist() == np.concatenate(expected).tolist()
    assert begins.tolist() == [0, size[0], size[0] + size[1]]
