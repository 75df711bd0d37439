"""Order statistics of many short samples at once: values laid end to end, cut by offsets.

Sample i is ``values[offsets[i]:offsets[i + 1]]``. The values are whole numbers below 2**34, so that sample number and
value fit one integer and one sort puts every sample in order. Medians come doubled, which keeps them whole.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]

#: Bits of a value beside its sample's number in a sort key; 2**29 samples fit above them.
VALUE_BITS: Final = 34
_VALUE_MASK: Final = (1 << VALUE_BITS) - 1


def sample_numbers(offsets: Whole) -> Whole:
    """Return the number of the sample that each value belongs to."""
    return np.repeat(np.arange(offsets.size - 1, dtype=np.int64), np.diff(offsets))


def sort_samples(values: Whole, samples: Whole) -> Whole:
    """Return the values in rising order within each sample.

    Examples
    --------
    >>> sort_samples(np.array([3, 1, 9, 2]), np.array([0, 0, 1, 1])).tolist()
    [1, 3, 2, 9]
    """
    keys = samples << VALUE_BITS | values
    keys.sort()
    return keys & _VALUE_MASK


def doubled_medians(ordered: Whole, first: Whole, size: Whole) -> Whole:
    """Return twice the median of the runs of `size` (at least 1) ordered values that start at `first`.

    Examples
    --------
    >>> doubled_medians(np.array([1, 3, 2, 9, 10]), np.array([0, 2]), np.array([2, 3])).tolist()
    [4, 18]
    """
    median: Whole = ordered[first + (size - 1) // 2] + ordered[first + size // 2]
    return median


def largest_ties(ordered: Whole, samples: Whole, offsets: Whole) -> Whole:
    """Return how often the commonest value of each sample occurs; no sample is empty.

    Examples
    --------
    >>> values, samples = np.array([1, 1, 3, 7, 8]), np.array([0, 0, 0, 1, 1])
    >>> largest_ties(values, samples, np.array([0, 3, 5])).tolist()
    [2, 1]
    """
    is_new = np.ones(ordered.size, dtype=np.bool_)
    is_new[1:] = (ordered[1:] != ordered[:-1]) | (samples[1:] != samples[:-1])
    starts = np.flatnonzero(is_new)
    runs = np.diff(starts, append=ordered.size)
    ties: Whole = np.maximum.reduceat(runs, np.searchsorted(starts, offsets[:-1]))
    return ties


def take_samples(offsets: Whole, chosen: NDArray[np.bool_]) -> tuple[Whole, Whole]:
    """Return the positions of the values of the chosen samples, and the offsets that then cut them."""
    sizes = np.diff(offsets)
    kept = np.concatenate([[0], np.cumsum(sizes[chosen])])
    return np.flatnonzero(np.repeat(chosen, sizes)), kept


def sample_ranges(first: Whole, size: Whole) -> tuple[Whole, Whole]:
    """Return the positions of runs of `size` values that start at `first`, run after run, and where each run begins.

    Examples
    --------
    >>> positions, begins = sample_ranges(np.array([5, 0, 5]), np.array([2, 1, 2]))
    >>> positions.tolist(), begins.tolist()
    ([5, 6, 0, 5, 6], [0, 2, 3])
    """
    ends = np.cumsum(size)
    begins = ends - size
    return np.arange(ends[-1]) + np.repeat(first - begins, size), begins
