"""How a rollout stands: its stage, its agents, its checks, and who has heard of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from eguard.fleet.alarms import open_alarms
from eguard.fleet.tables import endpoint_agent, endpoint_inventory, rollout
from eguard.server.services.cohorts import Population, governed_agents, populate, shares
from eguard.server.services.policy_state import StoredPolicy, load_state
from eguard.server.services.policy_writes import is_switched_off, require_policy
from eguard.server.services.rollout_checks import StageBudget, StageCheck, judge_stage
from eguard.server.services.rollout_measures import Stage, measure_stage

#: A heartbeat comes every 30 s, an inventory every hour.
FRESH_HEARTBEAT_SECONDS: Final = 120.0
FRESH_INVENTORY_SECONDS: Final = 7200.0


@dataclass(frozen=True, slots=True)
class Freshness:
    """Of some agents: how many were heard lately, sent an inventory lately, and have a revision or a later one."""

    agents: int
    heartbeats: int
    inventories: int
    confirmed: int

    @property
    def is_complete(self) -> bool:
        """Whether all of them were heard and sent an inventory."""
        return self.heartbeats == self.inventories == self.agents

    def to_dict(self) -> dict[str, int]:
        """Return it as the API shows it."""
        return {
            "agents": self.agents,
            "fresh_heartbeats": self.heartbeats,
            "fresh_inventories": self.inventories,
            "confirmed_revision": self.confirmed,
        }


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout as it was found in one transaction.

    Parameters
    ----------
    policy : StoredPolicy
        The latest revision of its policy.
    stage_percent, stage_since : float
        The stage, and since when in seconds since the epoch.
    frozen_reason, frozen_by : str, optional
        Why and by whom it is held; None if it is not.
    population : Population
        The active agents that the policy governs.
    checks : tuple of StageCheck
        The four checks.
    freshness : Freshness
        Of these agents, with the policy's revision.
    drift_alarms : int
        Alarms of drift that are not resolved.
    """

    policy: StoredPolicy
    stage_percent: float
    stage_since: float
    frozen_reason: str | None
    frozen_by: str | None
    population: Population
    checks: tuple[StageCheck, ...]
    freshness: Freshness
    drift_alarms: int

    @property
    def is_off(self) -> bool:
        """Whether the policy is switched off."""
        return is_switched_off(self.policy.document)

    def to_dict(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        upload, seed = shares(self.policy.document)
        return {
            "rollout_id": self.policy.rollout_id,
            "policy_id": self.policy.policy_id,
            "policy_version": self.policy.policy_version,
            "revision": self.policy.revision,
            "stage_percent": self.stage_percent,
            "stage_since_unix": self.stage_since,
            "is_frozen": self.frozen_reason is not None,
            "frozen_reason": self.frozen_reason,
            "frozen_by": self.frozen_by,
            "drift_alarms": self.drift_alarms,
            "is_switched_off": self.is_off,
            "agents": len(self.population),
            "cohort_size": self.population.size(max(upload, seed)),
            "upload": {"percent": upload, "size": self.population.size(upload)},
            "seed": {"percent": seed, "size": self.population.size(seed)},
            "freshness": self.freshness.to_dict(),
            "checks": [check.to_dict() for check in self.checks],
        }


def rollout_ids(connection: sa.Connection) -> list[str]:
    """Return the policies that have a rollout."""
    return sorted({row[0] for row in connection.execute(sa.select(rollout.c.policy_id))})


def look_at_rollout(connection: sa.Connection, policy_id: str, now: float, budget: StageBudget) -> RolloutView:
    """Return how a policy's rollout stands.

    Raises
    ------
    ServerRefusalError
        404 ``unknown_policy``.
    """
    stored = require_policy(connection, policy_id)
    row = connection.execute(sa.select(rollout).where(rollout.c.rollout_id == stored.rollout_id)).one_or_none()
    upload, seed = shares(stored.document)
    since = stored.created_at if row is None else row.stage_since
    state = load_state(connection)
    agents = governed_agents(connection, state, policy_id)
    population = populate(agents, stored.rollout_id)
    measures = measure_stage(connection, population, Stage(since, upload, seed, now))
    return RolloutView(
        policy=stored,
        # A policy that says nothing of shares never began a rollout: it means everybody.
        stage_percent=max(upload, seed) if row is None else row.stage_percent,
        stage_since=since,
        frozen_reason=None if row is None or row.frozen_at is None else row.frozen_reason or "",
        frozen_by=None if row is None else row.frozen_by,
        population=population,
        checks=judge_stage(measures, budget),
        freshness=measure_freshness(connection, agents, stored.revision, now),
        drift_alarms=len(open_alarms(connection)),
    )


def measure_freshness(connection: sa.Connection, agent_ids: list[str], revision: int, now: float) -> Freshness:
    """Return which of the agents were heard lately, and have `revision`."""
    agent, names = endpoint_agent.c, frozenset(agent_ids)
    query = sa.select(
        agent.agent_id, agent.last_heartbeat, agent.policy_revision, endpoint_inventory.c.collected_at
    ).outerjoin_from(endpoint_agent, endpoint_inventory, endpoint_inventory.c.agent_id == agent.agent_id)
    rows = [row for row in connection.execute(query) if row.agent_id in names]
    return Freshness(
        agents=len(names),
        heartbeats=sum((row.last_heartbeat or 0.0) >= now - FRESH_HEARTBEAT_SECONDS for row in rows),
        inventories=sum((row.collected_at or 0.0) >= now - FRESH_INVENTORY_SECONDS for row in rows),
        confirmed=sum((row.policy_revision or 0) >= revision for row in rows),
    )
