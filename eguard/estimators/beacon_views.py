"""Contacts of many destinations as intervals, their two views, and the parts of the beacon score of each view.

Everything is whole milliseconds and bytes until a ratio is formed, so that equal contacts give equal parts however they
arrived: all at once from a file, or one by one through an endpoint's ring.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eguard.estimators.periodicity import SLICES, slice_numbers
from eguard.estimators.segments import (
    Whole,
    doubled_medians,
    largest_ties,
    sample_numbers,
    sort_samples,
    take_samples,
)

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: Longest interval and largest size that count: what 32 bits hold, 49 days or 4 GiB. Anything larger counts as this.
SATURATED: Final = 2**32 - 1
#: Sizes are alike within a tenth of the median size and so many bytes.
ALIKE_BYTES: Final = 8


class Contacts(NamedTuple):
    """Accepted contacts of n destinations, laid end to end and cut by `offsets`, shape (n + 1,).

    `gaps` are the milliseconds since the contact before, positive, and without meaning at a destination's first.
    """

    gaps: Whole
    sizes: Whole
    offsets: Whole


class Views(NamedTuple):
    """Sequences of contacts to score; `destination` and `is_merged` have one entry a view, the first are as they came.

    `elapsed` are the milliseconds since the view's first contact.
    """

    elapsed: Whole
    sizes: Whole
    offsets: Whole
    destination: Whole
    is_merged: Flags


class ViewParts(NamedTuple):
    """What is known of each view before its phase is looked at, one entry a view; `intervals` are cut by `cuts`."""

    dispersion: Array
    symmetry: Array
    size_regularity: Array
    count_regularity: Array
    median_milliseconds: Array
    span_milliseconds: Array
    intervals: Array
    cuts: Whole


def accept_contacts(times: Array, sizes: Array, offsets: Whole, most: int) -> tuple[Contacts, Whole]:
    """Turn times in seconds into intervals, and return with them how many contacts of each destination were skipped.

    Contacts whose time does not exceed that of the one before are skipped; of the others the last `most` are kept.
    """
    milliseconds = np.rint(times * 1000.0).astype(np.int64)
    is_first = np.zeros(times.size, dtype=np.bool_)
    is_first[offsets[:-1][np.diff(offsets) > 0]] = True
    gaps = np.diff(milliseconds, prepend=0)
    is_accepted = is_first | (gaps > 0)
    accepted_before = np.concatenate([[0], np.cumsum(is_accepted)])
    cuts = accepted_before[offsets]
    accepted = np.diff(cuts)
    skipped = np.diff(offsets) - accepted
    from_end = np.repeat(cuts[1:], accepted) - np.arange(cuts[-1])
    kept = np.flatnonzero(is_accepted)[from_end <= most]
    offsets = np.concatenate([[0], np.cumsum(np.minimum(accepted, most))])
    gaps = np.minimum(gaps[kept], SATURATED)
    gaps[offsets[:-1][np.diff(offsets) > 0]] = 0
    return Contacts(gaps, saturated_sizes(sizes[kept]), offsets), skipped


def saturated_sizes(sizes: NDArray[np.number]) -> Whole:
    """Return sizes as whole bytes that fit 32 bits."""
    whole: Whole = np.clip(sizes, 0, SATURATED).astype(np.int64)
    return whole


def two_views(contacts: Contacts, min_observations: int, burst_milliseconds: int) -> Views:
    """Return every destination's contacts as they are and, where that differs, the first contact of every burst.

    A view with fewer than `min_observations` contacts is left out.
    """
    gaps, sizes, offsets = contacts
    is_first = np.zeros(gaps.size, dtype=np.bool_)
    is_first[offsets[:-1][np.diff(offsets) > 0]] = True
    total = np.cumsum(np.where(is_first, 0, gaps))
    elapsed = total - np.repeat(total[np.flatnonzero(is_first)], np.diff(offsets)[np.diff(offsets) > 0])
    opens_burst = is_first | (gaps >= burst_milliseconds)
    merged = np.diff(np.concatenate([[0], np.cumsum(opens_burst)])[offsets])
    counts = np.diff(offsets)
    is_plain = counts >= min_observations
    is_merged = (merged < counts) & (merged >= min_observations)
    plain_rows, plain_cuts = take_samples(offsets, is_plain)
    merged_rows = np.flatnonzero(opens_burst & np.repeat(is_merged, counts))
    rows = np.concatenate([plain_rows, merged_rows])
    ends = np.concatenate([plain_cuts[1:], plain_cuts[-1] + np.cumsum(merged[is_merged])])
    return Views(
        elapsed=elapsed[rows],
        sizes=sizes[rows],
        offsets=np.concatenate([[0], ends]),
        destination=np.concatenate([np.flatnonzero(is_plain), np.flatnonzero(is_merged)]),
        is_merged=np.repeat([False, True], [np.count_nonzero(is_plain), np.count_nonzero(is_merged)]),
    )


def view_parts(views: Views) -> ViewParts:
    """Return the parts of the score of each view; no view has fewer than three contacts."""
    first, counts = views.offsets[:-1], np.diff(views.offsets)
    samples = sample_numbers(views.offsets)
    is_interval = np.ones(samples.size, dtype=np.bool_)
    is_interval[first] = False
    intervals = np.diff(views.elapsed, prepend=0)[is_interval]
    cuts = views.offsets - np.arange(views.offsets.size)
    median2, spread4, skewness = _interval_shape(intervals, samples[is_interval], cuts)
    span = views.elapsed[views.offsets[1:] - 1]
    return ViewParts(
        dispersion=np.maximum(1.0 - spread4 / (2.0 * median2), 0.0),
        symmetry=1.0 - np.abs(skewness),
        size_regularity=_size_regularity(views.sizes, samples, views.offsets),
        count_regularity=_count_regularity(views.elapsed / span[samples], samples, counts.size),
        median_milliseconds=median2 / 2.0,
        span_milliseconds=span.astype(np.float64),
        intervals=intervals.astype(np.float64),
        cuts=cuts,
    )


def _interval_shape(intervals: Whole, samples: Whole, cuts: Whole) -> tuple[Whole, Whole, Array]:
    """Return twice the median, four times the median absolute deviation, and the quartile skewness of each sample."""
    first, size = cuts[:-1], np.diff(cuts)
    ordered = sort_samples(intervals, samples)
    median2 = doubled_medians(ordered, first, size)
    half = size // 2
    low2 = doubled_medians(ordered, first, half)
    high2 = doubled_medians(ordered, first + size - half, half)
    deviations2 = sort_samples(np.abs(2 * ordered - median2[samples]), samples)
    spread4 = doubled_medians(deviations2, first, size)
    lean = (high2 + low2 - 2 * median2).astype(np.float64)
    skewness = np.divide(lean, high2 - low2, out=np.zeros(size.size), where=high2 > low2)
    return median2, spread4, skewness


def _size_regularity(sizes: Whole, samples: Whole, offsets: Whole) -> Array:
    """Return the share of the commonest size or of sizes alike with the median, whichever is larger."""
    first, count = offsets[:-1], np.diff(offsets)
    ordered = sort_samples(sizes, samples)
    median2 = doubled_medians(ordered, first, count)[samples]
    is_alike = 10 * np.abs(2 * ordered - median2) <= median2 + 20 * ALIKE_BYTES
    alike = np.add.reduceat(is_alike.astype(np.int64), first)
    share: Array = np.maximum(alike, largest_ties(ordered, samples, offsets)) / count
    return share


def _count_regularity(fraction: Array, samples: Whole, n_views: int) -> Array:
    """Return `periodicity`'s evenness of counts for each view."""
    cells = samples * SLICES + slice_numbers(fraction)
    counts = np.bincount(cells, minlength=n_views * SLICES).reshape(n_views, SLICES)
    variation = np.maximum(counts.std(axis=1) - 0.5, 0.0) / counts.mean(axis=1)
    regularity: Array = np.maximum(1.0 - variation, 0.0) * np.count_nonzero(counts, axis=1) / SLICES
    return regularity
