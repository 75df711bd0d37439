"""Which agents moved an aggregate: alone, in the direction it went, and together.

With a median one agent alone moves next to nothing, liar or not: leaving it out shifts the middle by half a place. So
the influence of single agents, though exact here, says little; coordinated agents show only when they are left out
together. Agents are therefore ordered by how far their votes stand towards where the aggregate went, and the question
is how many of the foremost have to be left out until most of the shift is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eguard.estimators import trimmed_median

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Share of the shift that has to be gone for a set of agents to explain it.
EXPLAINED_SHARE: Final = 0.8
#: Share of the shift that goes without a group, for the group to be its cause and not only different.
CAUSING_SHARE: Final = 0.25
#: Between two groups that one normal population was cut into at its best place, the means are 2.65 deviations apart.
CLEAR_SEPARATION: Final = 4.0
_SCORE_CAP: Final = 8.0
_SCALE_FLOOR: Final = 1e-3


class KeyVotes(NamedTuple):
    """The votes on one key as they stand, and what the reference published for it.

    Attributes
    ----------
    process_key : str
    agents : ndarray of intp, shape (n_votes,)
        Positions of the voters in the list of agents, each once.
    votes : ndarray of float64, shape (n_votes, 8)
    samples : ndarray of int64, shape (n_votes,)
    reference : ndarray of float64, shape (8,)
    """

    process_key: str
    agents: NDArray[np.intp]
    votes: Floats
    samples: NDArray[np.int64]
    reference: Floats


class Influence(NamedTuple):
    """How agents stand to the shift of some keys.

    Attributes
    ----------
    shift : ndarray of shape (n_keys,)
        Total variation from the reference to what the votes say now.
    score : ndarray of shape (n_agents,)
        Where an agent stands towards the shift, in robust deviations from the middle agent, averaged over keys.
    alone : ndarray of shape (n_agents,)
        Share of the shift that is undone when this agent alone is left out; negative if it grows.
    keys : ndarray of intp, shape (n_agents,)
        On how many of the keys an agent votes.
    separation : float
        Between the two groups into which the scores are best cut: distance of their means in pooled deviations.
    group : ndarray of bool, shape (n_agents,)
        The agents that explain the shift: the upper group if it stands apart, else the smallest set.
    stands_apart : bool
        Whether that is so: clearly cut off, and without it a good part of the shift is gone.
    undone : float
        Share of the shift that is undone when the group is left out.
    smallest_set : int
        How many of the foremost agents have to be left out to undo `EXPLAINED_SHARE` of it; all but two if even these
        do not, and the curve says how much they do.
    curve : list of (int, float)
        Agents left out, foremost first, and the share of the shift undone.
    """

    shift: Floats
    score: Floats
    alone: Floats
    keys: NDArray[np.intp]
    separation: float
    group: Mask
    stands_apart: bool
    undone: float
    smallest_set: int
    curve: list[tuple[int, float]]


def agreed(votes: Floats) -> Floats:
    """Return what the votes agree on: medians by class, divided by their sum (zeros where that is 0), shape (..., 8).

    `votes` have shape (..., n_votes, 8).
    """
    return _normalised(trimmed_median(votes, axis=-2))


def leave_one_out(votes: Floats) -> Floats:
    """Return what the others agree on without each voter in turn, exactly, shape (n_votes, 8).

    Leaving out one of K sorted values changes which of three neighbours in the middle count, and nothing else: one
    sort a class serves all voters.

    Parameters
    ----------
    votes : ndarray of shape (n_votes, 8)
        Two or more.

    Examples
    --------
    >>> votes = np.array([[0.1, 0.9], [0.2, 0.8], [0.6, 0.4]])
    >>> leave_one_out(votes).round(3).tolist()
    [[0.4, 0.6], [0.35, 0.65], [0.15, 0.85]]
    """
    n = len(votes)
    order = np.argsort(votes, axis=0, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(n)[:, None], axis=0)
    ordered = np.take_along_axis(votes, order, axis=0)
    half = n // 2
    if n % 2:
        # The middle two of an even number: those around the place that is left out.
        low = np.where(rank <= half - 1, half, half - 1)
        high = np.where(rank <= half, half + 1, half)
    else:
        low = high = np.where(rank < half, half, half - 1)
    medians = 0.5 * (np.take_along_axis(ordered, low, axis=0) + np.take_along_axis(ordered, high, axis=0))
    return _normalised(medians)


def total_variation(p: Floats, q: Floats) -> Floats:
    """Return the total variation between distributions along the last axis."""
    distance: Floats = 0.5 * np.abs(p - q).sum(axis=-1)
    return distance


def trace_shift(keys: Sequence[KeyVotes], n_agents: int) -> Influence:
    """Find which agents moved the aggregates of some keys away from the reference.

    Parameters
    ----------
    keys : sequence of KeyVotes
        One or more; each with two or more votes.
    n_agents : int
        Length of the list that `KeyVotes.agents` point into.
    """
    shift = np.array([float(total_variation(agreed(key.votes), key.reference)) for key in keys])
    score, alone, count = _scores(keys, shift, n_agents)
    foremost = np.argsort(-score, kind="stable")
    foremost = foremost[count[foremost] > 0]
    smallest, curve = _smallest(keys, foremost, n_agents)
    upper, separation = _cut(score[foremost])
    group = np.zeros(n_agents, dtype=np.bool_)
    group[foremost[:upper]] = True
    # A group that always stood aside moved nothing: without it the shift is as large.
    stands_apart = separation >= CLEAR_SEPARATION and undone(keys, group) >= CAUSING_SHARE
    group[foremost[: upper if stands_apart else smallest]] = True
    group[foremost[upper if stands_apart else smallest :]] = False
    return Influence(
        shift, score, alone, count, separation, group, stands_apart, undone(keys, group), smallest, curve
    )  # fmt: skip


def undone(keys: Sequence[KeyVotes], left_out: Mask) -> float:
    """Return the share of the shift that is gone without some agents, over all keys; 0 if there is no shift.

    It is measured along the shift: every aggregate of fewer agents differs from that of all, in all directions; here
    only the way back counts. More than 1 is beyond the reference.
    """
    total = gone = 0.0
    for key in keys:
        direction = agreed(key.votes) - key.reference
        total += float(direction @ direction)
        kept = ~left_out[key.agents]
        # Without any voter there is no aggregate, and nothing of it left to be moved.
        rest = (agreed(key.votes[kept]) - key.reference) @ direction if kept.any() else 0.0
        gone += float(direction @ direction - rest)
    return gone / total if total > 0.0 else 0.0


def _scores(keys: Sequence[KeyVotes], shift: Floats, n_agents: int) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Return each agent's place towards the shift, its share of it alone, and its number of keys."""
    score, weight, alone = np.zeros(n_agents), np.zeros(n_agents), np.zeros(n_agents)
    count = np.zeros(n_agents, dtype=np.intp)
    total = 0.0
    for key, moved in zip(keys, shift.tolist(), strict=True):
        count[key.agents] += 1
        direction = agreed(key.votes) - key.reference
        place = (key.votes - key.reference) @ direction
        place -= np.median(place)
        scale = max(1.4826 * float(np.median(np.abs(place))), _SCALE_FLOOR * moved * moved, np.finfo(float).tiny)
        score[key.agents] += moved * np.clip(place / scale, -_SCORE_CAP, _SCORE_CAP)
        weight[key.agents] += moved
        alone[key.agents] += (agreed(key.votes) - leave_one_out(key.votes)) @ direction
        total += float(direction @ direction)
    return score / np.where(weight > 0.0, weight, 1.0), alone / (total or 1.0), count


