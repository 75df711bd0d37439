"""Fleet seeds as Dirichlet priors: from published medians to the prior mean of a profile."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from eguard.baseline.profile import ProfileTable
from eguard.baseline.slots import ProcessKey
from eguard.estimators import smoothed_prior_mean
from eguard.wire.distribution import vector_from_distribution
from eguard.wire.fleet import FleetRow
from eguard.wire.process_key import decode_process_key


def priors_from_rows(rows: Iterable[FleetRow]) -> dict[ProcessKey, NDArray[np.float64]]:
    """Return the prior mean of each published key, those with the most agents first.

    The mean is m = (median + eta)/(1 + eta*d) with eta = 1e-3, so that a class which the fleet never saw is unlikely
    and not impossible.

    Examples
    --------
    >>> row = FleetRow(process_key="bash:sshd", median_distribution={"process_exec": 1.0}, agent_count=3,
    ...                stddev_kl=0.0, tolerated_faults=1, source="aggregate")
    >>> priors_from_rows([row])[("bash", "sshd")].round(6).tolist()[:2]
    [0.993056, 0.000992]
    """
    ranked = sorted(rows, key=lambda row: (-row.agent_count, row.process_key))
    if not ranked:
        return {}
    medians = np.array([vector_from_distribution(row.median_distribution) for row in ranked])
    keys = [decode_process_key(row.process_key) for row in ranked]
    return dict(zip(keys, smoothed_prior_mean(medians), strict=True))


def apply_fleet_seed(table: ProfileTable, rows: Iterable[FleetRow], generation: int) -> int:
    """Seed `table` with the rows of one fleet generation, all pages of it; return how many profiles hold a seed.

    Earlier seeds are replaced, those that are not in this generation withdrawn. Local counts stay what they are.
    """
    return table.seed(priors_from_rows(rows), generation)


def withdraw_fleet_seed(table: ProfileTable) -> None:
    """Take all seeds back: the posterior of every key becomes its local frequency."""
    table.seed({}, 0)
