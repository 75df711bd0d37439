"""Policies as operators handle them: written, given to agents and groups, taken back, sized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

import sqlalchemy as sa

from eguard.clock import Clock
from eguard.errors import PolicyError, ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent, policy, policy_assignment
from eguard.policy import PolicyDocument, check_rollout_id
from eguard.server.principal import Principal
from eguard.server.services import audit
from eguard.server.services.cohorts import active_agents, governed_agents, populate, preview_cohorts
from eguard.server.services.policy_keys import PolicyKeys
from eguard.server.services.policy_state import Scope, StoredPolicy, load_state, read_policy
from eguard.server.services.policy_view import PolicyView
from eguard.server.services.policy_writes import (
    Assigned,
    Authorship,
    follow_rollout,
    insert_revision,
    latest_policy,
    require_policy,
    write_assignments,
)
from eguard.server.services.revisions import lock_revisions, next_revision, raise_floor
from eguard.server.services.sent_policies import SentPolicies

_HISTORY_ROWS: Final = 200

_Result = TypeVar("_Result")


class Target(NamedTuple):
    """Whom an assignment is for: an agent or a group."""

    scope: Scope
    scope_id: str


class Policies(SentPolicies):
    """The fleet's policies: written, assigned, and, by `SentPolicies`, sent.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        Times of rows and of the whitelist.
    keys : PolicyKeys
        What policies are signed with.
    view : PolicyView
        What is in force, in memory.
    """

    def __init__(self, database: Database, clock: Clock, keys: PolicyKeys, view: PolicyView) -> None:
        super().__init__(clock, keys, view)
        self._database = database

    def create(
        self, principal: Principal, policy_id: str, policy_version: str, document: PolicyDocument, reason: str = ""
    ) -> tuple[StoredPolicy, bool]:
        """Write a revision of a policy; return it, and whether it is new.

        A document that equals the latest revision of its id and version changes nothing. `baseline_mode` is asked for
        where it differs from the latest revision of the policy: posting the next share with the same mode has nobody
        learn anew.

        Raises
        ------
        PolicyError
            The id or the version is not printable text of 1 to 64 bytes.
        ServerRefusalError
            409 ``rollout_frozen`` or ``rollout_taken``.
        """
        _check_name("policy_id", policy_id)
        _check_name("policy_version", policy_version)
        authorship = Authorship(principal, reason, self._clock.now())

        def write(connection: sa.Connection) -> tuple[StoredPolicy, bool]:
            lock_revisions(connection)
            held = latest_policy(connection, policy_id, policy_version)
            if held is not None and held.document == document:
                return held, False
            before = latest_policy(connection, policy_id)
            same = before is not None and before.document.baseline_mode == document.baseline_mode
            stored = insert_revision(
                connection,
                policy_id,
                policy_version,
                document,
                authorship,
                mode_revision=before.mode_revision if before is not None and same else None,
            )
            follow_rollout(connection, stored, authorship.now)
            self._record(connection, authorship, "policy.create", ("policy", policy_id), _summary(stored))
            return stored, True

        return self._changing(write)

    def get(self, policy_id: str, policy_version: str | None = None) -> StoredPolicy:
        """Return the latest revision of a policy.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_policy``.
        """
        with self._database.read() as connection:
            return require_policy(connection, policy_id, policy_version)

    def history(self, policy_id: str) -> list[StoredPolicy]:
        """Return a policy's revisions, newest first."""
        query = sa.select(policy).where(policy.c.policy_id == policy_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(policy.c.revision.desc()).limit(_HISTORY_ROWS))
            return [read_policy(row) for row in rows]

    def overview(self) -> dict[str, Any]:
        """Return the latest revision of every version, every assignment, and how many agents each policy governs."""
        with self._database.read() as connection:
            state = load_state(connection)
            agents = active_agents(connection)
        governed: dict[str, int] = {}
        for agent_id, place in agents.items():
            chosen = state.chosen(agent_id, place).policy.policy_id
            governed[chosen] = governed.get(chosen, 0) + 1
        policies = sorted(state.policies.values(), key=lambda stored: (stored.policy_id, stored.revision))
        return {
            "revision": state.counter,
            "policies": [stored.to_dict() for stored in policies],
            "assignments": [
                {"scope": scope, "scope_id": scope_id, **given._asdict()}
                for (scope, scope_id), given in sorted(state.assignments.items())
                if given.policy_id is not None
            ],
            "agents": governed,
        }

    def assign(self, principal: Principal, target: Target, assigned: Assigned, reason: str = "") -> dict[str, Any]:
        """Give an agent or a group a policy; without a version it follows the policy's latest one.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_policy`` or ``unknown_agent``.
        """
        return self._assign(principal, target, assigned, reason, action="policy.assign")

    def withdraw(self, principal: Principal, target: Target, reason: str = "") -> dict[str, Any]:
        """Take an agent's or a group's assignment back; what is left is its group's, or `default`.

        Raises
        ------
        ServerRefusalError
            404 ``not_assigned``.
        """
        return self._assign(principal, target, Assigned(), reason, action="policy.withdraw")

    def reissue(self, principal: Principal, reason: str = "") -> dict[str, int]:
        """Send every agent its policy anew, above any revision that an agent has reported.

        A database restored from a copy counts on from where the copy was made; agents refuse revisions below the one
        that they have.
        """
        authorship = Authorship(principal, reason, self._clock.now())

        def write(connection: sa.Connection) -> dict[str, int]:
            lock_revisions(connection)
            reported = connection.execute(sa.select(sa.func.max(endpoint_agent.c.policy_revision))).scalar() or 0
            revision = next_revision(connection, above=int(reported))
            raise_floor(connection, revision)
            answered = {"revision": revision, "highest_reported": int(reported)}
            self._record(connection, authorship, "policy.reissue", ("policy", "*"), answered)
            return answered

        return self._changing(write)

    def rotate_key(self, principal: Principal, reason: str = "") -> dict[str, Any]:
        """Announce a new signing key; it signs when the overlap is over.

        Raises
        ------
        ServerRefusalError
            409 ``rotation_pending``.
        """
        key = self._keys.rotate(principal, reason)
        keys = [each for each in self._view.state().keys if each.key_id == key.key_id]
        return {"key_id": key.key_id, "public_key": key.public_key, "active_from_unix": keys[0].active_from}

    def preview(
        self, document: PolicyDocument, rollout_id: str | None = None, policy_id: str | None = None
    ) -> dict[str, Any]:
        """Return the cohorts that a document would have today.

        Parameters
        ----------
        document : PolicyDocument
            What would be posted.
        rollout_id : str, optional
            Salt of the buckets; the document's, else the policy's id.
        policy_id : str, optional
            Count only agents that this policy is sent to; without it all active agents.
        """
        salt = rollout_id or document.rollout_id or policy_id or "default"
        with self._database.read() as connection:
            agents = (
                list(active_agents(connection))
                if policy_id is None
                else governed_agents(connection, load_state(connection), policy_id)
            )
        return preview_cohorts(populate(agents, salt), salt, document) | {"policy_id": policy_id}

    def _assign(
        self, principal: Principal, target: Target, assigned: Assigned, reason: str, *, action: str
    ) -> dict[str, Any]:
        authorship = Authorship(principal, reason, self._clock.now())

        def write(connection: sa.Connection) -> dict[str, Any]:
            lock_revisions(connection)
            held = _assignment(connection, target)
            if assigned.policy_id is None:
                if held is None or held.policy_id is None:
                    raise ServerRefusalError(404, "not_assigned", f"{target.scope} {target.scope_id} has no assignment")
            else:
                require_policy(connection, assigned.policy_id, assigned.policy_version)
            agents = _count_agents(connection, target)
            answered = {**target._asdict(), **assigned._asdict(), "agents": agents}
            if held is not None and (held.policy_id, held.policy_version) == assigned:
                return {**answered, "revision": held.revision, "changed": False}
            revision = write_assignments(connection, target.scope, [target.scope_id], assigned, authorship)
            said = {**assigned._asdict(), "scope": target.scope, "revision": revision}
            self._record(connection, authorship, action, (target.scope, target.scope_id), said)
            return {**answered, "revision": revision, "changed": True}

        return self._changing(write)

    def _changing(self, write: Callable[[sa.Connection], _Result]) -> _Result:
        result = self._database.retrying(write)
        self._view.changed()
        return result

    @staticmethod
    def _record(
        connection: sa.Connection,
        authorship: Authorship,
        action: str,
        about: tuple[str, str],
        detail: dict[str, Any],
    ) -> None:
        audit.record(
            connection,
            authorship.principal,
            action=action,
            object_type=about[0],
            object_id=about[1],
            detail={**detail, "reason": authorship.reason},
            now=authorship.now,
        )


