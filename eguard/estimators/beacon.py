"""How regularly a host contacts its destinations: the beacon score of many destinations at once.

`periodicity_score` explains one sequence of contacts, with p-values; this module scores any number of them, with the
sizes of the contacts added, at the resolution that an endpoint keeps: whole milliseconds and whole bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eguard.errors import EstimatorInputError
from eguard.estimators.beacon_views import Contacts, ViewParts, Views, accept_contacts, two_views, view_parts
from eguard.estimators.interval_coherence import interval_coherence
from eguard.estimators.segments import Whole, take_samples
from eguard.estimators.validation import as_counts, as_finite

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: Times beyond it, 285 thousand years, have no millisecond in double precision.
LATEST_SECONDS: Final = 2.0**53 / 1000.0
#: Contacts scored together; more would only leave the processor's cache.
BLOCK_CONTACTS: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class BeaconOptions:
    """Settings of the beacon score, fixed before any labelled capture is read.

    Parameters
    ----------
    min_observations : int
        Fewer contacts are not scored.
    max_observations : int
        Of more contacts the last so many count.
    burst_seconds : float
        Contacts closer than this are one burst, which stands for a single contact in the second of the two views.
    min_span_seconds : float
        A view is scored if so much time lies between its first and its last contact.
    weight_timer, weight_symmetry, weight_size, weight_counts : float
        Weights of the four parts; they sum to 1.

    Raises
    ------
    EstimatorInputError
        A setting is out of range.
    """

    min_observations: int = 20
    max_observations: int = 256
    burst_seconds: float = 1.0
    min_span_seconds: float = 120.0
    weight_timer: float = 0.40
    weight_symmetry: float = 0.20
    weight_size: float = 0.25
    weight_counts: float = 0.15

    def __post_init__(self) -> None:
        if self.min_observations < 4:
            raise EstimatorInputError("min_observations", f"must be at least 4, got {self.min_observations}")
        if self.max_observations < self.min_observations:
            raise EstimatorInputError(
                "max_observations", f"must be at least {self.min_observations}, got {self.max_observations}"
            )
        for name in ("burst_seconds", "min_span_seconds"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise EstimatorInputError(name, f"must be finite and not negative, got {value}")
        weights = (self.weight_timer, self.weight_symmetry, self.weight_size, self.weight_counts)
        if min(weights) < 0.0 or not math.isclose(math.fsum(weights), 1.0, abs_tol=1e-9):
            raise EstimatorInputError("weight_timer", f"the weights must be non-negative and sum to 1, got {weights}")


@dataclass(frozen=True, slots=True)
class BeaconScores:
    """How regularly each of n destinations is contacted: arrays of shape (n,).

    Attributes
    ----------
    regularity : ndarray of float64
        .40 timer + .20 symmetry + .25 size_regularity + .15 count_regularity, in [0, 1]; 0 where not scored. Rarity
        in the fleet is not in it: see `destination_rarity`.
    timer, symmetry, count_regularity : ndarray of float64
        As in `Periodicity`, of the view that scored best.
    size_regularity : ndarray of float64
        Share of contacts of the commonest size, or within 10 % + 8 bytes of the median size, whichever is larger.
    period_seconds : ndarray of float64
        Period that the intervals are multiples of; NaN where not scored.
    span_seconds : ndarray of float64
        From the first to the last contact that counted.
    n_observations : ndarray of int64
        Contacts behind the score.
    n_skipped : ndarray of int64
        Contacts left out: equal times and steps of the clock backwards.
    bursts_merged : ndarray of bool
        Whether the score is that of the view with bursts merged.
    is_scored : ndarray of bool
        Whether there were observations enough over a span long enough.
    periodicity : ndarray of float64
        `Periodicity.score`: timing alone, of the view that is best by it, whatever its span; 0 below
        `min_observations`.
    """

    regularity: Array
    timer: Array
    symmetry: Array
    size_regularity: Array
    count_regularity: Array
    period_seconds: Array
    span_seconds: Array
    n_observations: Whole
    n_skipped: Whole
    bursts_merged: Flags
    is_scored: Flags
    periodicity: Array

    def __len__(self) -> int:
        return self.regularity.size


def beacon_regularity(
    times_seconds: ArrayLike,
    sizes_bytes: ArrayLike,
    offsets: ArrayLike,
    options: BeaconOptions | None = None,
    *,
    reach: ArrayLike | None = None,
) -> BeaconScores:
    """Return how regularly each destination is contacted.

    Each destination is seen in two views, its contacts as they are and with every burst reduced to its first contact,
    and the better score counts. A contact whose time does not exceed that of the one before it (equal times, clock set
    back) is skipped and counted, and the sequence goes on from it.

    Parameters
    ----------
    times_seconds, sizes_bytes : array_like of shape (contacts,)
        Contacts of destination after destination, in the order of arrival. Times are taken to the millisecond, sizes
        to the byte; intervals of more than 49 days and sizes of more than 4 GiB count as so much.
    offsets : array_like of int, shape (n + 1,)
        Contacts of destination i are ``offsets[i]`` to ``offsets[i + 1]`` (exclusive).
    options : BeaconOptions, optional
        Settings.
    reach : array_like of float, optional
        Scores of interest: one number or one for each destination. Where a regularity cannot reach it even with a
        perfect timer, the phase is not looked at, and regularity, timer and periodicity are lower bounds.

    Returns
    -------
    BeaconScores
        One entry a destination.

    Raises
    ------
    EstimatorInputError
        Times or sizes are not finite, a size is negative, a time is beyond 285,000 years, or the offsets do not cut
        the contacts.

    Notes
    -----
    The sizes of a burst are not added up: the first contact is the beat, what follows it is what the beat found to do.
    Against simulated traffic of varied sizes, at one false alarm in a hundred, a beacon of one size on a fixed schedule
    with 50 % jitter and half of its beats missed is found from 20 contacts on (power 1.00). By timing alone, all sizes
    equal, it takes hundreds (.5 at 64, .85 at 256): intervals forget the schedule that event times keep. With 20 %
    jitter it is .9 at 64. ``tests/statistical/test_beacon_power.py`` measures it.

    A destination's scores do not depend on the others in the call. They are equal to those of `periodicity_score` on
    the same milliseconds, to rounding (``tests/properties/test_beacon_properties.py``).

    Examples
    --------
    >>> beats = 60.0 * np.arange(40)
    >>> scores = beacon_regularity(np.append(beats, [1.0, 2.0]), np.append(np.full(40, 310), [9, 9]), [0, 40, 42])
    >>> scores.regularity.tolist(), scores.period_seconds.tolist(), scores.n_observations.tolist()
    ([1.0, 0.0], [60.0, nan], [40, 2])
    """
    options = options or BeaconOptions()
    cuts = _as_offsets(offsets, np.size(times_seconds))
    if np.shape(sizes_bytes) != np.shape(times_seconds):
        raise EstimatorInputError("sizes_bytes", "must have as many entries as there are times")
    times, sizes = np.zeros(0), np.zeros(0)
    if cuts[-1]:
        times, sizes = as_finite("times_seconds", times_seconds, ndim=1), as_counts("sizes_bytes", sizes_bytes)
    if times.size and float(np.abs(times).max()) > LATEST_SECONDS:
        raise EstimatorInputError("times_seconds", f"must lie within {LATEST_SECONDS:g} s of the epoch")
    wanted = np.broadcast_to(np.asarray(-math.inf if reach is None else reach, np.float64), (cuts.size - 1,))
    contacts, skipped = accept_contacts(times, sizes, cuts, options.max_observations)
    return score_contacts(contacts, skipped, options, wanted)


def score_contacts(contacts: Contacts, skipped: Whole, options: BeaconOptions, reach: Array) -> BeaconScores:
    """Return the scores of contacts that were accepted already, at most `max_observations` a destination.

    What `beacon_regularity` does after it has turned times into intervals; an endpoint keeps intervals.
    """
    n = skipped.size
    scores = _nothing(np.diff(contacts.offsets), skipped)
    start = 0
    while start < n:
        limit = contacts.offsets[start] + BLOCK_CONTACTS
        stop = min(max(int(np.searchsorted(contacts.offsets, limit, side="right")) - 1, start + 1), n)
        rows = slice(int(contacts.offsets[start]), int(contacts.offsets[stop]))
        cut = contacts.offsets[start : stop + 1] - contacts.offsets[start]
        block = Contacts(contacts.gaps[rows], contacts.sizes[rows], cut)
        _score_block(block, start, options, reach[start:stop], scores)
        start = stop
    return scores


def destination_rarity(n_hosts_contacting: ArrayLike, n_hosts: ArrayLike) -> Array:
    """Return how rare a destination is in the fleet: 1 - (hosts that use it - 1)/(hosts - 1), in [0, 1].

    A destination that only the asking host uses has rarity 1, one that every host uses 0; in a fleet of one everything
    has rarity 1.

    Raises
    ------
    EstimatorInputError
        A count is negative or not finite.

    Examples
    --------
    >>> destination_rarity([1, 7, 13], 13).tolist(), destination_rarity(1, 1).tolist()
    ([1.0, 0.5, 0.0], 1.0)
    """
    using, fleet = as_counts("n_hosts_contacting", n_hosts_contacting), as_counts("n_hosts", n_hosts)
    others = np.maximum(using, 1.0) - 1.0
    rarity: Array = np.clip(1.0 - others / np.maximum(fleet - 1.0, 1.0), 0.0, 1.0)
    return np.where(fleet > 1.0, rarity, 1.0)


def _as_offsets(offsets: ArrayLike, n_contacts: int) -> Whole:
    """Return offsets as int64 after checking that they cut `n_contacts` contacts from the first to the last."""
    cuts = as_counts("offsets", offsets)
    if cuts.ndim != 1 or cuts[0] != 0 or cuts[-1] != n_contacts or (np.diff(cuts) < 0).any():
        raise EstimatorInputError("offsets", f"must rise from 0 to the number of contacts, {n_contacts}")
    if (cuts != np.floor(cuts)).any():
        raise EstimatorInputError("offsets", "must be whole numbers")
    return cuts.astype(np.int64)


def _nothing(observations: Whole, skipped: Whole) -> BeaconScores:
    """Return scores of destinations none of which was scored yet."""
    n = skipped.size
    zeros = [np.zeros(n) for _ in range(7)]
    return BeaconScores(
        regularity=zeros[0],
        timer=zeros[1],
        symmetry=zeros[2],
        size_regularity=zeros[3],
        count_regularity=zeros[4],
        period_seconds=np.full(n, math.nan),
        span_seconds=zeros[5],
        n_observations=observations.astype(np.int64),
        n_skipped=skipped,
        bursts_merged=np.zeros(n, dtype=np.bool_),
        is_scored=np.zeros(n, dtype=np.bool_),
        periodicity=zeros[6],
    )


def _score_block(contacts: Contacts, base: int, options: BeaconOptions, reach: Array, scores: BeaconScores) -> None:
    """Score destinations `base` onwards into `scores`."""
    _spans(contacts, base, scores)
    views = two_views(contacts, options.min_observations, round(options.burst_seconds * 1000.0))
    if not views.destination.size:
        return
    parts = view_parts(views)
    timer, period = parts.dispersion.copy(), parts.median_milliseconds.copy()
    perfect = _regularity(options, np.ones(timer.size), parts)[1]
    may_matter = (timer < 1.0) & (perfect >= reach[views.destination])
    if may_matter.any():
        rows, cuts = take_samples(parts.cuts, may_matter)
        found = interval_coherence(parts.intervals[rows], cuts, parts.median_milliseconds[may_matter])
        is_phased = found.coherence > timer[may_matter]
        period[may_matter] = np.where(is_phased, found.period, period[may_matter])
        timer[may_matter] = np.maximum(found.coherence, timer[may_matter])
    timing, regularity = _regularity(options, timer, parts)
    np.maximum.at(scores.periodicity, base + views.destination, timing)
    best = _better_views(views, regularity, parts.span_milliseconds >= 1000.0 * options.min_span_seconds)
    rows = base + views.destination[best]
    scores.regularity[rows], scores.timer[rows] = regularity[best], timer[best]
    scores.symmetry[rows], scores.count_regularity[rows] = parts.symmetry[best], parts.count_regularity[best]
    scores.size_regularity[rows] = parts.size_regularity[best]
    scores.period_seconds[rows] = period[best] / 1000.0
    scores.span_seconds[rows] = parts.span_milliseconds[best] / 1000.0
    scores.n_observations[rows] = np.diff(views.offsets)[best]
    scores.bursts_merged[rows], scores.is_scored[rows] = views.is_merged[best], True


def _regularity(options: BeaconOptions, timer: Array, parts: ViewParts) -> tuple[Array, Array]:
    """Return the score of timing alone and of timing and size together, for these timers; both rise with them."""
    timing = options.weight_timer * timer + options.weight_symmetry * parts.symmetry
    timing += options.weight_counts * parts.count_regularity
    of_timing = options.weight_timer + options.weight_symmetry + options.weight_counts
    regularity = timing + options.weight_size * parts.size_regularity
    return np.minimum(timing / of_timing, 1.0) if of_timing > 0.0 else timing, np.minimum(regularity, 1.0)


def _spans(contacts: Contacts, base: int, scores: BeaconScores) -> None:
    """Note every destination's span, scored or not."""
    total = np.concatenate([[0], np.cumsum(contacts.gaps)])
    counts = np.diff(contacts.offsets)
    held = np.flatnonzero(counts)
    first, last = contacts.offsets[held], contacts.offsets[held + 1]
    scores.span_seconds[base + held] = (total[last] - total[first + 1]) / 1000.0


def _better_views(views: Views, regularity: Array, is_long: Flags) -> NDArray[np.intp]:
    """Return the best view of each destination among the long enough ones; of equals the one without merging."""
    candidates = np.flatnonzero(is_long)
    order = candidates[
        np.lexsort((views.is_merged[candidates], -regularity[candidates], views.destination[candidates]))
    ]
    is_best = np.ones(order.size, dtype=np.bool_)
    is_best[1:] = views.destination[order[1:]] != views.destination[order[:-1]]
    return order[is_best]
