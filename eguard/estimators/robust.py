"""Robust location, coordinate by coordinate: trimmed median, trimmed mean and Huber's M-estimator."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eguard.errors import EstimatorInputError
from eguard.estimators.order_statistics import (
    lower_bound,
    partition_median,
    reduce_columns,
    sorted_median,
    sorted_median_absolute_deviation,
    sorted_trimmed_mean,
    trim_count,
)
from eguard.estimators.validation import as_finite, in_open_interval

Array = NDArray[np.float64]

# 1 / Phi^-1(3/4): the MAD of a Gaussian times this is its standard deviation.
MAD_TO_SIGMA = 1.482602218505602
# 95 % efficient at the Gaussian with known scale (exactly 1.344998).
HUBER_K = 1.345
# Newton's steps are exact once the set of clipped values stands still; this many bound the rest.
MAX_NEWTON_STEPS = 60
NEWTON_TOLERANCE = 1e-12


class RobustSummary(NamedTuple):
    """Location and scale of every column, read from one sort; arrays of the input's shape without the axis."""

    median: Array
    trimmed_mean: Array
    scale: Array
    huber: Array


def trimmed_median(x: ArrayLike, alpha: float = 0.05, axis: int = 0) -> Array:
    """Return the alpha-trimmed median of `x` along `axis`.

    Symmetric trimming drops as many values below the median as above it and therefore never changes it: `alpha` is
    checked and has no effect on the result. It is an argument because the fleet's contract names it.

    Parameters
    ----------
    x : array_like
        Finite numbers; agents along `axis`.
    alpha : float, optional
        Share trimmed at each end, in the open interval (0, 0.5).
    axis : int, optional
        The axis of agents.

    Returns
    -------
    ndarray
        Shape of `x` without `axis`; a NumPy scalar for one-dimensional `x`.

    Raises
    ------
    EstimatorInputError
        `x` is empty or not finite, `alpha` outside (0, 0.5), `axis` out of range.

    Notes
    -----
    The breakdown point is the median's, floor((K - 1) / 2) / K for K agents, and not `alpha` as the operations manual
    has it; `alpha` is (about) the breakdown point of :func:`trimmed_mean`. O(K) a column.

    References
    ----------
    D. L. Donoho and P. J. Huber, "The notion of breakdown point", A Festschrift for Erich L. Lehmann, 1983.

    Examples
    --------
    >>> votes = [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.65, 0.25, 0.1], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]]
    >>> trimmed_median(votes).tolist()
    [0.6, 0.2, 0.1]
    """
    values = _as_columns(x, axis)
    in_open_interval("alpha", alpha, 0.0, 0.5)
    (median,) = reduce_columns(values, axis, lambda rows: (partition_median(rows),), 1)
    return median


def trimmed_mean(x: ArrayLike, alpha: float = 0.05, axis: int = 0) -> Array:
    """Return the mean of `x` along `axis` without the floor(alpha*K) smallest and largest values.

    Parameters
    ----------
    x : array_like
        Finite numbers; K agents along `axis`.
    alpha : float, optional
        Share trimmed at each end, in the open interval (0, 0.5).
    axis : int, optional
        The axis of agents.

    Returns
    -------
    ndarray
        Shape of `x` without `axis`; a NumPy scalar for one-dimensional `x`.

    Raises
    ------
    EstimatorInputError
        `x` is empty or not finite, `alpha` outside (0, 0.5), `axis` out of range.

    Notes
    -----
    Breakdown point floor(alpha*K)/K: one liar more than are trimmed at an end moves it without bound. With the
    default `alpha` fewer than 20 agents trim nobody.

    Examples
    --------
    >>> float(trimmed_mean([1.0, 2.0, 3.0, 4.0, 1000.0], alpha=0.2))
    3.0
    """
    values = _as_columns(x, axis)
    trim = trim_count(values.shape[axis], in_open_interval("alpha", alpha, 0.0, 0.5))

    def kernel(rows: Array) -> tuple[Array]:
        rows.sort(axis=-1)
        return (sorted_trimmed_mean(rows, trim),)

    (mean,) = reduce_columns(values, axis, kernel, 1)
    return mean