def _smallest(
    keys: Sequence[KeyVotes], foremost: NDArray[np.intp], n_agents: int
) -> tuple[int, list[tuple[int, float]]]:
    """Return how many of the foremost explain the shift, and the curve on the way there."""
    tried: dict[int, float] = {}

    def without(number: int) -> float:
        if number not in tried:
            left_out = np.zeros(n_agents, dtype=np.bool_)
            left_out[foremost[:number]] = True
            tried[number] = undone(keys, left_out)
        return tried[number]

    most = max(len(foremost) - 2, 0)
    for share in (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75):
        without(min(most, max(1, round(share * len(foremost)))))
    low, high = 0, most
    while low < high:  # more left out undo more, but for noise
        middle = (low + high) // 2
        if without(middle) >= EXPLAINED_SHARE:
            high = middle
        else:
            low = middle + 1
    without(low)
    return low, sorted(tried.items())


def _cut(falling: Floats) -> tuple[int, float]:
    """Return how many of the scores, largest first, form the upper group at the best cut, and how far apart it stands.

    The best cut leaves the least squared deviation within the two groups (Otsu).
    """
    n = len(falling)
    if n < 4 or falling[0] == falling[-1]:
        return 0, 0.0
    sizes = np.arange(1, n)
    sums, squares = np.cumsum(falling)[:-1], np.cumsum(falling**2)[:-1]
    rest, rest_squares = falling.sum() - sums, (falling**2).sum() - squares
    within = squares - sums**2 / sizes + rest_squares - rest**2 / (n - sizes)
    best = int(np.argmin(within))
    deviation = np.sqrt(max(within[best], 0.0) / n)
    gap = sums[best] / sizes[best] - rest[best] / (n - sizes[best])
    return int(sizes[best]), float(gap / max(deviation, 1e-9))


def _normalised(medians: Floats) -> Floats:
    mass = medians.sum(axis=-1, keepdims=True)
    normalised: Floats = medians / np.where(mass > 0.0, mass, 1.0)
    return normalised
