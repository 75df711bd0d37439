"""The way back, step by step in the manual's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from eguard.errors import ServerRefusalError
from eguard.policy import DEFAULT_POLICY_ID
from eguard.server.services.cohorts import governed_agents
from eguard.server.services.kill_switch import switch_off
from eguard.server.services.policy_state import PolicyState, Scope, StoredPolicy, load_state
from eguard.server.services.policy_writes import (
    Assigned,
    Authorship,
    require_policy,
    revise,
    set_stage,
    write_assignments,
)
from eguard.server.services.revisions import lock_revisions
from eguard.server.services.rollout_status import measure_freshness

_FIRST_STAGE: Final = 0.0


@dataclass(frozen=True, slots=True)
class Rollback:
    """What was done: the steps for the operator, and what the audit log keeps."""

    steps: list[dict[str, Any]]
    detail: dict[str, Any]


def roll_back(connection: sa.Connection, policy_id: str, to: Assigned, authorship: Authorship) -> Rollback:
    """Switch a policy off, give its agents a stable one, and put its rollout back to the beginning.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Of a write transaction.
    policy_id : str
        The policy to go back from.
    to : Assigned
        The stable policy: `default`, another policy, or an earlier version of the same one.
    authorship : Authorship
        Who, why and when.

    Raises
    ------
    ServerRefusalError
        404 ``unknown_policy``; 422 ``same_policy``: the latest version of a policy is no way back from itself.

    References
    ----------
    Operations manual, section 7.3.
    """
    lock_revisions(connection)
    stored = require_policy(connection, policy_id)
    earlier = _earlier_version(connection, stored, to)
    state = load_state(connection)
    affected = governed_agents(connection, state, policy_id)
    off = switch_off(connection, state, [policy_id], authorship, percent=_FIRST_STAGE)
    moved, revision = _reassign(connection, state, policy_id, to, authorship)
    if earlier is not None:
        document = replace(
            earlier.document,
            baseline_upload_canary_percent=_FIRST_STAGE,
            fleet_seed_canary_percent=_FIRST_STAGE,
        )
        stored = revise(connection, earlier, document, authorship)
    else:
        stored = require_policy(connection, policy_id)
    set_stage(connection, stored, _FIRST_STAGE, authorship.now)
    freshness = measure_freshness(connection, affected, max(revision, stored.revision), authorship.now)
    steps = [
        _step(1, "done", f"{policy_id} is switched off", revisions=[each.revision for each in off]),
        _reassigned(policy_id, to, moved, earlier),
        _step(3, "operator", "roll binaries back with the package manager, if a binary is at fault"),
        _step(
            4,
            "done" if freshness.is_complete else "pending",
            "heartbeats and inventories of the affected agents; `eguard policy status` shows them as they come",
            **freshness.to_dict(),
        ),
        _step(5, "ready", f"{policy_id} is at stage 0; `eguard policy advance` begins anew", revision=stored.revision),
    ]
    return Rollback(steps, {"to": to._asdict(), "assignments": moved, "revision": stored.revision})


def _earlier_version(connection: sa.Connection, stored: StoredPolicy, to: Assigned) -> StoredPolicy | None:
    """Return the version of the same policy to go back to, None if it is another policy."""
    if to.policy_id != stored.policy_id:
        if to.policy_id != DEFAULT_POLICY_ID:
            require_policy(connection, to.policy_id or "", to.policy_version)
        return None
    if stored.policy_id == DEFAULT_POLICY_ID and to.policy_version is None:
        return None
    earlier = require_policy(connection, stored.policy_id, to.policy_version)
    if earlier.policy_version == stored.policy_version:
        raise ServerRefusalError(
            422,
            "same_policy",
            f"{stored.policy_id} cannot be rolled back to itself",
            errors=[("to_policy_version", "name an earlier version, or another policy")],
        )
    return earlier


def _reassign(
    connection: sa.Connection, state: PolicyState, policy_id: str, to: Assigned, authorship: Authorship
) -> tuple[list[str], int]:
    """Give every agent and group that has the policy the stable one; return their names and the last revision."""
    if policy_id == DEFAULT_POLICY_ID and to.policy_id == DEFAULT_POLICY_ID:
        return [], 0
    moved: list[str] = []
    revision = 0
    scopes: Sequence[Scope] = ("agent", "group")
    for scope in scopes:
        names = [
            scope_id
            for (found, scope_id), given in state.assignments.items()
            if found == scope and given.policy_id == policy_id
        ]
        if names:
            revision = write_assignments(connection, scope, names, to, authorship)
            moved += [f"{scope} {name}" for name in sorted(names)]
    return moved, revision


def _reassigned(policy_id: str, to: Assigned, moved: list[str], earlier: StoredPolicy | None) -> dict[str, Any]:
    version = "" if to.policy_version is None else f" {to.policy_version}"
    if policy_id == DEFAULT_POLICY_ID and earlier is None and to.policy_id == DEFAULT_POLICY_ID:
        return _step(2, "skipped", "agents without an assignment have no other policy: they stay switched off")
    return _step(2, "done", f"reassigned to {to.policy_id}{version}", assignments=moved)


def _step(number: int, state: str, text: str, **facts: Any) -> dict[str, Any]:
    return {"step": number, "state": state, "text": text, **facts}
