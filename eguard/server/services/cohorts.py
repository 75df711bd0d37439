"""Which agents a share of a rollout means, counted and by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from eguard.fleet.tables import endpoint_agent
from eguard.policy import PolicyDocument, bucket_limit, canary_buckets
from eguard.server.services.policy_state import Place, PolicyState

#: Names that a preview lists at most.
LISTED_AGENTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Population:
    """Agents that a rollout is about, with their buckets.

    Parameters
    ----------
    agent_ids : tuple of str
        Sorted by bucket, so that a cohort is a beginning of it.
    buckets : ndarray of shape (n,), int64
    """

    agent_ids: tuple[str, ...]
    buckets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.agent_ids)

    def size(self, percent: float) -> int:
        """Return how many agents a share means."""
        return int(np.searchsorted(self.buckets, bucket_limit(percent), side="left"))

    def cohort(self, percent: float) -> tuple[str, ...]:
        """Return the agents that a share means, lowest bucket first."""
        return self.agent_ids[: self.size(percent)]


def populate(agent_ids: Sequence[str], salt: str) -> Population:
    """Deal agents into a rollout's buckets."""
    names = sorted(agent_ids)
    buckets = canary_buckets(names, salt)
    order = np.argsort(buckets, kind="stable")
    return Population(tuple(names[index] for index in order), buckets[order])


def active_agents(connection: sa.Connection) -> dict[str, Place]:
    """Return the active agents and their groups; quarantined and decommissioned ones are in no cohort."""
    column = endpoint_agent.c
    query = sa.select(column.agent_id, column.group, column.group_revision).where(column.status == "active")
    return {row.agent_id: Place(row.group, row.group_revision) for row in connection.execute(query)}


def governed_agents(connection: sa.Connection, state: PolicyState, policy_id: str) -> list[str]:
    """Return the active agents that are sent a policy, sorted."""
    return [
        agent_id
        for agent_id, place in sorted(active_agents(connection).items())
        if state.chosen(agent_id, place).policy.policy_id == policy_id
    ]


def preview_cohorts(population: Population, rollout_id: str, document: PolicyDocument) -> dict[str, Any]:
    """Return what a document would mean: sizes for each direction, and the agents of the widest one.

    Examples
    --------
    >>> people = populate([f"agent-{index}" for index in range(1000)], "r1")
    >>> seen = preview_cohorts(people, "r1", PolicyDocument(baseline_upload_canary_percent=5.0))
    >>> seen["agents"], seen["upload"], seen["seed"]
    (1000, {'percent': 5.0, 'size': 44}, {'percent': 100.0, 'size': 1000})
    """
    upload, seed = shares(document)
    bundle = 100.0 if document.bundle_canary_percent is None else document.bundle_canary_percent
    cohort = population.cohort(max(upload, seed))
    return {
        "rollout_id": rollout_id,
        "agents": len(population),
        "upload": {"percent": upload, "size": population.size(upload)},
        "seed": {"percent": seed, "size": population.size(seed)},
        "bundle": {"percent": bundle, "size": population.size(bundle)},
        "cohort_size": len(cohort),
        "cohort": list(cohort[:LISTED_AGENTS]),
        "is_truncated": len(cohort) > LISTED_AGENTS,
    }


def shares(document: PolicyDocument) -> tuple[float, float]:
    """Return the percentages of agents that upload and that take seeds, 0 where that is switched off.

    Examples
    --------
    >>> shares(PolicyDocument(fleet_seed_enabled=False, baseline_upload_canary_percent=5.0))
    (5.0, 0.0)
    """
    return (
        _share(document.baseline_upload_enabled, document.baseline_upload_canary_percent),
        _share(document.fleet_seed_enabled, document.fleet_seed_canary_percent),
    )


def _share(switch: bool | None, percent: float | None) -> float:
    if switch is False:
        return 0.0
    return 100.0 if percent is None else percent
