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
# Every so many steps Newton is asked too: where two camps nearly balance, Weiszfeld alone takes thousands.
NEWTON_EVERY = 8
# Curvature added to all directions, relative to the sum of weights: keeps points on a line from dividing by zero.
RIDGE = 1e-9


def geometric_median(x: ArrayLike) -> Array:
    """Return the point with the smallest sum of Euclidean distances to the rows of `x`.

    Weiszfeld's iteration with the step of Vardi and Zhang, which is defined where the iterate falls on a row. Each
    iterate is a convex combination of rows, so that distributions give a distribution: nothing has to be normalised.
    Every few steps Newton's is taken instead if it costs less; it keeps the sum of coordinates too.

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
    O(K d). Weiszfeld converges linearly with a rate that depends on the rows: tens of steps for a typical cohort, and
    thousands where two camps nearly balance, which Newton's steps cut to hundreds.

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
    median: Array = geometric_medians(points[None])[0]
    return median


def geometric_medians(x: ArrayLike) -> Array:
    """Return the geometric median of many samples of one size, sample for sample equal to :func:`geometric_median`.

    Parameters
    ----------
    x : array_like of shape (m, n_agents, d)
        Finite; one sample an entry.

    Returns
    -------
    ndarray of shape (m, d)
        A sample's median does not depend on the samples beside it.

    Raises
    ------
    EstimatorInputError
        `x` is empty, not finite or not three-dimensional.

    Notes
    -----
    All samples step together and leave as they arrive, so that a sample near a tie, which takes thousands of steps,
    does not hold up the rest.

    Examples
    --------
    >>> geometric_medians([np.eye(3), np.full((3, 3), 1 / 3)]).round(9).tolist()
    [[0.333333333, 0.333333333, 0.333333333], [0.333333333, 0.333333333, 0.333333333]]
    """
    samples = as_finite("x", x, ndim=3)
    medians: Array = np.median(samples, axis=1)
    offsets = samples - medians[:, None]
    spread = np.median(np.linalg.norm(offsets, axis=2), axis=1)
    # Where at least half of the rows coincide, no other point can be nearer to all.
    moving = np.flatnonzero(spread > 0.0)
    if moving.size:
        scaled = offsets[moving] / spread[moving, None, None]
        found = medians[moving] + spread[moving, None] * _weiszfeld(scaled)
        # The hull of the rows holds the answer; rounding may not.
        medians[moving] = np.clip(found, samples[moving].min(axis=1), samples[moving].max(axis=1))
    return medians


def _weiszfeld(points: Array) -> Array:
    """Return the geometric medians, shape (m, d), of samples of shape (m, n, d) centred on 0 with spread 1."""
    answer: Array = points.mean(axis=1)
    active = np.arange(len(points))
    location = answer.copy()
    for number in range(1, MAX_STEPS + 1):
        distances = np.linalg.norm(points - location[:, None], axis=2)
        moved = _vardi_zhang_step(points, location, distances)
        if number % NEWTON_EVERY == 0:
            moved = _better(points, moved, _newton_step(points, location, distances))
        done = np.abs(moved - location).max(axis=1) <= STEP_TOLERANCE
        nearest = distances.argmin(axis=1)
        for row in np.flatnonzero(distances.min(axis=1) < NEAR_A_POINT).tolist():
            vertex = points[row, nearest[row]]
            if _is_optimal(points[row], vertex):
                moved[row], done[row] = vertex, True
        location = moved
        if done.any():
            answer[active[done]] = location[done]
            points, location, active = points[~done], location[~done], active[~done]
            if not active.size:
                return answer
    answer[active] = location
    return answer


def _vardi_zhang_step(points: Array, location: Array, distances: Array) -> Array:
    apart = distances > 0.0
    weights = np.divide(1.0, distances, out=np.zeros_like(distances), where=apart)
    total = weights.sum(axis=1)[:, None]
    target: Array = (weights[:, None] @ points)[:, 0] / total
    coincident = np.count_nonzero(~apart, axis=1)[:, None]
    if not coincident.any():
        return target
    pull = np.linalg.norm(total * (target - location), axis=1)[:, None]
    stay = np.minimum(1.0, np.divide(coincident, pull, out=np.ones_like(pull), where=pull > 0.0))
    step: Array = np.where(coincident > 0, (1.0 - stay) * target + stay * location, target)
    return step


def _newton_step(points: Array, location: Array, distances: Array) -> Array:
    """Return where the quadratic at `location` has its minimum; rows that sit on it are left out."""
    weights = np.divide(1.0, distances, out=np.zeros_like(distances), where=distances > 0.0)
    units = (points - location[:, None]) * weights[:, :, None]
    total = weights.sum(axis=1)[:, None, None]
    # The sum over rows of (identity - unit unit')/distance.
    curvature = (1.0 + RIDGE) * total * np.eye(points.shape[2])
    curvature -= units.transpose(0, 2, 1) @ (units * weights[:, :, None])
    step: Array = np.linalg.solve(curvature, units.sum(axis=1)[:, :, None])[:, :, 0]
    return location + step


def _better(points: Array, first: Array, second: Array) -> Array:
    """Return, sample by sample, the location with the smaller sum of distances."""
    costs = [np.linalg.norm(points - location[:, None], axis=2).sum(axis=1) for location in (first, second)]
    better: Array = np.where((costs[1] < costs[0])[:, None], second, first)
    return better


def _is_optimal(points: Array, vertex: Array) -> bool:
    """Whether the pull of all other points on `vertex` is at most the number of points that sit on it."""
    differences = points - vertex
    distances = np.linalg.norm(differences, axis=1)
    apart = distances > 0.0
    pull = np.linalg.norm((differences[apart] / distances[apart, None]).sum(axis=0))
    return bool(pull <= points.shape[0] - np.count_nonzero(apart))