def _check_name(field: str, name: str) -> None:
    # The id is the salt of the buckets unless the document names another.
    try:
        check_rollout_id(name)
    except ValueError as error:
        raise PolicyError(f"{field}: {error}", errors=[(field, str(error))], reason="invalid_policy") from error


def _summary(stored: StoredPolicy) -> dict[str, Any]:
    return {
        "policy_version": stored.policy_version,
        "revision": stored.revision,
        "rollout_id": stored.rollout_id,
        "policy_json": stored.document.to_json(),
    }


def _assignment(connection: sa.Connection, target: Target) -> sa.Row[Any] | None:
    column = policy_assignment.c
    query = sa.select(policy_assignment).where(column.scope == target.scope, column.scope_id == target.scope_id)
    return connection.execute(query).one_or_none()


def _count_agents(connection: sa.Connection, target: Target) -> int:
    """Return how many agents a target has; an agent that is unknown is refused, a group may be filled later."""
    column = endpoint_agent.c
    named = column.agent_id if target.scope == "agent" else column.group
    query = sa.select(sa.func.count()).where(named == target.scope_id, column.status != "decommissioned")
    count = int(connection.execute(query).scalar_one())
    if target.scope == "agent" and not count:
        raise ServerRefusalError(404, "unknown_agent", f"there is no agent {target.scope_id}")
    return count
