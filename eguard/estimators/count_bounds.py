"""Up to where a count is chance: bounds that a Poisson or binomial count seldom exceeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from scipy.special import bdtr, bdtrik, pdtr, pdtrik

from eguard.errors import EstimatorInputError

#: Probability with which a count stays at or below its bound, unless a caller says otherwise.
PROBABILITY: Final = 0.999


def poisson_bound(mean: float, probability: float = PROBABILITY) -> int:
    """Return the smallest k for which a Poisson count is at most k with at least `probability`.

    Parameters
    ----------
    mean : float
        Expected count, not negative.
    probability : float
        In (0, 1).

    Raises
    ------
    EstimatorInputError
        An argument is out of range.

    Examples
    --------
    >>> poisson_bound(0.0), poisson_bound(1.0), poisson_bound(10.0)
    (0, 5, 21)
    """
    _check_probability(probability)
    if not (math.isfinite(mean) and mean >= 0.0):
        raise EstimatorInputError("mean", f"must be a finite number of at least 0, got {mean}")
    if mean == 0.0:
        return 0
    return _smallest(float(pdtrik(probability, mean)), lambda k: float(pdtr(k, mean)), probability)


def binomial_bound(trials: int, share: float, probability: float = PROBABILITY) -> int:
    """Return the smallest k for which a binomial count is at most k with at least `probability`.

    Parameters
    ----------
    trials : int
        How often it was tried, not negative.
    share : float
        Chance of each trial, in [0, 1].
    probability : float
        In (0, 1).

    Raises
    ------
    EstimatorInputError
        An argument is out of range.

    Examples
    --------
    >>> binomial_bound(0, 0.5), binomial_bound(100, 0.01), binomial_bound(10, 1.0)
    (0, 5, 10)
    """
    _check_probability(probability)
    if trials < 0:
        raise EstimatorInputError("trials", f"must be at least 0, got {trials}")
    if not 0.0 <= share <= 1.0:
        raise EstimatorInputError("share", f"must lie in [0, 1], got {share}")
    if trials == 0 or share == 0.0:
        return 0
    if share == 1.0:
        return trials
    start = float(bdtrik(probability, trials, share))
    return min(trials, _smallest(start, lambda k: float(bdtr(k, trials, share)), probability))


def _smallest(start: float, cumulative: Callable[[int], float], probability: float) -> int:
    """Return the quantile from a start that may be a rounding away from it."""
    bound = max(math.ceil(start) if math.isfinite(start) else 0, 0)
    while bound > 0 and cumulative(bound - 1) >= probability:
        bound -= 1
    while cumulative(bound) < probability:
        bound += 1
    return bound


def _check_probability(probability: float) -> None:
    if not 0.0 < probability < 1.0:
        raise EstimatorInputError("probability", f"must lie in (0, 1), got {probability}")
