"""Phase coherence of the intervals of many destinations at once: `phase.interval_phase` without its null table.

Nearly all of the 48 candidate periods of a destination only have to lose. They are tried in single precision, whose
error stays below 1e-6; those within 1e-5 of the best are then evaluated in double precision, so that the result is that
of double precision throughout at a sixth of the time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eguard.estimators.phase import CANDIDATES
from eguard.estimators.segments import Whole, sample_numbers, take_samples

Array = NDArray[np.float64]

#: Candidates this close to the best in single precision are evaluated again; far above the error of either.
CONTENDER_MARGIN: Final = 1e-5
#: The period is the longest candidate whose intervals lie on its multiples nearly as well as on any other's.
PERIOD_MARGIN: Final = 0.05
#: Intervals tried together, which keeps the 48 rows in the processor's cache.
BLOCK_INTERVALS: Final = 2048

_TAU: Final = 2.0 * np.pi


class Coherence(NamedTuple):
    """Coherence in [0, 1] and the period it points to, one entry a sample."""

    coherence: Array
    period: Array


def interval_coherence(intervals: Array, offsets: Whole, medians: Array) -> Coherence:
    """Return the largest mean resultant length of each sample's intervals over the candidate periods.

    Parameters
    ----------
    intervals : ndarray of shape (n,)
        Positive, sample after sample, in any unit.
    offsets : ndarray of int64, shape (samples + 1,)
        Where the samples begin and end; none is empty.
    medians : ndarray of shape (samples,)
        Median interval of each sample; the candidates are .3 to 1.05 of it.

    Returns
    -------
    Coherence
        The period is in the intervals' unit.
    """
    best, period = np.zeros(medians.size), np.zeros(medians.size)
    for start, stop in _blocks(offsets):
        block = slice(int(offsets[start]), int(offsets[stop]))
        cut = offsets[start : stop + 1] - offsets[start]
        best[start:stop], period[start:stop] = _block(intervals[block], cut, medians[start:stop])
    return Coherence(best, period)


def _blocks(offsets: Whole) -> list[tuple[int, int]]:
    last = offsets.size - 1
    blocks, start = [], 0
    while start < last:
        reach = int(np.searchsorted(offsets, offsets[start] + BLOCK_INTERVALS, side="right")) - 1
        stop = min(max(reach, start + 1), last)
        blocks.append((start, stop))
        start = stop
    return blocks


def _block(intervals: Array, offsets: Whole, medians: Array) -> tuple[Array, Array]:
    samples, sizes = sample_numbers(offsets), np.diff(offsets)
    scaled = intervals / medians[samples]
    turns = scaled / CANDIDATES[:, None]
    turns -= np.rint(turns)
    angle = turns.astype(np.float32)
    angle *= np.float32(_TAU)
    cosines = np.add.reduceat(np.cos(angle), offsets[:-1], axis=1) / sizes
    sines = np.add.reduceat(np.sin(angle, out=angle), offsets[:-1], axis=1) / sizes
    rough = np.hypot(cosines, sines)
    is_contender = rough >= rough.max(axis=0) - CONTENDER_MARGIN
    best = np.zeros(medians.size)
    # Most samples have one contender, so that a second round concerns few and a 48th hardly any.
    while is_contender.any():
        chosen = is_contender.any(axis=0)
        candidate = np.argmax(is_contender, axis=0)
        is_contender[candidate[chosen], np.flatnonzero(chosen)] = False
        rows, cut = take_samples(offsets, chosen)
        exact = turns[candidate[samples[rows]], rows]
        total = np.add.reduceat(np.exp(1j * _TAU * exact), cut[:-1])
        best[chosen] = np.maximum(best[chosen], np.abs(total) / sizes[chosen])
    return np.minimum(best, 1.0), _periods(intervals, offsets, samples, medians, cosines)


def _periods(intervals: Array, offsets: Whole, samples: Whole, medians: Array, cosines: NDArray[np.floating]) -> Array:
    """Fit each sample's intervals as multiples of its longest good candidate, by least squares."""
    is_good = cosines >= cosines.max(axis=0) - PERIOD_MARGIN
    longest = len(CANDIDATES) - 1 - np.argmax(is_good[::-1], axis=0)
    candidate = medians * CANDIDATES[longest]
    multiples = np.maximum(np.rint(intervals / candidate[samples]), 1.0)
    first = offsets[:-1]
    period: Array = np.add.reduceat(multiples * intervals, first) / np.add.reduceat(multiples * multiples, first)
    return period
