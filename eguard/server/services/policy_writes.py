"""Rows of policies and assignments, written in a caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import sqlalchemy as sa

from eguard.errors import ServerRefusalError
from eguard.fleet.tables import policy, policy_assignment, rollout
from eguard.fleet.upsert import upsert
from eguard.policy import PolicyDocument
from eguard.server.principal import Principal
from eguard.server.services.cohorts import shares
from eguard.server.services.policy_state import Scope, StoredPolicy, read_policy
from eguard.server.services.revisions import next_revision


class Authorship(NamedTuple):
    """Who writes, why, and when."""

    principal: Principal
    reason: str
    now: float


def insert_revision(
    connection: sa.Connection,
    policy_id: str,
    policy_version: str,
    document: PolicyDocument,
    authorship: Authorship,
    *,
    mode_revision: int | None = None,
) -> StoredPolicy:
    """Write the next revision of a policy and return it.

    Parameters
    ----------
    connection, policy_id, policy_version, document, authorship
        What is written, where, and by whom.
    mode_revision : int, optional
        When the baseline mode was asked for; this revision if not given.
    """
    revision = next_revision(connection)
    stored = StoredPolicy(
        revision=revision,
        policy_id=policy_id,
        policy_version=policy_version,
        rollout_id=document.rollout_id or policy_id,
        mode_revision=revision if mode_revision is None else mode_revision,
        document=document,
        reason=authorship.reason,
        created_by=authorship.principal.name[:128],
        created_at=authorship.now,
    )
    connection.execute(
        sa.insert(policy).values(
            revision=revision,
            policy_id=policy_id,
            policy_version=policy_version,
            rollout_id=stored.rollout_id,
            mode_revision=stored.mode_revision,
            document=document.to_json(),
            reason=stored.reason,
            created_by=stored.created_by,
            created_at=stored.created_at,
        )
    )
    return stored


def revise(
    connection: sa.Connection, stored: StoredPolicy, document: PolicyDocument, authorship: Authorship
) -> StoredPolicy:
    """Write another revision of what is stored; nobody learns anew for it."""
    # The salt stays what it was, whatever the document says of it: another one would deal the cohorts anew.
    kept = replace(document, rollout_id=stored.document.rollout_id, baseline_mode=stored.document.baseline_mode)
    return insert_revision(
        connection,
        stored.policy_id,
        stored.policy_version,
        kept,
        authorship,
        mode_revision=stored.mode_revision,
    )


def latest_policy(
    connection: sa.Connection, policy_id: str, policy_version: str | None = None, *, enabled: bool = False
) -> StoredPolicy | None:
    """Return the latest revision of a policy, of one of its versions, or of those that allow anything."""
    query = sa.select(policy).where(policy.c.policy_id == policy_id).order_by(policy.c.revision.desc())
    if policy_version is not None:
        query = query.where(policy.c.policy_version == policy_version)
    for row in connection.execute(query if enabled else query.limit(1)):
        stored = read_policy(row)
        if not enabled or not is_switched_off(stored.document):
            return stored
    return None


def require_policy(connection: sa.Connection, policy_id: str, policy_version: str | None = None) -> StoredPolicy:
    """Return the latest revision of a policy.

    Raises
    ------
    ServerRefusalError
        404 ``unknown_policy``.
    """
    found = latest_policy(connection, policy_id, policy_version)
    if found is None:
        version = "" if policy_version is None else f" version {policy_version}"
        raise ServerRefusalError(404, "unknown_policy", f"there is no policy {policy_id}{version}")
    return found


def is_switched_off(document: PolicyDocument) -> bool:
    """Return whether both directions are switched off."""
    return document.baseline_upload_enabled is False and document.fleet_seed_enabled is False


class Assigned(NamedTuple):
    """What an assignment says: a policy and its version, or none where it is withdrawn."""

    policy_id: str | None = None
    policy_version: str | None = None


def write_assignments(
    connection: sa.Connection, scope: Scope, scope_ids: Sequence[str], assigned: Assigned, authorship: Authorship
) -> int:
    """Assign agents or groups to a policy, or to none, at one new revision, and return it."""
    revision = next_revision(connection)
    connection.execute(
        upsert(policy_assignment, ["scope", "scope_id"]),
        [
            {
                "scope": scope,
                "scope_id": scope_id,
                "policy_id": assigned.policy_id,
                "policy_version": assigned.policy_version,
                "revision": revision,
                "assigned_by": authorship.principal.name[:128],
                "assigned_at": authorship.now,
            }
            for scope_id in sorted(scope_ids)
        ],
    )
    return revision


def follow_rollout(connection: sa.Connection, stored: StoredPolicy, now: float) -> None:
    """Bring the rollout's row to the share that a policy was posted with.

    A policy that switches everything off moves no rollout. One that says nothing of shares means everybody, and begins
    no rollout.

    Raises
    ------
    ServerRefusalError
        409 ``rollout_frozen``: a rollout of the policy is frozen, and this would widen it; ``rollout_taken``: another
        policy deals its cohorts under this id.
    """
    if is_switched_off(stored.document):
        return
    percent = max(shares(stored.document))
    column = rollout.c
    query = sa.select(rollout).where(
        sa.or_(column.rollout_id == stored.rollout_id, column.policy_id == stored.policy_id)
    )
    rows = {row.rollout_id: row for row in connection.execute(query)}
    held = rows.get(stored.rollout_id)
    if held is not None and held.policy_id != stored.policy_id:
        raise ServerRefusalError(
            409, "rollout_taken", f"the rollout {stored.rollout_id} belongs to the policy {held.policy_id}"
        )
    for row in rows.values():
        if row.frozen_at is not None and percent > row.stage_percent:
            raise ServerRefusalError(
                409,
                "rollout_frozen",
                f"the rollout {row.rollout_id} is frozen at {row.stage_percent:g} %: {row.frozen_reason}",
                remedy="Resume it first.",
            )
    says_nothing = stored.document.baseline_upload_canary_percent is stored.document.fleet_seed_canary_percent is None
    if (held is None and says_nothing) or (held is not None and held.stage_percent == percent):
        return
    set_stage(connection, stored, percent, now)


def set_stage(connection: sa.Connection, stored: StoredPolicy, percent: float, now: float) -> None:
    """Record that a rollout is at a share from now on."""
    connection.execute(
        upsert(rollout, ["rollout_id"]).values(
            rollout_id=stored.rollout_id, policy_id=stored.policy_id, stage_percent=percent, stage_since=now
        )
    )
