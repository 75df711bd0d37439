"""Heartbeats: ten thousand agents, each every thirty seconds, and two machines that share one certificate.

Making a commit durable costs the same for one heartbeat as for fifty, so those that wait together are written together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
import structlog

from eguard.clock import Clock
from eguard.errors import EguardError, ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent, endpoint_incarnation
from eguard.fleet.upsert import upsert
from eguard.fleet.voters import hour_of
from eguard.server.principal import Principal
from eguard.server.services import audit
from eguard.server.services.signal_counts import STALE_TRANSITIONS, TREES_ANOMALOUS, TREES_SEEN
from eguard.wire.control import Heartbeat, HeartbeatAnswer

#: Heartbeats in one transaction at most: other writers want their turn.
GROUP: Final = 64
MAX_INCARNATION_CHARACTERS: Final = 64
#: Process trees that one heartbeat adds at most; agents count a few in the 30 s between two.
MAX_TREES: Final = 10_000

_MAX_VERSION_CHARACTERS: Final = 64
_agent = endpoint_agent.c
_incarnation = endpoint_incarnation.c
_log = structlog.get_logger("eguard.server")

PendingCommands = Callable[[sa.Connection, Sequence[str], float], Mapping[str, int]]
Revisions = Callable[[Sequence[str]], Sequence[int]]

# Made once: to make a statement costs more than to run it, and these run hundreds of times a second.
_LOCK: Final = (
    sa.select(
        _agent.agent_id,
        _agent.status,
        _agent.incarnation,
        _agent.incarnation_ordinal,
        _agent.cloned_at,
        _agent.heard_hours,
        _agent.heard_hour,
        _agent.baseline_status,
        _agent.trees_seen,
        _agent.trees_anomalous,
        _agent.bundle_digest,
        _agent.bundle_since,
    )
    .where(_agent.agent_id.in_(sa.bindparam("names", expanding=True)))
    .order_by(_agent.agent_id)
    .with_for_update()
)
_KNOWN: Final = sa.select(_incarnation.agent_id, _incarnation.incarnation).where(
    _incarnation.agent_id.in_(sa.bindparam("names", expanding=True)),
    _incarnation.incarnation.in_(sa.bindparam("heard", expanding=True)),
)
_ADD: Final = upsert(endpoint_agent, ["agent_id"], update=[])
_BEGIN_LIFE: Final = sa.insert(endpoint_incarnation)
_BEAT: Final = sa.update(endpoint_agent).where(_agent.agent_id == sa.bindparam("name"))


def no_revisions(agent_ids: Sequence[str]) -> list[int]:
    """Return that nobody is sent a policy."""
    return [0] * len(agent_ids)


class Beat(NamedTuple):
    """A heartbeat, and whose."""

    principal: Principal
    beat: Heartbeat


@dataclass(slots=True)
class _Agent:
    status: str
    incarnation: str
    ordinal: int
    cloned_at: float | None
    heard_hours: int
    heard_hour: int | None
    baseline_status: str | None
    trees_seen: int | None
    trees_anomalous: int | None
    bundle_digest: str | None
    bundle_since: float | None


class _Clone(NamedTuple):
    principal: Principal
    heard: str
    latest: str


class Heartbeats:
    """Takes heartbeats in.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        Receive times; what agents' clocks say is not asked.
    revisions_for : callable
        Returns the policy revisions that some agents are sent.
    pending_commands : callable
        Returns how many commands wait for whom, given a connection, agents and the time.
    count : callable
        Called with what committed heartbeats said, by the names of `signal_counts`.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        revisions_for: Revisions = no_revisions,
        pending_commands: PendingCommands = lambda *_: {},
        count: Callable[[Mapping[str, int]], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._count = count
        self._revisions_for = revisions_for
        self._pending_commands = pending_commands

    def take(self, principal: Principal, beat: Heartbeat) -> HeartbeatAnswer:
        """Write down how an agent is, and answer what waits for it.

        The first heartbeat of a machine with an operator's certificate enrols it. A heartbeat of an incarnation after
        a later one was registered means that two machines use one certificate: that is put on record once, and both
        go on being answered.

        Raises
        ------
        ServerRefusalError
            422 ``invalid_incarnation``; 403 ``decommissioned``.
        """
        (answered,) = self.take_all([Beat(principal, beat)])
        if isinstance(answered, EguardError):
            raise answered
        return answered

    def take_all(self, beats: Sequence[Beat]) -> list[HeartbeatAnswer | EguardError]:
        """Take several heartbeats in one transaction; whoever is refused gets the error, and spoils no other."""
        # Rows are locked in one order, so that servers that share a database do not wait for each other in a ring.
        order = sorted(range(len(beats)), key=lambda number: beats[number].principal.name)
        group = [beats[number] for number in order]
        try:
            answered: list[HeartbeatAnswer | EguardError] = [*self._write(group)]
        except EguardError as error:
            answered = [error] if len(group) == 1 else [self._take_alone(each) for each in group]
        return [answer for _, answer in sorted(zip(order, answered, strict=True), key=lambda pair: pair[0])]

    def _take_alone(self, beat: Beat) -> HeartbeatAnswer | EguardError:
        try:
            return self._write([beat])[0]
        except EguardError as error:
            return error

    def _write(self, group: list[Beat]) -> list[HeartbeatAnswer]:
        for each in group:
            check_incarnation(each.beat.incarnation)
        now = self._clock.now()
        names = sorted({each.principal.name for each in group})

        def write(connection: sa.Connection) -> tuple[Mapping[str, int], Counter[str]]:
            agents = _locked(connection, names, now)
            clones: list[_Clone] = []
            counts = Counter[str]()
            for each in group:
                counts.update(_signals(agents[each.principal.name], each.beat))
            lives = _Lives(connection, group, agents)
            changes = [_change(lives, each, agents[each.principal.name], now, clones) for each in group]
            if lives.begun:
                connection.execute(_BEGIN_LIFE, lives.begun)
            connection.execute(_BEAT, changes)
            pending = self._pending_commands(connection, names, now)
            for clone in clones:
                _record_clone(connection, clone, now)
            return pending, counts

        pending, counts = self._database.retrying(write, is_idempotent=True)
        self._count(counts)
        revisions = dict(zip(names, self._revisions_for(names), strict=True))
        return [
            HeartbeatAnswer(
                policy_revision=revisions[each.principal.name],
                commands_pending=pending.get(each.principal.name, 0),
                server_time_unix=self._clock.now(),
            )
            for each in group
        ]


def check_incarnation(incarnation: str) -> None:
    """Refuse an incarnation that is longer than any agent makes.

    Raises
    ------
    ServerRefusalError
        422 ``invalid_incarnation``.
    """
    if len(incarnation) > MAX_INCARNATION_CHARACTERS:
        detail = f"at most {MAX_INCARNATION_CHARACTERS} characters"
        raise ServerRefusalError(422, "invalid_incarnation", f"incarnation: {detail}", errors=[("incarnation", detail)])


def _locked(connection: sa.Connection, names: list[str], now: float) -> dict[str, _Agent]:
    """Return the agents, locked to the end of the transaction; one that nobody heard of yet is added."""
    agents = _read(connection, names)
    added = [_new_agent(name, now) for name in names if name not in agents]
    if added:
        connection.execute(_ADD, added)
    return agents if len(agents) == len(names) else _read(connection, names)


def add_agent(connection: sa.Connection, name: str, now: float) -> None:
    """Add an agent that has an operator's certificate; one that is there stays as it is."""
    connection.execute(_ADD, [_new_agent(name, now)])


def _new_agent(name: str, now: float) -> dict[str, Any]:
    return {
        "agent_id": name,
        "incarnation": "",
        "incarnation_ordinal": 0,
        "group": "default",
        "status": "active",
        "enrolled_at": now,
    }


def _read(connection: sa.Connection, names: list[str]) -> dict[str, _Agent]:
    return {row.agent_id: _Agent(*tuple(row)[1:]) for row in connection.execute(_LOCK, {"names": names})}


class _Lives:
    """Incarnations of a group's agents: which were heard of, and which begin with this group.

    Parameters
    ----------
    connection : Connection
    group : list of Beat
    agents : dict of str to _Agent
        By name, as they were before the group.
    """

    def __init__(self, connection: sa.Connection, group: list[Beat], agents: dict[str, _Agent]) -> None:
        strangers = {
            (each.principal.name, each.beat.incarnation)
            for each in group
            if each.beat.incarnation != agents[each.principal.name].incarnation
        }
        self._known = {(name, agent.incarnation) for name, agent in agents.items() if agent.ordinal > 0}
        self.begun: list[dict[str, Any]] = []
        if strangers:
            names, heard = ({pair[side] for pair in strangers} for side in (0, 1))
            rows = connection.execute(_KNOWN, {"names": sorted(names), "heard": sorted(heard)})
            self._known.update((row[0], row[1]) for row in rows)

    def begin(self, name: str, incarnation: str, ordinal: int, now: float) -> bool:
        """Note an incarnation that was never heard of; return false for one that was."""
        if (name, incarnation) in self._known:
            return False
        self._known.add((name, incarnation))
        self.begun.append({"agent_id": name, "incarnation": incarnation, "ordinal": ordinal, "registered_at": now})
        return True


def _change(lives: _Lives, waiting: Beat, agent: _Agent, now: float, clones: list[_Clone]) -> dict[str, Any]:
    """Return the columns that a heartbeat sets, and note its incarnation if it is not the agent's latest."""
    name, heard = waiting.principal.name, waiting.beat.incarnation
    if agent.status == "decommissioned":
        raise ServerRefusalError(403, "decommissioned", f"agent {name} was decommissioned; enrol it again")
    if heard != agent.incarnation:
        if lives.begin(name, heard, agent.ordinal + 1, now):
            agent.incarnation, agent.ordinal = heard, agent.ordinal + 1
        elif agent.cloned_at is None:
            agent.cloned_at = now
            clones.append(_Clone(waiting.principal, heard, agent.incarnation))
    hour = hour_of(now)
    # Later hours only: servers whose clocks differ by a second would count the same hour again and again.
    if agent.heard_hour is None or hour > agent.heard_hour:
        agent.heard_hours, agent.heard_hour = agent.heard_hours + 1, hour
    if waiting.beat.bundle_digest != agent.bundle_digest or agent.bundle_since is None:
        agent.bundle_digest, agent.bundle_since = waiting.beat.bundle_digest, now
    return {
        **_vitals(waiting.principal, waiting.beat, now),
        "bundle_digest": agent.bundle_digest,
        "bundle_since": agent.bundle_since,
        "name": name,
        "incarnation": agent.incarnation,
        "incarnation_ordinal": agent.ordinal,
        "cloned_at": agent.cloned_at,
        "heard_hours": agent.heard_hours,
        "heard_hour": agent.heard_hour,
    }


def _signals(agent: _Agent, beat: Heartbeat) -> dict[str, int]:
    """Return what a heartbeat adds to the signals, and note it: a second one in a group adds what came since."""
    found = {}
    if beat.baseline_status == "stale" and agent.baseline_status in {"learning", "active"}:
        found[STALE_TRANSITIONS] = 1
    agent.baseline_status = beat.baseline_status
    if beat.trees_seen is not None and beat.trees_anomalous is not None:
        found[TREES_SEEN] = seen = _risen(agent.trees_seen, beat.trees_seen)
        found[TREES_ANOMALOUS] = min(_risen(agent.trees_anomalous, beat.trees_anomalous), seen)
        agent.trees_seen, agent.trees_anomalous = beat.trees_seen, beat.trees_anomalous
    return found


def _risen(before: int | None, now: int) -> int:
    """Return how much an agent's counter rose, from 0 where the agent was started anew; no agent outweighs a fleet."""
    return min(now - before if before is not None and now >= before else now, MAX_TREES)


def _vitals(principal: Principal, beat: Heartbeat, now: float) -> dict[str, Any]:
    return {
        "agent_version": beat.agent_version[:_MAX_VERSION_CHARACTERS],
        "bundle_version": beat.bundle_version and beat.bundle_version[:_MAX_VERSION_CHARACTERS],
        "bundle_state": beat.bundle_state,
        "refused_digest": beat.refused_digest,
        "refused_code": beat.refused_code,
        "shadow": None if beat.shadow is None else msgspec.structs.asdict(beat.shadow),
        "policy_revision": beat.policy_revision,
        "baseline_status": beat.baseline_status,
        "cpu_fraction": beat.cpu_fraction,
        "rss_bytes": beat.rss_bytes,
        "events_total": beat.events_total,
        "events_lost": beat.events_lost,
        "queue_depth": beat.queue_depth,
        "trees_seen": beat.trees_seen,
        "trees_anomalous": beat.trees_anomalous,
        "destinations_scored": beat.destinations_scored,
        "destinations_confirmed": beat.destinations_confirmed,
        "destinations_alpha": beat.destinations_alpha,
        "address": principal.address[:64],
        "last_heartbeat": now,
    }


def _record_clone(connection: sa.Connection, clone: _Clone, now: float) -> None:
    name = clone.principal.name
    _log.warning("two machines use one certificate", agent_id=name, incarnations=[clone.heard, clone.latest])
    audit.record(
        connection,
        clone.principal,
        action="endpoint.clone_detected",
        object_type="agent",
        object_id=name,
        detail={"heard_again": clone.heard, "latest": clone.latest},
        now=now,
    )
