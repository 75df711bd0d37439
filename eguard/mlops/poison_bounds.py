"""How far liars can move an aggregate at most, whatever they vote: the bounds beside which attacks are plotted.

Mean, trimmed mean and median grow with every vote in every coordinate. So the estimate of a coordinate lies between
its value with all liars at 0 and with all liars at 1, and the total variation of anything inside that box, divided by
its sum, is largest at a corner: 2^d corners for d classes, 256 on the wire. The bounds hold for every attack and are
reached by few, because a liar's coordinates have to sum to 1.
"""

from __future__ import annotations

from functools import cache
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from eguard.errors import ConfigError
from eguard.estimators import aggregate_distributions, trimmed_mean

Floats = NDArray[np.float64]
Aggregator = Literal["mean", "trimmed_mean", "trimmed_median", "geometric_median"]

#: What votes are aggregated by: the plain mean for comparison, then the fleet's estimators.
AGGREGATORS: Final[tuple[Aggregator, ...]] = get_args(Aggregator)
#: Share trimmed at each end by the fleet's rule.
TRIM_ALPHA: Final = 0.05


def aggregator_named(name: str) -> Aggregator:
    """Return the aggregator of that name.

    Raises
    ------
    ConfigError
        There is none; the remedy lists those there are.
    """
    for aggregator in AGGREGATORS:
        if aggregator == name:
            return aggregator
    raise ConfigError(
        f"there is no aggregator {name!r}", remedy=f"Choose one of: {', '.join(AGGREGATORS)}.", parameter="aggregator"
    )


def max_liars(n_agents: int, share: float) -> int:
    """Return the liars among `n_agents` at a share, rounded, and never half of them.

    Examples
    --------
    >>> max_liars(200, 0.2), max_liars(20, 0.49), max_liars(3, 0.49)
    (40, 9, 1)
    """
    return min(round(share * n_agents), (n_agents - 1) // 2)


def clean_aggregate(honest: Floats, aggregator: Aggregator) -> Floats | None:
    """Return what honest votes of shape (k, d) agree on; None where they agree on too little to publish."""
    if aggregator == "mean":
        mean: Floats = honest.mean(axis=0)
        return mean
    return aggregate_distributions(honest, alpha=TRIM_ALPHA, method=aggregator).distribution


def shift_bound(honest: Floats, n_liars: int, aggregator: Aggregator, clean: Floats | None = None) -> float:
    """Return the largest total variation that `n_liars` additional votes can cause.

    Parameters
    ----------
    honest : ndarray of shape (k, d)
        The honest votes.
    n_liars : int
        Fewer than k.
    aggregator : {"mean", "trimmed_mean", "trimmed_median", "geometric_median"}
        What aggregates them.
    clean : ndarray of shape (d,), optional
        Their aggregate, where the caller has it already.

    Returns
    -------
    float
        In [0, 1]. 1, which is no bound at all, where the honest votes alone are not published.

    Notes
    -----
    Mean: f*(1 - min_j mean_j) with f the share of liars; the one-hot vote on the rarest class reaches it. Median and
    trimmed mean: the box described above. Geometric median: with z the clean one and l < k liars, every vote satisfies
    the triangle inequality, so ||z* - z|| <= 2*sum_i ||x_i - z|| / (k - l) over the honest x_i; total variation is at
    most sqrt(d)/2 times that.

    References
    ----------
    H. P. Lopuhaa and P. J. Rousseeuw, "Breakdown points of affine equivariant estimators of multivariate location and
    covariance matrices", Annals of Statistics 19, 1991.

    Examples
    --------
    >>> votes = np.array([[0.7, 0.3], [0.8, 0.2], [0.6, 0.4], [0.7, 0.3]])
    >>> round(shift_bound(votes, 1, "mean"), 3), round(shift_bound(votes, 1, "trimmed_median"), 3)
    (0.14, 0.0)
    """
    if n_liars == 0:
        return 0.0
    center = clean_aggregate(honest, aggregator) if clean is None else clean
    if center is None or not np.isfinite(center).all():
        return 1.0
    if aggregator == "mean":
        return float(n_liars / (len(honest) + n_liars) * (1.0 - center.min()))
    if aggregator == "geometric_median":
        reach = 2.0 * np.linalg.norm(honest - center, axis=1).sum() / (len(honest) - n_liars)
        return float(min(1.0, 0.5 * np.sqrt(honest.shape[1]) * reach))
    low, high = (_estimate_with(honest, n_liars, value, aggregator) for value in (0.0, 1.0))
    return _largest_shift(center, low, high)


def order_statistics_reached(honest: Floats, n_liars: int) -> tuple[Floats, Floats]:
    """Return the smallest and largest median, before dividing by the sum, that liars can cause in each class."""
    return _estimate_with(honest, n_liars, 0.0, "trimmed_median"), _estimate_with(
        honest, n_liars, 1.0, "trimmed_median"
    )


def _estimate_with(honest: Floats, n_liars: int, value: float, aggregator: Aggregator) -> Floats:
    """Return the coordinate-wise estimate with all liars at one value in every class."""
    votes = np.vstack([honest, np.full((n_liars, honest.shape[1]), value)])
    estimate: Floats = (
        np.median(votes, axis=0) if aggregator == "trimmed_median" else trimmed_mean(votes, alpha=TRIM_ALPHA)
    )
    return estimate


def _largest_shift(clean: Floats, low: Floats, high: Floats) -> float:
    """Return the largest total variation between `clean` and any point of the box divided by its sum."""
    # Total variation is the largest gain q(A) - c(A) of a set of classes; q(A) is largest with A high, the rest low.
    corners = _subsets(len(clean))
    inside, outside = corners @ high, (1.0 - corners) @ low
    total = inside + outside
    gain = np.divide(inside, total, out=np.zeros_like(total), where=total > 0.0) - corners @ clean
    return float(np.clip(gain.max(), 0.0, 1.0))


@cache
def _subsets(d: int) -> Floats:
    """Return the indicator vectors of all sets of classes, shape (2^d, d)."""
    return ((np.arange(2**d)[:, None] >> np.arange(d)) & 1).astype(np.float64)
