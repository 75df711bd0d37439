"""Split conformal prediction on nonconformity scores: ranks, thresholds and p-values.

The scores of n benign events calibrate; the threshold is one of those scores, picked by rank. If the next benign score
is exchangeable with them, it exceeds the threshold with probability at most alpha, whatever the model and the
distribution. Ranks are computed in exact fractions: an off-by-one here is a broken guarantee.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc

from eguard.errors import EstimatorInputError
from eguard.estimators.validation import as_finite, in_open_interval

Guarantee = Literal["marginal", "pac"]
GUARANTEES: Final = ("marginal", "pac")
Status = Literal["calibrated", "insufficient_calibration"]

#: How surely the false-positive rate stays below alpha under ``guarantee="pac"``.
PAC_CONFIDENCE: Final = 0.95


def _exact_alpha(alpha: float | Fraction) -> Fraction:
    in_open_interval("alpha", float(alpha), 0.0, 0.5)
    # The shortest decimal that gives this float is what the caller wrote: 0.07 means 7/100, not the nearest binary.
    return alpha if isinstance(alpha, Fraction) else Fraction(repr(float(alpha)))


def conformal_rank(n: int, alpha: float | Fraction) -> int | None:
    """Return the rank k = ceil((1 - alpha)(n + 1)) of the threshold among `n` scores, smallest first.

    Parameters
    ----------
    n : int
        Calibration scores, at least 1.
    alpha : float or Fraction
        Miscoverage in (0, 0.5): the false-positive rate that is promised.

    Returns
    -------
    int or None
        None when k > n: so few scores support no finite threshold at this alpha.

    Raises
    ------
    EstimatorInputError
        An argument is out of range.

    Examples
    --------
    >>> conformal_rank(99, 0.01), conformal_rank(1000, 0.01), conformal_rank(98, 0.01)
    (99, 991, None)
    """
    if n < 1:
        raise EstimatorInputError("n", f"must be at least 1, got {n!r}")
    rank = math.ceil((1 - _exact_alpha(alpha)) * (int(n) + 1))
    return rank if rank <= n else None


def pac_rank(n: int, alpha: float | Fraction, confidence: float = PAC_CONFIDENCE) -> int | None:
    """Return the smallest rank whose false-positive rate is at most `alpha` for a share `confidence` of calibrations.

    Given one calibration set of continuous scores, the false-positive rate of rank k is Beta(n + 1 - k, k). The
    marginal rank holds its mean at alpha; this one holds its upper quantile there.

    Parameters
    ----------
    n, alpha
        As for :func:`conformal_rank`.
    confidence : float
        In (0, 1).

    Returns
    -------
    int or None
        None when even the largest score does not do.

    Raises
    ------
    EstimatorInputError
        An argument is out of range.

    Examples
    --------
    >>> pac_rank(299, 0.01), pac_rank(1000, 0.01), pac_rank(298, 0.01)
    (299, 996, None)
    """
    if n < 1:
        raise EstimatorInputError("n", f"must be at least 1, got {n!r}")
    level = float(_exact_alpha(alpha))
    in_open_interval("confidence", confidence, 0.0, 1.0)
    low, high = 1, int(n)
    if betainc(1.0, high, level) < confidence:
        return None
    while low < high:  # the confidence grows with the rank
        middle = (low + high) // 2
        if betainc(n + 1.0 - middle, middle, level) >= confidence:
            high = middle
        else:
            low = middle + 1
    return low


@dataclass(frozen=True, slots=True)
class ConformalThreshold:
    """A calibrated threshold and what it promises.

    Parameters
    ----------
    threshold : float
        Scores above it are flagged; infinity flags nothing.
    status : {"calibrated", "insufficient_calibration"}
        The second goes with an infinite threshold.
    rank : int or None
        Rank of the threshold among the calibration scores, smallest first.
    n : int
        Calibration scores.
    alpha : float
        Promised false-positive rate.
    guarantee : {"marginal", "pac"}
        Whether it holds on average over calibrations or for 95 % of them.
    """

    threshold: float
    status: Status
    rank: int | None
    n: int
    alpha: float
    guarantee: Guarantee

    def flags(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Return which of `scores` exceed the threshold, same shape."""
        flagged: NDArray[np.bool_] = as_finite("scores", scores) > self.threshold
        return flagged


