"""Geometric median: the robust location that stays where its points are, on the simplex for distributions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eguard.estimators.validation import as_finite

Array = NDArray[np.float64]

# Steps shrink geometrically away from the points; at a point the optimality test ends the search.
MAX_STEPS = 10_000
STEP_TOLERANCE = 1e-12
# Within this of a point (in units of the sample's spread) the iteration asks whether the point is the answer.
NEAR_A_POINT = 1e-3


def geometric_median(x: ArrayLike) -> Array:
    """Return the point with the smallest sum of Euclidean distances to the rows of `x`.

    Weiszfeld's iteration with the step of Vardi and Zhang, which is defined where the iterate falls on a row. Each
    iterate is a convex combination of rows, so that distributions give a distribution: nothing has to be normalised.

    Parameters
    ----------
    x : array_like of shape (n_agents, d)
        One row an agent, finite.

    Returns
    -------
    ndarray of shape (d,)
        Unique unless the rows lie on one line and are even in number; then any point between the middle two.

    Raises
    ------
    EstimatorInputError
        `x` is empty, not finite or not two-dimensional.

    Notes
    -----
    Breakdown point floor((K + 1) / 2) / K; invariant under rotation, which coordinate medians are not. A step costs
    O(K d). Convergence is linear with a rate that depends on the rows: tens of steps for a typical cohort.

    References
    ----------
    Y. Vardi and C.-H. Zhang, "The multivariate L1-median and associated data depth", PNAS 97, 2000.
    K. Pillutla, S. Kakade and Z. Harchaoui, "Robust aggregation for federated learning", IEEE Transactions on Signal
    Processing 70, 2022.

    Examples
    --------
    >>> geometric_median([[1, 0, 0], [0, 1, 0], [0, 0, 1]]).round(9).tolist()
    [0.333333333, 0.333333333, 0.333333333]
    >>> geometric_median([[0.5, 0.5], [0.5, 0.5], [0.0, 1.0]]).tolist()
    [0.5, 0.5]
    """
    points = as_finite("x", x, ndim=2)
    center: Array = np.median(points, axis=0)
    offsets = points - center
    spread = float(np.median(np.linalg.norm(offsets, axis=1)))
    if spread == 0.0:
        # At least half of the rows coincide: no other point can be nearer to all.
        return center
    offsets /= spread
    # The hull of the rows holds the answer; rounding may not.
    median: Array = np.clip(center + spread * _weiszfeld(offsets), points.min(axis=0), points.max(axis=0))
    return median


def _weiszfeld(points: Array) -> Array:
    """Return the geometric median of points centred on 0 with spread 1."""
    location: Array = points.mean(axis=0)
    for _ in range(MAX_STEPS):
        distances = np.linalg.norm(points - location, axis=1)
        nearest = int(distances.argmin())
        if distances[nearest] < NEAR_A_POINT and _is_optimal(points, points[nearest]):
            vertex: Array = points[nearest].copy()
            return vertex
        moved = _vardi_zhang_step(points, location, distances)
        change = float(np.abs(moved - location).max())
        location = moved
        if change <= STEP_TOLERANCE:
            break
    return location


def _vardi_zhang_step(points: Array, location: Array, distances: Array) -> Array:
    apart = distances > 0.0
    weights = 1.0 / distances[apart]
    target: Array = weights @ points[apart] / weights.sum()
    coincident = points.shape[0] - int(np.count_nonzero(apart))
    if coincident == 0:
        return target
    pull = float(np.linalg.norm(weights @ (points[apart] - location)))
    stay = min(1.0, coincident / pull) if pull > 0.0 else 1.0
    step: Array = (1.0 - stay) * target + stay * location
    return step


def _is_optimal(points: Array, vertex: Array) -> bool:
    """Whether the pull of all other points on `vertex` is at most the number of points that sit on it."""
    differences = points - vertex
    distances = np.linalg.norm(differences, axis=1)
    apart = distances > 0.0
    pull = np.linalg.norm((differences[apart] / distances[apart, None]).sum(axis=0))
    return bool(pull <= points.shape[0] - np.count_nonzero(apart))
