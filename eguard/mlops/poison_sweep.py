"""Attacks against aggregators on resampled cohorts: how far each moves what the fleet publishes.

The shift is measured from the aggregate of the honest votes alone, as in ``docs/explanation/poison-bounds.md``. The
attacker tries every direction that the attack's paper names and keeps the worst for the aggregator at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from eguard.estimators import aggregate_many, jensen_shannon_nats
from eguard.mlops.poison_attacks import ATTACKS
from eguard.mlops.poison_bounds import AGGREGATORS, TRIM_ALPHA, Aggregator, max_liars, shift_bound
from eguard.mlops.poison_profiles import KeyProfiles, resample_cohort

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
CONFIDENCE: Final = 0.95
#: Name of the row that holds the worst of all attacks.
WORST: Final = "worst"
_PRECISION: Final = 1e-9


@dataclass(frozen=True, slots=True)
class CohortSweep:
    """All attacks on cohorts of one size.

    Attributes
    ----------
    n_agents : int
        Votes a cohort, liars included.
    shares : tuple of float
        Shares of liars asked for; the number of liars is rounded and always a minority.
    keys : tuple of str
        Process keys.
    shift, js_nats : ndarray of shape (n_shares, n_attacks, n_aggregators, n_keys, n_repetitions)
        Total variation and Jensen-Shannon divergence to the clean aggregate, in the attacker's best direction; NaN
        where nothing is published with or without the attack.
    published : ndarray of the same shape
        Share of directions with which the key is still published.
    bound : ndarray of shape (n_shares, n_aggregators, n_keys, n_repetitions)
        Largest shift that any votes could cause.
    """

    n_agents: int
    shares: tuple[float, ...]
    keys: tuple[str, ...]
    shift: Floats
    js_nats: Floats
    published: Floats
    bound: Floats


def sweep_cohorts(
    profiles: Sequence[KeyProfiles], n_agents: int, shares: Sequence[float], repetitions: int, rng: np.random.Generator
) -> CohortSweep:
    """Attack `repetitions` cohorts of every key with every share of liars.

    Parameters
    ----------
    profiles : sequence of KeyProfiles
        Keys to resample cohorts of.
    n_agents : int
        Agents of a cohort.
    shares : sequence of float
        Shares of liars in [0, 0.5).
    repetitions : int
        Cohorts a key, at least 2. The same cohorts serve all shares: the last agents are the ones that lie.
    rng : numpy.random.Generator
        Draws cohorts, and the factors of the attacks that scatter.
    """
    cohorts = [[resample_cohort(key, n_agents, rng).votes for _ in range(repetitions)] for key in profiles]
    shape = (len(shares), len(ATTACKS), len(AGGREGATORS), len(profiles), repetitions)
    shift, js_nats, published = np.zeros(shape), np.zeros(shape), np.ones(shape)
    bound = np.zeros((len(shares), *shape[2:]))
    for row, share in enumerate(shares):
        n_liars = max_liars(n_agents, share)
        cells = [(key, repetition) for key in range(len(profiles)) for repetition in range(repetitions)]
        honest = [cohorts[key][repetition][: n_agents - n_liars] for key, repetition in cells]
        clean = [aggregates(np.stack(honest, axis=1), aggregator) for aggregator in AGGREGATORS]
        for column, aggregator in enumerate(AGGREGATORS):
            for cell, votes, before in zip(cells, honest, clean[column], strict=True):
                bound[row, column, *cell] = shift_bound(votes, n_liars, aggregator, before)
        attacked = _attacked(honest, clean, n_liars, rng)
        for field, values in zip((shift, js_nats, published), attacked, strict=True):
            field[row] = values.reshape(shape[1:])
    keys = tuple(key.process_key for key in profiles)
    return CohortSweep(n_agents, tuple(shares), keys, shift, js_nats, published, bound)


def _attacked(
    honest: Sequence[Floats], clean: Sequence[Floats], n_liars: int, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Return shift, divergence and published share, each of shape (n_attacks, n_aggregators, n_cohorts)."""
    variants: list[Floats] = []
    owner: list[tuple[int, int]] = []
    for cohort, votes in enumerate(honest):
        for number, attack in enumerate(ATTACKS.values()):
            lies = attack(votes, n_liars, rng, attack.published(votes))
            variants += [np.vstack([votes, lie]) for lie in lies]
            owner += [(number, cohort)] * len(lies)
    poisoned = np.stack(variants, axis=1)
    where = np.array(owner)
    shape = (len(ATTACKS), len(AGGREGATORS), len(honest))
    found = tuple(np.full(shape, np.nan) for _ in range(3))
    for column, aggregator in enumerate(AGGREGATORS):
        before, after = clean[column][where[:, 1]], aggregates(poisoned, aggregator)
        moved = 0.5 * np.abs(after - before).sum(axis=1)
        both = np.isfinite(moved)
        divergence = np.full(len(moved), np.nan)
        if both.any():
            divergence[both] = jensen_shannon_nats(after[both], before[both])
        for number, cohort in np.unique(where, axis=0).tolist():
            mine = (where == (number, cohort)).all(axis=1)
            found[2][number, column, cohort] = np.isfinite(after[mine, 0]).mean()
            if both[mine].any():
                best = np.flatnonzero(mine & both)[np.nanargmax(moved[mine & both])]
                found[0][number, column, cohort], found[1][number, column, cohort] = moved[best], divergence[best]
    return found[0], found[1], found[2]


