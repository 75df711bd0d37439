"""Which rows stay when there are too many: by the hash of their identity, so that every run keeps the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64] | NDArray[np.intp]


def hash_ranks(sample_ids: Sequence[str]) -> NDArray[np.int64]:
    """Return the place of each row when rows are ordered by the SHA-256 of their id; shape (n,).

    Examples
    --------
    >>> hash_ranks(["a", "b", "c"]).tolist()  # ca97..., 3e23..., 2e7d...
    [2, 1, 0]
    """
    digests = np.array([hashlib.sha256(sample.encode()).digest()[:8] for sample in sample_ids], dtype="S8")
    keys = np.frombuffer(digests.tobytes(), dtype=">u8") if len(digests) else np.empty(0, ">u8")
    ranks = np.empty(len(keys), np.int64)
    ranks[np.argsort(keys, kind="stable")] = np.arange(len(keys))
    return ranks


def cap_floods(
    groups: Sequence[Codes], rank: NDArray[np.int64], cap: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Keep at most `cap` rows of each group, those with the lowest ranks.

    Parameters
    ----------
    groups : sequence of int arrays of shape (n,)
        Together they name a row's group: host, rule and hour.
    rank : ndarray of int, shape (n,)
        Order of preference.
    cap : int
        Rows kept of one group.

    Returns
    -------
    kept : ndarray of int
        Rising.
    weight : ndarray of float, shape (n,)
        Rows of its group that each kept row stands for; the label plays no part, so that no class is favoured.
    """
    group, size = _group_codes(groups)
    kept = np.sort(np.flatnonzero(_place_in_group(group, rank) < cap))
    return kept, (size / np.minimum(size, cap))[group] if len(group) else np.empty(0)


def stratified_sample(
    strata: Sequence[Codes], rank: NDArray[np.int64], weights: NDArray[np.float64], *, budget: int, min_rows: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Keep at most `budget` rows: the same share of every stratum, but `min_rows` of each as far as it has them.

    Parameters
    ----------
    strata : sequence of int arrays of shape (n,)
        Together they name a row's stratum.
    rank : ndarray of int, shape (n,)
        Order of preference within a stratum.
    weights : ndarray of float, shape (n,)
        Signals that each row stands for.
    budget : int
        Rows kept at most. Where even `min_rows` a stratum exceed it, all strata get equally many.
    min_rows : int
        Floor for small strata, so that rare rules stay.

    Returns
    -------
    kept : ndarray of int
        Rising.
    weights : ndarray of float, shape (n_kept,)
        Signals that each kept row stands for now; every stratum's sum is what it was.
    """
    stratum, size = _group_codes(strata)
    if len(stratum) <= budget:
        return np.arange(len(stratum)), weights.copy()
    quota = _quotas(size, budget, min_rows)
    kept = np.sort(np.flatnonzero(_place_in_group(stratum, rank) < quota[stratum]))
    before = np.bincount(stratum, weights, len(size))
    after = np.bincount(stratum[kept], weights[kept], len(size))
    growth = np.divide(before, after, out=np.zeros(len(size)), where=after > 0.0)
    return kept, weights[kept] * growth[stratum[kept]]


def _quotas(size: NDArray[np.int64], budget: int, min_rows: int) -> NDArray[np.int64]:
    """Find the largest share (by bisection) whose quotas fit the budget; lower the floor if none does."""
    floor = np.minimum(size, min_rows)
    if floor.sum() > budget:
        level = max(level for level in range(min_rows + 1) if np.minimum(size, level).sum() <= budget)
        return np.minimum(size, level)
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2.0
        if np.maximum(floor, np.floor(share * size)).sum() <= budget:
            low = share
        else:
            high = share
    quotas: NDArray[np.int64] = np.maximum(floor, np.floor(low * size)).astype(np.int64)
    return quotas


def _group_codes(keys: Sequence[Codes]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return the number of each row's combination of keys, and how often each combination occurs."""
    code: NDArray[np.intp] = np.zeros(len(keys[0]), np.intp)
    for key in keys:
        _, position = np.unique(key, return_inverse=True)
        width = int(position.max(initial=0)) + 1
        _, code = np.unique(code * width + position, return_inverse=True)
    return code, np.bincount(code).astype(np.int64)


def _place_in_group(group: NDArray[np.intp], rank: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return how many rows of the same group precede each row by rank."""
    order = np.lexsort((rank, group))
    ordered = group[order]
    place = np.empty(len(group), np.intp)
    place[order] = np.arange(len(group)) - np.searchsorted(ordered, ordered)
    return place
