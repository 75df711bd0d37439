"""Everything that decides which policy an agent is sent, read at once and looked at without a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import sqlalchemy as sa
import structlog

from eguard.errors import PolicyError
from eguard.fleet.tables import endpoint_agent, endpoint_whitelist, policy, policy_assignment, policy_key
from eguard.policy import DEFAULT_POLICY_ID, PolicyDocument, parse_policy_document
from eguard.server.services.revisions import POLICY_REVISION, REVISION_FLOOR, WHITELIST_REVISION, read_counters
from eguard.wire.policy import WhitelistEntry

Scope = Literal["agent", "group"]
Source = Literal["agent", "group", "default"]

_log = structlog.get_logger("eguard.server")
#: A document that cannot be read allows nothing.
_NOTHING: Final = PolicyDocument(baseline_upload_enabled=False, fleet_seed_enabled=False)


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """One revision of a policy."""

    revision: int
    policy_id: str
    policy_version: str
    rollout_id: str
    mode_revision: int
    document: PolicyDocument
    reason: str = ""
    created_by: str = ""
    created_at: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "revision": self.revision,
            "policy_id": self.policy_id,
            "policy_version": self.policy_version,
            "rollout_id": self.rollout_id,
            "mode_revision": self.mode_revision,
            "policy_json": self.document.to_json(),
            "reason": self.reason,
            "created_by": self.created_by,
            "created_at_unix": self.created_at,
        }


#: What agents are sent on a database without a policy called `default`: nothing that overrides their settings.
BUILT_IN: Final = StoredPolicy(
    revision=0,
    policy_id=DEFAULT_POLICY_ID,
    policy_version="v1",
    rollout_id=DEFAULT_POLICY_ID,
    mode_revision=0,
    document=PolicyDocument(),
)


class Assignment(NamedTuple):
    """Who was given which policy; without an id it was withdrawn, without a version the latest of the id is meant."""

    policy_id: str | None
    policy_version: str | None
    revision: int


class Place(NamedTuple):
    """An agent's group, and the revision at which it came into it."""

    group: str
    group_revision: int


class Chosen(NamedTuple):
    """The policy of one agent, where it comes from, and the revisions that the agent is sent."""

    policy: StoredPolicy
    source: Source
    revision: int
    mode_revision: int


class KeyRow(NamedTuple):
    """A signing key's public half and its life, in seconds since the epoch."""

    key_id: str
    public_key: str
    active_from: float
    retired_at: float | None


@dataclass(slots=True)
class PolicyState:
    """Policies, assignments, groups, whitelist and keys as of one value of the revision counter.

    Parameters
    ----------
    counter, whitelist_revision, floor : int
        The counters.
    policies : mapping of (policy_id, policy_version) to StoredPolicy
        The latest revision of each version.
    assignments : mapping of (scope, scope_id) to Assignment
    places : dict of agent_id to Place
        Grows as agents are asked for that enrolled later.
    whitelist : tuple of (scope, scope_id, WhitelistEntry)
    keys : tuple of KeyRow
        By the time from which they sign.
    """

    counter: int = 0
    whitelist_revision: int = 0
    floor: int = 0
    policies: Mapping[tuple[str, str], StoredPolicy] = field(default_factory=dict)
    assignments: Mapping[tuple[str, str], Assignment] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    whitelist: tuple[tuple[str, str, WhitelistEntry], ...] = ()
    keys: tuple[KeyRow, ...] = ()
    latest: Mapping[str, StoredPolicy] = field(init=False)

    def __post_init__(self) -> None:
        by_id: dict[str, StoredPolicy] = {}
        for stored in sorted(self.policies.values(), key=lambda each: each.revision):
            by_id[stored.policy_id] = stored
        self.latest = by_id

    def find(self, policy_id: str, policy_version: str | None = None) -> StoredPolicy | None:
        """Return the latest revision of a policy, or of one of its versions."""
        if policy_version is None:
            return self.latest.get(policy_id)
        return self.policies.get((policy_id, policy_version))

    def chosen(self, agent_id: str, place: Place) -> Chosen:
        """Return the agent's policy: its own assignment, else its group's, else `default`.

        Notes
        -----
        The revision is the highest of everything that ever had a say, withdrawn assignments included. A change takes
        a revision above all others, so what the agent is sent never falls.
        """
        by_agent = self.assignments.get(("agent", agent_id))
        by_group = self.assignments.get(("group", place.group))
        policy, source, asked = self._first(by_agent, by_group, place)
        said = [each.revision for each in (by_agent, by_group) if each is not None]
        revision = max(policy.revision, place.group_revision, self.whitelist_revision, self.floor, *said)
        mode_revision = max(policy.mode_revision, asked) if policy.document.baseline_mode is not None else 0
        return Chosen(policy, source, revision, mode_revision)

    def _first(
        self, by_agent: Assignment | None, by_group: Assignment | None, place: Place
    ) -> tuple[StoredPolicy, Source, int]:
        own = self._assigned(by_agent)
        if own is not None and by_agent is not None:
            return own, "agent", by_agent.revision
        groups = self._assigned(by_group)
        if groups is not None and by_group is not None:
            return groups, "group", max(by_group.revision, place.group_revision)
        return self.latest.get(DEFAULT_POLICY_ID, BUILT_IN), "default", 0

    def _assigned(self, assignment: Assignment | None) -> StoredPolicy | None:
        if assignment is None or assignment.policy_id is None:
            return None
        return self.find(assignment.policy_id, assignment.policy_version)

    def whitelist_for(self, agent_id: str, group: str, now: float) -> list[WhitelistEntry]:
        """Return the entries that hold for an agent now."""
        scopes = {("fleet", ""), ("group", group), ("agent", agent_id)}
        return [
            entry
            for scope, scope_id, entry in self.whitelist
            if (scope, scope_id) in scopes and (entry.expires_at_unix is None or entry.expires_at_unix > now)
        ]