def aggregates(votes: Floats, aggregator: Aggregator) -> Floats:
    """Return what each of many cohorts agrees on.

    Parameters
    ----------
    votes : ndarray of shape (n_agents, m, d)
        One cohort an entry of the middle axis.
    aggregator : str
        One of `AGGREGATORS`.

    Returns
    -------
    ndarray of shape (m, d)
        NaN where the key is not published.
    """
    if aggregator == "mean":
        mean: Floats = votes.mean(axis=0)
        return mean
    return aggregate_many(votes, alpha=TRIM_ALPHA, method=aggregator).distributions


def mean_with_interval(per_repetition: Floats, least: float = 0.0) -> dict[str, Any]:
    """Return the mean over repetitions with its 95 % t interval, cut at `least` and 1; nulls where there is none.

    Examples
    --------
    >>> mean_with_interval(np.array([0.1, 0.2, 0.3]))["value"]
    0.2
    """
    values = per_repetition[np.isfinite(per_repetition)]
    if not values.size:
        return {"value": None, "interval": None}
    mean = float(values.mean())
    if values.size == 1:
        return {"value": round(mean, 12), "interval": None}
    half = float(stdtrit(values.size - 1, 0.5 + CONFIDENCE / 2) * values.std(ddof=1) / np.sqrt(values.size))
    return {
        "value": round(mean, 12),
        "interval": [round(max(mean - half, least), 12), round(min(mean + half, 1.0), 12)],
    }


def sweep_rows(sweep: CohortSweep) -> Iterator[dict[str, Any]]:
    """Yield one row a share, attack (and the worst of them) and aggregator, averaged over keys."""
    names = [*ATTACKS, WORST]
    shift = _with_worst(sweep.shift)
    js_nats = _with_worst(sweep.js_nats)
    for row, share in enumerate(sweep.shares):
        for number, attack in enumerate(names):
            for column, aggregator in enumerate(AGGREGATORS):
                published = sweep.published[row, :, column] if attack == WORST else sweep.published[row, number, column]
                yield {
                    "n_agents": sweep.n_agents,
                    "share": share,
                    "n_liars": max_liars(sweep.n_agents, share),
                    "attack": attack,
                    "aggregator": aggregator,
                    "total_variation": mean_with_interval(_over_keys(shift[row, number, column])),
                    "js_nats": mean_with_interval(_over_keys(js_nats[row, number, column])),
                    "bound": _bound_where_measured(sweep.bound[row, column], shift[row, number, column]),
                    "is_within_bound": _is_within(shift[row, number, column], sweep.bound[row, column]),
                    "published_fraction": round(float(published.mean()), 12),
                }


def key_rows(sweep: CohortSweep) -> Iterator[dict[str, Any]]:
    """Yield the worst attack's shift and the bound a key, for every share and aggregator."""
    worst = _with_worst(sweep.shift)[:, -1]
    for row, share in enumerate(sweep.shares):
        for column, aggregator in enumerate(AGGREGATORS):
            for number, key in enumerate(sweep.keys):
                yield {
                    "n_agents": sweep.n_agents,
                    "share": share,
                    "process_key": key,
                    "aggregator": aggregator,
                    "total_variation": mean_with_interval(worst[row, column, number]),
                    "bound": _bound_where_measured(sweep.bound[row, column, number], worst[row, column, number]),
                }


def median_against_mean(sweep: CohortSweep) -> Iterator[dict[str, Any]]:
    """Yield by how much each attack moves the median further than the mean, cohort by cohort: above 0 it loses."""
    median, mean = AGGREGATORS.index("trimmed_median"), AGGREGATORS.index("mean")
    for row, share in enumerate(sweep.shares):
        if share == 0.0:
            continue
        for number, attack in enumerate(ATTACKS):
            excess = sweep.shift[row, number, median] - sweep.shift[row, number, mean]
            yield {
                "n_agents": sweep.n_agents,
                "share": share,
                "attack": attack,
                "excess": mean_with_interval(_over_keys(excess), least=-1.0),
                "keys_lost": int(np.count_nonzero(_means(excess, axis=1) > 0.0)),
            }


def _is_within(shift: Floats, bound: Floats) -> bool:
    """Whether every cohort's shift is within its own bound, to the precision of an estimate."""
    return bool((np.where(np.isfinite(shift), shift, 0.0) <= bound + _PRECISION).all())


def _bound_where_measured(bound: Floats, shift: Floats) -> float:
    """Return the mean bound of the cohorts that a shift was measured on; of all where it was on none."""
    measured = np.isfinite(shift)
    return round(float(bound[measured].mean() if measured.any() else bound.mean()), 12)


def _with_worst(values: Floats) -> Floats:
    """Append the largest over attacks (axis 1) as a last attack; NaN where no attack has a value."""
    worst = np.where(np.isfinite(values), values, -np.inf).max(axis=1, keepdims=True)
    found: Floats = np.concatenate([values, np.where(np.isfinite(worst), worst, np.nan)], axis=1)
    return found


def _over_keys(values: Floats) -> Floats:
    """Return the mean over keys of each repetition, from shape (n_keys, n_repetitions)."""
    return _means(values, axis=0)


def _means(values: Floats, axis: int) -> Floats:
    """Return means that pass over NaN; NaN where there is nothing else."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    found: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return found
