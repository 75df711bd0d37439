"""Switching policies off, in a caller's transaction: what the kill switch and a rollback begin with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import sqlalchemy as sa

from eguard.fleet.tables import rollout
from eguard.policy import DEFAULT_POLICY_ID
from eguard.server.services.policy_state import BUILT_IN, PolicyState, StoredPolicy
from eguard.server.services.policy_writes import Authorship, is_switched_off, revise


def policies_in_force(state: PolicyState) -> set[str]:
    """Return the policies that agents may be sent: the assigned ones and `default`."""
    assigned = {each.policy_id for each in state.assignments.values() if each.policy_id is not None}
    return {policy_id for policy_id in assigned if state.find(policy_id) is not None} | {DEFAULT_POLICY_ID}


def switch_off(
    connection: sa.Connection,
    state: PolicyState,
    policy_ids: Collection[str],
    authorship: Authorship,
    *,
    percent: float | None = None,
) -> list[StoredPolicy]:
    """Write a revision of every version of these policies that switches both directions off.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Of a write transaction.
    state : PolicyState
        Read in this transaction.
    policy_ids : collection of str
        Policies to switch off; `default` is made if there is none.
    authorship : Authorship
        For the revisions.
    percent : float, optional
        What both shares are set to, so that nobody is in when the switches are on again.

    Returns
    -------
    list of StoredPolicy
        The revisions written. A version that is off already is left alone, unless it is the latest of its policy and
        an older one was written: which version is the latest does not change.
    """
    written: list[StoredPolicy] = []
    for policy_id in sorted(policy_ids):
        versions = [stored for (found, _), stored in sorted(state.policies.items()) if found == policy_id]
        if not versions and policy_id == DEFAULT_POLICY_ID:
            versions = [BUILT_IN]
        versions.sort(key=lambda stored: stored.revision)
        has_written = False
        for stored in versions:
            is_off = is_switched_off(stored.document) and (percent is None or _has_percent(stored, percent))
            if is_off and not (has_written and stored is versions[-1]):
                continue
            off = replace(stored.document, baseline_upload_enabled=False, fleet_seed_enabled=False)
            if percent is not None:
                off = replace(off, baseline_upload_canary_percent=percent, fleet_seed_canary_percent=percent)
            written.append(revise(connection, stored, off, authorship))
            has_written = True
    return written


def freeze_rollouts(
    connection: sa.Connection, authorship: Authorship, *, where: sa.ColumnElement[bool] | None = None
) -> list[str]:
    """Freeze the rollouts that are not frozen yet and return their ids."""
    column = rollout.c
    condition = column.frozen_at.is_(None) if where is None else sa.and_(column.frozen_at.is_(None), where)
    found = [row[0] for row in connection.execute(sa.select(column.rollout_id).where(condition))]
    if found:
        connection.execute(
            sa.update(rollout)
            .where(column.rollout_id.in_(found))
            .values(
                frozen_at=authorship.now,
                frozen_by=authorship.principal.name[:128],
                frozen_reason=authorship.reason[:255],
            )
        )
    return sorted(found)


def _has_percent(stored: StoredPolicy, percent: float) -> bool:
    document = stored.document
    return document.baseline_upload_canary_percent == document.fleet_seed_canary_percent == percent
