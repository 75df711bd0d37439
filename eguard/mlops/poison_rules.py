"""Facts of the fleet's rule that no attack changes: inflated sample counts, many identities, small cohorts."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.estimators import aggregate_distributions
from eguard.fleet.kernel import AggregationRules, Votes, aggregate_votes

Floats = NDArray[np.float64]

#: What a liar claims to have seen.
INFLATED_SAMPLES: Final = 10**9
#: Cohorts of which the rule's tolerance is printed.
SMALL_COHORTS: Final = (2, 3, 4, 5, 7, 10, 20, 50, 200)
#: Shifts that a Sybil is asked to reach.
SHIFTS: Final = (0.05, 0.1, 0.25)


def sample_count_inflation(
    honest: Floats, sample_counts: NDArray[np.int64], lie: Floats, n_liars: int
) -> dict[str, Any]:
    """Return how far liars get by claiming a thousand million events, under the rule and under a weighted mean.

    Parameters
    ----------
    honest : ndarray of shape (k, 8)
        Honest votes.
    sample_counts : ndarray of int64, shape (k,)
        Events behind them.
    lie : ndarray of shape (8,)
        What every liar votes.
    n_liars : int
        Liars.
    """
    votes = np.vstack([honest, np.tile(lie, (n_liars, 1))])
    honestly = np.append(sample_counts, np.full(n_liars, int(np.median(sample_counts))))
    inflated = np.append(sample_counts, np.full(n_liars, INFLATED_SAMPLES))
    plain, loud = _published(votes, honestly), _published(votes, inflated)
    weighted = inflated @ votes / inflated.sum()
    alone = sample_counts @ honest / sample_counts.sum()
    return {
        "n_agents": len(votes),
        "n_liars": n_liars,
        "claimed_samples": INFLATED_SAMPLES,
        "is_published_alike": bool(np.array_equal(plain, loud, equal_nan=True)),
        "weighted_mean_total_variation": _shift(weighted, alone),
    }


def sybil(honest: Floats, lie: Floats) -> dict[str, Any]:
    """Return how many identities one attacker needs beside an honest cohort, who all vote `lie`.

    The rule counts identities, so one machine with many of them is many liars. What holds them off stands before the
    aggregation: an identity is a certificate from a token of limited use, and `min_agent_age_seconds`.
    """
    clean = aggregate_distributions(honest).distribution
    needed: dict[str, int | None] = {f"{shift:g}": None for shift in SHIFTS}
    captured = None
    for identities in range(1, len(honest) + 2):
        consensus = aggregate_distributions(np.vstack([honest, np.tile(lie, (identities, 1))])).distribution
        if consensus is None or clean is None:
            continue
        moved = _shift(consensus, clean)
        for shift in SHIFTS:
            if needed[f"{shift:g}"] is None and moved > shift:
                needed[f"{shift:g}"] = identities
        if captured is None and _shift(consensus, lie) < 1e-9:
            captured = identities
    return {"honest_agents": len(honest), "identities_for_total_variation": needed, "identities_to_decide": captured}


def small_cohorts(min_agents: int, max_colluders: int) -> list[dict[str, Any]]:
    """Return, for cohorts of several sizes, whether the rule publishes a key and how many liars the row tolerates."""
    smallest = AggregationRules(min_agents=min_agents, max_colluders=max_colluders).smallest_cohort
    return [
        {
            "n_agents": n,
            "is_published": n >= smallest,
            "tolerated_faults": (n - 1) // 2,
            "identities_to_decide": n // 2 + 1,
        }
        for n in SMALL_COHORTS
    ]


def _published(votes: Floats, samples: NDArray[np.int64]) -> Floats:
    """Return what the fleet's kernel publishes; NaN if nothing."""
    nothing = np.full(len(votes), np.nan)
    key = Votes(["key:parent"], np.array([0]), votes, samples, nothing, nothing)
    found = aggregate_votes(key, AggregationRules()).aggregates
    return found[0].distribution if found else np.full(votes.shape[1], np.nan)


def _shift(p: Floats, q: Floats) -> float:
    return 0.5 * float(np.abs(p - q).sum())
