"""What others score beacons by: plain mutual information, and four equally weighted parts in the manner of RITA.

Both are here to be compared with, on the same pairs and at the same false-alarm rate. The RITA-style score is written
from its published description, configuration defaults and test vectors: timing and size by quartile skewness and
median absolute deviation, a histogram of connection counts, and the duration over which a pair was active, within the
last 24 hours of a data set.

References
----------
Active Countermeasures, RITA v5 (configuration defaults ``scoring.beacon``). The project's operations manual, C2 mutual
information over 8 x 8 buckets, alarm above .5 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.estimators import mutual_information_bits, permutation_mutual_information, quantile_buckets
from eguard.mlops.beacon_pairs import BeaconPairs

Floats = NDArray[np.float64]

#: Bits of plain mutual information above which the operations manual alarms.
PLAIN_INFORMATION_BITS: Final = 0.5
_DAY_SECONDS: Final = 86_400.0
_HOUR_SECONDS: Final = 3_600.0
_BARS: Final = 24
_MIN_BARS_FOR_DURATION: Final = 6
_IDEAL_RUN_BARS: Final = 12
_MIN_BARS_FOR_TWO_MODES: Final = 11
_MODE_WIDTH: Final = 0.05
_OUTLIER_BARS: Final = 1
#: A quartile range below this says nothing about skewness: whole seconds, or bytes.
_MIN_QUARTILE_RANGE: Final = 10.0


@dataclass(frozen=True, slots=True)
class RitaScores:
    """Four parts and their mean in [0, 1], arrays of shape (n_pairs,); 0 where a pair is not scored."""

    timing: Floats
    size: Floats
    histogram: Floats
    duration: Floats

    @property
    def score(self) -> Floats:
        """Mean of the parts, shape (n_pairs,)."""
        mean: Floats = (self.timing + self.size + self.histogram + self.duration) / 4.0
        return mean


def rita_scores(pairs: BeaconPairs, *, min_observations: int, end_seconds: float | None = None) -> RitaScores:
    """Score pairs in the manner of RITA, on the last 24 hours.

    Parameters
    ----------
    pairs : BeaconPairs
        Of one data set.
    min_observations : int
        Pairs with fewer connections in those hours are not scored.
    end_seconds : float, optional
        End of the 24 hours, Unix time; the last observation if not given. They begin at a full hour.

    Notes
    -----
    Sizes are the payload bytes that the source sent. RITA takes bytes with headers where a log has them.
    """
    parts = np.zeros((4, len(pairs)))
    if pairs.times_seconds.size:
        end = float(pairs.times_seconds.max()) if end_seconds is None else end_seconds
        start = np.floor((end - _DAY_SECONDS) / _HOUR_SECONDS) * _HOUR_SECONDS
        for row in np.flatnonzero(pairs.n_observations >= min_observations).tolist():
            span = slice(pairs.offsets[row], pairs.offsets[row + 1])
            times, sizes = pairs.times_seconds[span], pairs.sent_bytes[span]
            inside = (times >= start) & (times <= end)
            if np.count_nonzero(inside) >= min_observations:
                parts[:, row] = rita_parts(times[inside], sizes[inside], start, end)
    return RitaScores(*parts)


def rita_parts(times: Floats, sizes: Floats, start: float, end: float) -> tuple[float, float, float, float]:
    """Return timing, size, histogram and duration score of one pair, each in [0, 1].

    Parameters
    ----------
    times, sizes : ndarray of shape (n,)
        Seconds in rising order, and bytes.
    start, end : float
        Hours over which the data set reaches.
    """
    bars = np.histogram(times, bins=_BARS, range=(start, max(end, start + 1.0)))[0]
    occupied = int(np.count_nonzero(bars))
    duration = 0.0
    if occupied >= _MIN_BARS_FOR_DURATION:
        coverage = float(times[-1] - times[0]) / (end - start)
        duration = min(1.0, max(coverage, _longest_run(bars > 0) / _IDEAL_RUN_BARS))
    return timing_score(times), size_score(sizes), histogram_score(bars), duration


def timing_score(times: Floats) -> float:
    """Return how even the non-zero intervals of whole seconds are, in [0, 1], rounded to three places."""
    intervals = np.diff(np.floor(times))
    intervals = intervals[intervals > 0.0]
    return _evenness(intervals, of_small_median=1.0) if intervals.size >= 3 else 0.0


def size_score(sizes: Floats) -> float:
    """Return how even the sizes are, in [0, 1], rounded to three places."""
    return _evenness(sizes, of_small_median=0.0) if sizes.size >= 3 else 0.0


def histogram_score(bars: NDArray[np.integer]) -> float:
    """Return how even the bars of a histogram are, or how well two heights describe them, in [0, 1]."""
    mean = float(bars.mean())
    if not mean:
        return 0.0
    even = max(0.0, 1.0 - float(bars.std()) / mean)
    occupied = bars[bars > 0]
    two_modes = 0.0
    if occupied.size >= _MIN_BARS_FOR_TWO_MODES:
        width = max(1, int(np.ceil(_MODE_WIDTH * occupied.max())))
        heights = np.sort(np.unique(occupied // width, return_counts=True)[1])
        two_modes = min(1.0, float(heights[-2:].sum()) / (occupied.size - _OUTLIER_BARS))
    return max(even, two_modes)


def plain_information_bits(pairs: BeaconPairs, *, min_observations: int, max_observations: int) -> Floats:
    """Return the 8 x 8 plug-in information of interval and size, in bits, shape (n_pairs,); 0 where not scored."""
    bits = np.zeros(len(pairs))
    for row in np.flatnonzero(pairs.n_observations >= min_observations).tolist():
        intervals, sizes = _interval_buckets(pairs, row, max_observations)
        bits[row] = float(mutual_information_bits(intervals, sizes))
    return bits


def debiased_information_bits(
    pairs: BeaconPairs, row: int, rng: np.random.Generator, *, max_observations: int
) -> tuple[float, float]:
    """Return the permutation-debiased information of one pair, in bits, and its p-value."""
    intervals, sizes = _interval_buckets(pairs, row, max_observations)
    return permutation_mutual_information(intervals, sizes, rng)


def _interval_buckets(pairs: BeaconPairs, row: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the buckets of each interval and of the size of the event that ends it."""
    stop = int(pairs.offsets[row + 1])
    span = slice(max(int(pairs.offsets[row]), stop - most), stop)
    return quantile_buckets(np.diff(pairs.times_seconds[span])), quantile_buckets(pairs.sent_bytes[span][1:])


def _evenness(values: Floats, *, of_small_median: float) -> float:
    """Return the mean of 1 - abs(Bowley skewness) and 1 - MAD/median."""
    ordered = np.sort(values)
    half = ordered.size // 2
    low, middle, high = (float(np.median(part)) for part in (ordered[:half], ordered, ordered[-half:]))
    skewness = 0.0
    if high - low >= _MIN_QUARTILE_RANGE and low < middle < high:
        skewness = (low + high - 2.0 * middle) / (high - low)
    deviation = float(np.median(np.abs(ordered - middle)))
    steadiness = max(0.0, 1.0 - deviation / middle) if middle >= 1.0 else of_small_median
    return round((1.0 - abs(skewness) + steadiness) / 2.0, 3)


def _longest_run(is_hit: NDArray[np.bool_]) -> int:
    """Return the longest run of bars that are hit; the last bar is followed by the first."""
    if is_hit.all():
        return int(is_hit.size)
    gaps = np.flatnonzero(~is_hit)
    around = np.append(gaps, gaps[0] + is_hit.size)
    return int(np.diff(around).max()) - 1