def load_state(connection: sa.Connection) -> PolicyState:
    """Read everything in one transaction."""
    counters = read_counters(connection)
    return PolicyState(
        counter=counters[POLICY_REVISION],
        whitelist_revision=counters[WHITELIST_REVISION],
        floor=counters[REVISION_FLOOR],
        policies={(each.policy_id, each.policy_version): each for each in _latest_policies(connection)},
        assignments={
            (row.scope, row.scope_id): Assignment(row.policy_id, row.policy_version, row.revision)
            for row in connection.execute(sa.select(policy_assignment))
        },
        places={row.agent_id: Place(row.group, row.group_revision) for row in connection.execute(_PLACES)},
        whitelist=tuple(
            (row.scope, row.scope_id, _entry(row))
            for row in connection.execute(sa.select(endpoint_whitelist).order_by(endpoint_whitelist.c.entry_id))
        ),
        keys=load_keys(connection),
    )


def load_places(connection: sa.Connection, agent_ids: Sequence[str]) -> dict[str, Place]:
    """Return the groups of some agents; one that is not enrolled is left out."""
    rows = connection.execute(_SOME_PLACES, {"agent_ids": list(agent_ids)})
    return {row.agent_id: Place(row.group, row.group_revision) for row in rows}


def load_keys(connection: sa.Connection) -> tuple[KeyRow, ...]:
    """Return the signing keys by the time from which they sign."""
    query = sa.select(policy_key).order_by(policy_key.c.active_from, policy_key.c.key_id)
    return tuple(
        KeyRow(row.key_id, row.public_key, row.active_from, row.retired_at) for row in connection.execute(query)
    )


def read_policy(row: sa.Row[Any]) -> StoredPolicy:
    """Return a row of the table; a document that cannot be read switches everything off."""
    try:
        document = parse_policy_document(row.document)
    except PolicyError as error:
        _log.error("stored policy cannot be read", policy_id=row.policy_id, revision=row.revision, cause=str(error))
        document = _NOTHING
    return StoredPolicy(
        revision=row.revision,
        policy_id=row.policy_id,
        policy_version=row.policy_version,
        rollout_id=row.rollout_id,
        mode_revision=row.mode_revision,
        document=document,
        reason=row.reason,
        created_by=row.created_by,
        created_at=row.created_at,
    )


_PLACES: Final = sa.select(endpoint_agent.c.agent_id, endpoint_agent.c.group, endpoint_agent.c.group_revision)
# Made once, as every agent is looked up that is new.
_SOME_PLACES: Final = _PLACES.where(endpoint_agent.c.agent_id.in_(sa.bindparam("agent_ids", expanding=True)))


def _latest_policies(connection: sa.Connection) -> list[StoredPolicy]:
    column = policy.c
    newest = sa.select(sa.func.max(column.revision)).group_by(column.policy_id, column.policy_version)
    revisions = [row[0] for row in connection.execute(newest)]
    rows = connection.execute(sa.select(policy).where(column.revision.in_(revisions)).order_by(column.revision))
    return [read_policy(row) for row in rows]


def _entry(row: sa.Row[Any]) -> WhitelistEntry:
    return WhitelistEntry(entry_id=row.entry_id, kind=row.kind, value=row.value, expires_at_unix=row.expires_at)