def huber_location(
    x: ArrayLike, k: float = HUBER_K, axis: int = 0, scale: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Return Huber's M-estimate of location along `axis`, and the scale it used.

    Residuals are divided by the robust scale 1.4826*MAD, held fixed, before they are compared with `k`. Without a
    scale the estimator would not be equivariant: k = 1.345 on bytes that spread by 1500 is simply the median.

    Parameters
    ----------
    x : array_like
        Finite numbers.
    k : float, optional
        Tuning constant in units of the scale, positive.
    axis : int, optional
        The axis to reduce.
    scale : array_like, optional
        Known scale, not negative: one number, or the shape of `x` without `axis`.

    Returns
    -------
    location : ndarray
        Shape of `x` without `axis`; NumPy scalars for one-dimensional `x`.
    scale : ndarray
        The scale used, same shape. Where it is 0 (at least half of the values are equal) the location is the median.

    Raises
    ------
    EstimatorInputError
        `x` is empty or not finite, `k` not positive, `axis` out of range, `scale` negative or of the wrong shape.

    Notes
    -----
    The estimate is the root of sum(clip((x - theta)/s, -k, k)) = 0, the fixed point of the usual reweighting with
    min(1, k/abs(u)), to 1e-12 of the scale. A row is sorted once; Newton's step on that piecewise linear, falling
    function needs two bisections and the sum between them. Values are centred on the median first, and since the root
    lies within k*s of it, only values within two k*s are ever summed: no digit is lost to a level of 1e6 or to an
    outlier of 1e15. Breakdown point of the median; efficiency .95 at the Gaussian with known scale.

    References
    ----------
    P. J. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics, 1964.

    Examples
    --------
    >>> location, scale = huber_location([1, 2, 3, 4, 5, 6, 7, 8, 9, 1000])
    >>> round(float(location), 8), round(float(scale), 8)
    (5.55391666, 3.70650555)
    """
    values = _as_columns(x, axis)
    tuning = in_open_interval("k", k, 0.0, np.inf)
    if scale is not None:
        return _huber_with_scale(values, tuning, axis, scale)

    def kernel(rows: Array) -> tuple[Array, Array]:
        rows.sort(axis=-1)
        median = sorted_median(rows)
        spread = MAD_TO_SIGMA * sorted_median_absolute_deviation(rows, median)
        return _huber_of_sorted(rows, median, spread, tuning), spread

    location, used = reduce_columns(values, axis, kernel, 2)
    return location, used


def robust_summary(
    x: ArrayLike, alpha: float = 0.05, k: float = HUBER_K, axis: int = 0, threads: int = 1
) -> RobustSummary:
    """Return median, trimmed mean, scale (1.4826*MAD) and Huber location of every column from a single sort.

    Parameters
    ----------
    x : array_like
        Finite numbers; agents along `axis`.
    alpha : float, optional
        Share trimmed at each end for the trimmed mean, in the open interval (0, 0.5).
    k : float, optional
        Huber's tuning constant in units of the scale, positive.
    axis : int, optional
        The axis of agents.
    threads : int, optional
        Threads to spread the columns over; the result does not depend on it.

    Returns
    -------
    RobustSummary
        What :func:`trimmed_median`, :func:`trimmed_mean` and :func:`huber_location` return one by one.

    Raises
    ------
    EstimatorInputError
        As those functions.

    Examples
    --------
    >>> summary = robust_summary([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 4000.0]])
    >>> summary.median.tolist(), summary.scale.round(6).tolist()
    ([2.5, 25.0], [1.482602, 14.826022])
    """
    values = _as_columns(x, axis)
    trim = trim_count(values.shape[axis], in_open_interval("alpha", alpha, 0.0, 0.5))
    tuning = in_open_interval("k", k, 0.0, np.inf)

    def kernel(rows: Array) -> tuple[Array, Array, Array, Array]:
        rows.sort(axis=-1)
        median = sorted_median(rows)
        mean = sorted_trimmed_mean(rows, trim)
        scale = MAD_TO_SIGMA * sorted_median_absolute_deviation(rows, median)
        return median, mean, scale, _huber_of_sorted(rows, median, scale, tuning)

    return RobustSummary(*reduce_columns(values, axis, kernel, 4, threads))


def _as_columns(x: ArrayLike, axis: int) -> Array:
    values = as_finite("x", x)
    if not -values.ndim <= axis < values.ndim:
        raise EstimatorInputError("axis", f"{axis} is out of range for an array of shape {values.shape}", axis=axis)
    return values


def _huber_with_scale(values: Array, k: float, axis: int, scale: ArrayLike) -> tuple[Array, Array]:
    """Huber's location where the caller knows the scale: work in units of it, where every scale is 1."""
    given = as_finite("scale", scale)
    shape = np.delete(values.shape, axis)
    if given.min() < 0.0:
        raise EstimatorInputError("scale", f"must not be negative, smallest is {float(given.min())!r}")
    if given.ndim and given.shape != tuple(shape):
        raise EstimatorInputError("scale", f"must be a number or have shape {tuple(shape)}, got {given.shape}")
    used = np.broadcast_to(given, tuple(shape)).copy()
    # A constant row behind the values carries the scale of a column through the blocks.
    carried = np.concatenate([np.moveaxis(values, axis, 0), used[None]])

    def kernel(rows: Array) -> tuple[Array]:
        spread = rows[:, -1].copy()
        ordered = np.sort(rows[:, :-1], axis=-1)
        return (_huber_of_sorted(ordered, sorted_median(ordered), spread, k),)

    (location,) = reduce_columns(carried, 0, kernel, 1)
    return location, used[()]