def conformal_threshold(
    scores: ArrayLike, alpha: float | Fraction, guarantee: Guarantee = "marginal"
) -> ConformalThreshold:
    """Return the threshold above which a score is flagged at false-positive rate `alpha`.

    Parameters
    ----------
    scores : array_like of float, shape (n,)
        Nonconformity scores of benign calibration events; larger is stranger.
    alpha : float or Fraction
        In (0, 0.5).
    guarantee : {"marginal", "pac"}
        ``"marginal"``: the rate is at most alpha on average over calibration sets (given one set it is
        Beta(n + 1 - k, k); at n = 1,000 and alpha 0.01 one set in twenty exceeds 0.0157). ``"pac"``: at most alpha for
        95 % of calibration sets.

    Returns
    -------
    ConformalThreshold
        Infinite with status ``insufficient_calibration`` when n is too small for alpha (99 and 299 at 0.01).

    Raises
    ------
    EstimatorInputError
        `scores` is empty or not finite, or another argument is out of range.

    Notes
    -----
    Never ``numpy.quantile``: interpolation between scores has no guarantee. Ties with the threshold are not flagged,
    which keeps the rate below alpha.

    References
    ----------
    V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, 2nd ed., Springer 2022, chapters 2-4.
    A. Angelopoulos, S. Bates, A gentle introduction to conformal prediction, 2021, section 1 and appendix C.

    Examples
    --------
    >>> conformal_threshold(range(99), 0.01).threshold
    98.0
    >>> conformal_threshold(range(98), 0.01).status
    'insufficient_calibration'
    """
    if guarantee not in GUARANTEES:
        raise EstimatorInputError("guarantee", f"must be one of {', '.join(GUARANTEES)}, got {guarantee!r}")
    values = as_finite("scores", scores, ndim=1)
    rank = conformal_rank(values.size, alpha) if guarantee == "marginal" else pac_rank(values.size, alpha)
    return ConformalThreshold(
        threshold=math.inf if rank is None else float(np.partition(values, rank - 1)[rank - 1]),
        status="insufficient_calibration" if rank is None else "calibrated",
        rank=rank,
        n=values.size,
        alpha=float(alpha),
        guarantee=guarantee,
    )


@dataclass(frozen=True, slots=True)
class MondrianThresholds:
    """Thresholds for each category where it has scores enough, and the pooled one for the rest."""

    pooled: ConformalThreshold
    by_category: dict[Hashable, ConformalThreshold]

    def of(self, category: Hashable) -> ConformalThreshold:
        """Return the category's own threshold when it is calibrated, else the pooled one."""
        own = self.by_category.get(category)
        return own if own is not None and own.status == "calibrated" else self.pooled


def mondrian_thresholds(
    scores: ArrayLike, categories: Iterable[Hashable], alpha: float | Fraction, guarantee: Guarantee = "marginal"
) -> MondrianThresholds:
    """Return one threshold for each category of events (Mondrian conformal prediction) and the pooled one.

    A category with its own threshold has its own guarantee; one that falls back on the pool shares the pool's, which
    holds on average over categories and not for each.

    Parameters
    ----------
    scores : array_like of float, shape (n,)
        Nonconformity scores of benign calibration events.
    categories : iterable of hashable, length n
        For instance the event class of each.
    alpha, guarantee
        As for :func:`conformal_threshold`.

    Returns
    -------
    MondrianThresholds
        Categories in the order of their first score.

    Raises
    ------
    EstimatorInputError
        As :func:`conformal_threshold`; or the lengths differ.

    Examples
    --------
    >>> thresholds = mondrian_thresholds(range(108), ["exec"] * 99 + ["login"] * 9, 0.01)
    >>> thresholds.of("exec").threshold, thresholds.of("login").threshold
    (98.0, 107.0)
    """
    values = as_finite("scores", scores, ndim=1)
    members: dict[Hashable, list[int]] = {}
    total = 0
    for position, category in enumerate(categories):
        members.setdefault(category, []).append(position)
        total += 1
    if total != values.size:
        raise EstimatorInputError("categories", f"must have one entry a score, got {total} for {values.size}")
    return MondrianThresholds(
        pooled=conformal_threshold(values, alpha, guarantee),
        by_category={
            category: conformal_threshold(values[positions], alpha, guarantee)
            for category, positions in members.items()
        },
    )


def conformal_p_values(
    calibration: ArrayLike, scores: ArrayLike, rng: np.random.Generator | None = None
) -> NDArray[np.float64]:
    """Return how ordinary each score is among the calibration scores, as a p-value.

    Parameters
    ----------
    calibration : array_like of float, shape (n,)
        Nonconformity scores of benign events.
    scores : array_like of float, any shape
        Scores to judge.
    rng : numpy.random.Generator, optional
        Breaks ties at random when given (smoothed p-values); without it ties count in full.

    Returns
    -------
    ndarray of float64, shape of `scores`
        In [1/(n + 1), 1], or [0, 1] when smoothed.

    Raises
    ------
    EstimatorInputError
        An array is empty or not finite.

    Notes
    -----
    Plain: (#{c >= s} + 1)/(n + 1), never too small. Smoothed: (#{c > s} + U (#{c = s} + 1))/(n + 1), exactly uniform.
    Either holds for one score at a time; p-values against the same calibration set are **not independent**, so a test
    of their joint uniformity fires almost surely under the null. See `two_sample` and `martingale` for what holds.
    Cost: O((n + m) log n).

    Examples
    --------
    >>> calibration = [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.9, 1.0]
    >>> conformal_p_values(calibration, [0.5, 0.05, 2.0, 0.9]).tolist()
    [0.6, 1.0, 0.1, 0.3]
    """
    ordered = np.sort(as_finite("calibration", calibration, ndim=1))
    values = as_finite("scores", scores)
    at_least = ordered.size - np.searchsorted(ordered, values, side="left")
    if rng is None:
        return np.asarray((at_least + 1.0) / (ordered.size + 1.0), dtype=np.float64)
    above = ordered.size - np.searchsorted(ordered, values, side="right")
    tie_break = np.asarray(rng.random(values.shape))
    return np.asarray((above + tie_break * (at_least - above + 1.0)) / (ordered.size + 1.0), dtype=np.float64)
