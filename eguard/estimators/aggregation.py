"""What a fleet agrees on: one distribution out of one vote per agent, for one process key or for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eguard.errors import EstimatorInputError
from eguard.estimators.geometric_median import geometric_medians
from eguard.estimators.order_statistics import (
    column_slices,
    for_each,
    partition_median,
    sorted_trimmed_mean,
    transpose_into,
    trim_count,
)
from eguard.estimators.validation import SIMPLEX_TOLERANCE, as_finite, in_open_interval

Array = NDArray[np.float64]
Method = Literal["trimmed_median", "trimmed_mean", "geometric_median"]

MIN_MASS = 0.5
# From so many votes on, copying key by key is cheaper than gathering the rows of many keys at once.
LARGE_COHORT = 64


@dataclass(frozen=True, slots=True)
class FleetDistribution:
    """A fleet's consensus about one process key.

    Attributes
    ----------
    distribution : ndarray of shape (d,) or None
        Sums to 1. None where `mass` is below the minimum: the votes disagree too much to publish anything.
    mass : float
        Sum of the coordinate-wise estimates before they were divided by it. 1 when all agree; coordinate medians
        leave the simplex in both directions.
    tolerated_faults : int
        Liars that cannot move the result beyond what honest votes span: floor((K - 1) / 2) for medians of K votes,
        floor(alpha*K) for the trimmed mean.
    """

    distribution: Array | None
    mass: float
    tolerated_faults: int


@dataclass(frozen=True, slots=True)
class FleetDistributions:
    """The consensus about many process keys, in arrays; ``self[i]`` is the :class:`FleetDistribution` of key i.

    Attributes
    ----------
    distributions : ndarray of shape (n_keys, d)
        Rows sum to 1; a row of NaN where the key is not published.
    mass : ndarray of shape (n_keys,)
        Sum of the coordinate-wise estimates before normalising.
    n_agents, tolerated_faults : ndarray of int64, shape (n_keys,)
        Votes on the key, and how many of them may lie.
    published : ndarray of bool, shape (n_keys,)
        Whether `mass` reached the minimum.
    """

    distributions: Array
    mass: Array
    n_agents: NDArray[np.int64]
    tolerated_faults: NDArray[np.int64]
    published: NDArray[np.bool_]

    def __len__(self) -> int:
        return int(self.mass.size)

    def __getitem__(self, index: int) -> FleetDistribution:
        distribution = self.distributions[index].copy() if self.published[index] else None
        return FleetDistribution(distribution, float(self.mass[index]), int(self.tolerated_faults[index]))


def aggregate_distributions(
    p: ArrayLike, alpha: float = 0.05, min_mass: float = MIN_MASS, method: Method = "trimmed_median"
) -> FleetDistribution:
    """Return what K agents agree on about one process key. One agent, one vote.

    Parameters
    ----------
    p : array_like of shape (n_agents, d)
        One distribution a row; an event class that an agent never saw is 0.
    alpha : float, optional
        Share trimmed at each end, in the open interval (0, 0.5); it never changes a median.
    min_mass : float, optional
        Least sum of the estimates, in (0, 1), for the key to be published.
    method : {"trimmed_median", "trimmed_mean", "geometric_median"}
        Coordinate-wise median or trimmed mean, divided by their sum; or the geometric median, whose sum is 1.

    Returns
    -------
    FleetDistribution
        With distribution None where the mass is below `min_mass`.

    Raises
    ------
    EstimatorInputError
        `p` is empty, not finite, negative or a row does not sum to 1 within 1e-6; another argument is out of range.

    Notes
    -----
    Coordinate medians leave the simplex: three agents that each saw one other event give the zero vector, three that
    each saw two of three events give a sum of 1.5. Dividing hides that, hence `mass`. How far liars can move the
    result is measured in ``docs/explanation/poison-bounds.md``: the promise is that it is bounded, not that it beats
    the mean under every attack.

    References
    ----------
    D. Yin, Y. Chen, K. Ramchandran and P. Bartlett, "Byzantine-robust distributed learning: towards optimal
    statistical rates", ICML 2018.

    Examples
    --------
    >>> votes = [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.65, 0.25, 0.1], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]]
    >>> consensus = aggregate_distributions(votes)
    >>> consensus.distribution.round(4).tolist(), round(consensus.mass, 9), consensus.tolerated_faults
    ([0.6667, 0.2222, 0.1111], 0.9, 2)
    >>> aggregate_distributions([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    FleetDistribution(distribution=None, mass=0.0, tolerated_faults=1)
    """
    votes = as_finite("p", p, ndim=2)
    return aggregate_many(votes, np.array([0, len(votes)]), alpha=alpha, min_mass=min_mass, method=method)[0]


def aggregate_many(
    p: ArrayLike,
    offsets: ArrayLike | None = None,
    *,
    alpha: float = 0.05,
    min_mass: float = MIN_MASS,
    method: Method = "trimmed_median",
    threads: int = 1,
) -> FleetDistributions:
    """Return what the agents agree on about every process key.

    Parameters
    ----------
    p : array_like
        Without `offsets`: shape (n_agents, n_keys, d), everybody votes on everything. With `offsets`: shape
        (n_votes, d), votes on the same key in consecutive rows, as a query ordered by key returns them.
    offsets : array_like of int, shape (n_keys + 1,), optional
        Votes on key i are rows ``offsets[i]:offsets[i + 1]``; strictly ascending from 0 to n_votes.
    alpha, min_mass, method
        As for :func:`aggregate_distributions`.
    threads : int, optional
        Threads to spread the keys over; the result does not depend on it.

    Returns
    -------
    FleetDistributions
        Equal to :func:`aggregate_distributions` key by key.

    Raises
    ------
    EstimatorInputError
        As :func:`aggregate_distributions`; the message names key and vote. `offsets` are not as described.

    Notes
    -----
    Votes are brought block by block into the order (key, class, agent), checked and reduced while they are in cache:
    one quickselect a coordinate for medians, one sort for the trimmed mean. Keys with equally many votes share a
    block. Memory beside `p` and the result: 4 MiB a thread, or one key's votes where that is more.

    Examples
    --------
    >>> votes = [[0.5, 0.5], [0.25, 0.75], [0.75, 0.25], [0.0, 1.0]]
    >>> fleet = aggregate_many(votes, offsets=[0, 3, 4])
    >>> fleet.distributions.tolist(), fleet.n_agents.tolist()
    ([[0.5, 0.5], [0.0, 1.0]], [3, 1])
    """
    share = in_open_interval("alpha", alpha, 0.0, 0.5)
    least = in_open_interval("min_mass", min_mass, 0.0, 1.0)
    if method not in get_args(Method):
        raise EstimatorInputError("method", f"must be one of {', '.join(get_args(Method))}, got {method!r}")
    votes = _as_votes(p, 3 if offsets is None else 2)
    if offsets is None:
        n_agents = np.full(votes.shape[1], votes.shape[0])
        estimates = _reduce_dense(votes, share, method, threads)
    else:
        bounds = _as_offsets(offsets, len(votes))
        n_agents = np.diff(bounds)
        estimates = _reduce_ragged(votes, bounds, share, method, threads)
    if method == "trimmed_mean":
        tolerated = np.array([trim_count(int(n), share) for n in n_agents])
    else:
        tolerated = (n_agents - 1) // 2
    mass = estimates.sum(axis=1)
    published = mass >= least
    divisor = np.where(published, mass, np.nan)
    return FleetDistributions(estimates / divisor[:, None], mass, n_agents, tolerated, published)


def _as_votes(p: ArrayLike, ndim: int) -> Array:
    """Shape and type only; values are checked block by block, while they are in cache."""
    votes = np.asarray(p)
    if votes.dtype.kind not in "biuf":
        raise EstimatorInputError("p", f"must be real numbers, got dtype {votes.dtype}", dtype=str(votes.dtype))
    if votes.ndim != ndim or votes.size == 0:
        wanted = "(n_agents, n_keys, d)" if ndim == 3 else "(n_votes, d)"
        raise EstimatorInputError("p", f"must be non-empty of shape {wanted}, got {votes.shape}", shape=votes.shape)
    return votes.astype(np.float64, copy=False)


def _as_offsets(offsets: ArrayLike, n_votes: int) -> NDArray[np.int64]:
    bounds = np.asarray(offsets)
    if bounds.ndim != 1 or bounds.size < 2 or bounds.dtype.kind not in "iu":
        raise EstimatorInputError("offsets", "must be a one-dimensional array of at least two integers")
    bounds = bounds.astype(np.int64)
    if bounds[0] != 0 or bounds[-1] != n_votes or (np.diff(bounds) <= 0).any():
        raise EstimatorInputError("offsets", f"must ascend strictly from 0 to the number of votes, {n_votes}")
    return bounds


def _reduce_dense(votes: Array, alpha: float, method: Method, threads: int) -> Array:
    n, n_keys, d = votes.shape
    columns = votes.reshape(n, n_keys * d)
    estimates = np.empty((n_keys, d))

    def work(block: slice) -> None:
        width = block.stop - block.start
        rows = np.empty((width, n))
        transpose_into(rows, columns[:, block])
        keys = np.arange(block.start // d, block.stop // d)
        estimates[keys] = _reduce_block(rows.reshape(-1, d, n), keys, alpha, method)

    for_each(work, column_slices(n, n_keys * d, multiple=d), threads)
    return estimates


def _reduce_ragged(votes: Array, bounds: NDArray[np.int64], alpha: float, method: Method, threads: int) -> Array:
    d, sizes = votes.shape[1], np.diff(bounds)
    estimates = np.empty((sizes.size, d))

    def work(members: NDArray[np.intp], block: slice) -> None:
        keys = members[block]
        n = int(sizes[keys[0]])
        rows = np.empty((keys.size, d, n))
        if n >= LARGE_COHORT:
            for row, start in zip(rows, bounds[keys], strict=True):
                transpose_into(row, votes[start : start + n])
        else:
            rows[...] = votes[bounds[keys][:, None] + np.arange(n)].transpose(0, 2, 1)
        estimates[keys] = _reduce_block(rows, keys, alpha, method)

    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        for_each(partial(work, members), column_slices(int(size) * d, members.size), threads)
    return estimates


def _reduce_block(votes: Array, keys: NDArray[np.intp], alpha: float, method: Method) -> Array:
    """Return the estimates, shape (m, d), of writable votes in the order (key, class, agent), shape (m, d, n)."""
    _check_votes(votes, keys)
    if method == "geometric_median":
        return geometric_medians(np.ascontiguousarray(votes.transpose(0, 2, 1)))
    if method == "trimmed_mean":
        votes.sort(axis=-1)
        return sorted_trimmed_mean(votes, trim_count(votes.shape[-1], alpha))
    return partition_median(votes)


def _check_votes(votes: Array, keys: NDArray[np.intp]) -> None:
    """Refuse votes that are no distributions; written so that a NaN fails every comparison."""
    low, high = 1.0 - SIMPLEX_TOLERANCE, 1.0 + SIMPLEX_TOLERANCE
    if votes.min() >= 0.0:
        total = votes.sum(axis=1)
        if total.min() >= low and total.max() <= high:
            return
    with np.errstate(invalid="ignore"):
        total = votes.sum(axis=1)
    good = (votes >= 0.0).all(axis=1) & (total >= low) & (total <= high)
    key, vote = np.argwhere(~good)[0]
    raise EstimatorInputError(
        "p",
        f"vote {vote} on key {keys[key]} is not a distribution: values must be finite, not negative and sum to 1",
        key=int(keys[key]),
        vote=int(vote),
    )