def _huber_of_sorted(rows: Array, median: Array, scale: Array, k: float) -> Array:
    """Return Huber's location of sorted rows of shape (m, n); centres them in place."""
    # A difference that overflows is an infinite residual: it counts as far away, whatever its size.
    with np.errstate(over="ignore"):
        rows -= median[:, None]
        # Beyond the range of the row a larger reach makes no difference.
        reach = np.minimum(k * scale, rows[:, -1] - rows[:, 0])
    location: Array = median + _huber_root(rows, reach, NEWTON_TOLERANCE * scale)
    return location


def _huber_root(u: Array, reach: Array, tolerance: Array) -> Array:
    """Return the root in [-reach, reach] of sum(clip(u - theta, -reach, reach)) for sorted rows u of shape (m, n).

    Newton's step leaves the bracket for rows with a gap around the iterate; halving the bracket then is what makes
    the loop's end certain rather than usual.
    """
    m, n = u.shape
    theta = np.zeros(m)
    low, high = -reach, reach.copy()
    rows = np.flatnonzero(reach > 0.0)
    for _ in range(MAX_NEWTON_STEPS):
        if rows.size == 0:
            break
        at, bound = theta[rows], reach[rows]
        start, stop = lower_bound(u, np.stack([at - bound, at + bound]), rows)
        inside = stop - start
        total = _segment_sums(u.reshape(-1), rows * n + start, rows * n + stop)
        total += bound * (n - stop - start) - inside * at
        low[rows] = np.where(total >= 0.0, at, low[rows])
        high[rows] = np.where(total <= 0.0, at, high[rows])
        proposal = at + total / np.maximum(inside, 1)
        astray = (proposal < low[rows]) | (proposal > high[rows]) | ((inside == 0) & (total != 0.0))
        theta[rows] = np.where(astray, 0.5 * (low[rows] + high[rows]), proposal)
        rows = rows[np.abs(theta[rows] - at) > tolerance[rows]]
    return theta


def _segment_sums(flat: Array, starts: NDArray[np.intp], stops: NDArray[np.intp]) -> Array:
    """Return the sum of ``flat[start:stop]`` for every pair, pairs ascending; pairwise, as exact as ``numpy.sum``."""
    edges = np.stack([starts, stops], axis=1).reshape(-1)
    # An edge at the very end is implied.
    edges = edges[: np.searchsorted(edges, flat.size)]
    sums = np.zeros(2 * starts.size)
    # What lies between two segments is summed as well and dropped; outliers there may overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        sums[: edges.size] = np.add.reduceat(flat, edges)
    segments: Array = np.where(stops > starts, sums[::2], 0.0)
    return segments
