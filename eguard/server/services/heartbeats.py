"""Heartbeats: ten thousand agents, each every thirty seconds, and two machines that share one certificate.

Making a commit durable costs the same for one heartbeat as for fifty, so whoever holds the writer takes along those
that waited meanwhile; one that comes alone is written alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

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
from eguard.wire.control import Heartbeat, HeartbeatAnswer

#: Heartbeats in one transaction at most: other writers want their turn.
GROUP: Final = 64
MAX_INCARNATION_CHARACTERS: Final = 64

_MAX_VERSION_CHARACTERS: Final = 64
_agent = endpoint_agent.c
_incarnation = endpoint_incarnation.c
_log = structlog.get_logger("eguard.server")

PendingCommands = Callable[[sa.Connection, Sequence[str], float], Mapping[str, int]]

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
    )
    .where(_agent.agent_id.in_(sa.bindparam("names", expanding=True)))
    .order_by(_agent.agent_id)
    .with_for_update()
)
_KNOWN: Final = sa.select(_incarnation.ordinal).where(
    _incarnation.agent_id == sa.bindparam("name"), _incarnation.incarnation == sa.bindparam("heard")
)
_BEAT: Final = sa.update(endpoint_agent).where(_agent.agent_id == sa.bindparam("name"))


@dataclass(slots=True)
class _Waiting:
    principal: Principal
    beat: Heartbeat
    pending: int = 0
    error: EguardError | None = None
    is_done: bool = False


@dataclass(slots=True)
class _Agent:
    status: str
    incarnation: str
    ordinal: int
    cloned_at: float | None
    heard_hours: int
    heard_hour: int | None


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
    revision_for : callable
        Returns the policy revision that an agent is sent.
    pending_commands : callable
        Returns how many commands wait for whom, given a connection, agents and the time.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        revision_for: Callable[[str], int] = lambda _: 0,
        pending_commands: PendingCommands = lambda *_: {},
    ) -> None:
        self._database = database
        self._clock = clock
        self._revision_for = revision_for
        self._pending_commands = pending_commands
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        self._queue: list[_Waiting] = []

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
        check_incarnation(beat.incarnation)
        waiting = _Waiting(principal, beat)
        with self._guard:
            self._queue.append(waiting)
        with self._writing:
            if not waiting.is_done:
                self._write_group(waiting)
        if waiting.error is not None:
            raise waiting.error
        return HeartbeatAnswer(
            policy_revision=self._revision_for(principal.name),
            commands_pending=waiting.pending,
            server_time_unix=self._clock.now(),
        )

    def _write_group(self, mine: _Waiting) -> None:
        with self._guard:
            self._queue.remove(mine)
            # Rows are locked in one order, so that servers that share a database do not wait for each other in a ring.
            group = sorted([mine, *self._queue[: GROUP - 1]], key=lambda each: each.principal.name)
            del self._queue[: GROUP - 1]
        try:
            self._write(group)
        except EguardError as error:
            for each in group:
                self._write_alone(each, error if len(group) == 1 else None)
        finally:
            for each in group:
                each.is_done = True

    def _write_alone(self, waiting: _Waiting, error: EguardError | None) -> None:
        """Write one by itself, so that one which the database will not have spoils no other."""
        try:
            if error is None:
                self._write([waiting])
        except EguardError as own:
            error = own
        waiting.error = error

    def _write(self, group: list[_Waiting]) -> None:
        now = self._clock.now()

        names = sorted({each.principal.name for each in group})

        def write(connection: sa.Connection) -> Mapping[str, int]:
            agents = _locked(connection, names, now)
            clones: list[_Clone] = []
            changes = [_change(connection, each, agents[each.principal.name], now, clones) for each in group]
            connection.execute(_BEAT, changes)
            pending = self._pending_commands(connection, names, now)
            for clone in clones:
                _record_clone(connection, clone, now)
            return pending

        pending = self._database.retrying(write, is_idempotent=True)
        for each in group:
            each.pending = pending.get(each.principal.name, 0)


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
    for name in names:
        if name not in agents:
            add_agent(connection, name, now)
    return agents if len(agents) == len(names) else _read(connection, names)


def add_agent(connection: sa.Connection, name: str, now: float) -> None:
    """Add an agent that has an operator's certificate; one that is there stays as it is."""
    connection.execute(
        upsert(endpoint_agent, ["agent_id"], update=[]).values(
            agent_id=name, incarnation="", incarnation_ordinal=0, group="default", status="active", enrolled_at=now
        )
    )


def _read(connection: sa.Connection, names: list[str]) -> dict[str, _Agent]:
    return {row.agent_id: _Agent(*row[1:]) for row in connection.execute(_LOCK, {"names": names})}


def _change(
    connection: sa.Connection, waiting: _Waiting, agent: _Agent, now: float, clones: list[_Clone]
) -> dict[str, Any]:
    """Return the columns that a heartbeat sets, and note its incarnation if it is not the agent's latest."""
    name, heard = waiting.principal.name, waiting.beat.incarnation
    if agent.status == "decommissioned":
        raise ServerRefusalError(403, "decommissioned", f"agent {name} was decommissioned; enrol it again")
    if heard != agent.incarnation:
        known = connection.execute(_KNOWN, {"name": name, "heard": heard}).scalar()
        if known is None:
            agent.incarnation, agent.ordinal = heard, agent.ordinal + 1
            connection.execute(
                sa.insert(endpoint_incarnation).values(
                    agent_id=name, incarnation=heard, ordinal=agent.ordinal, registered_at=now
                )
            )
        elif agent.cloned_at is None:
            agent.cloned_at = now
            clones.append(_Clone(waiting.principal, heard, agent.incarnation))
    hour = hour_of(now)
    # Later hours only: servers whose clocks differ by a second would count the same hour again and again.
    if agent.heard_hour is None or hour > agent.heard_hour:
        agent.heard_hours, agent.heard_hour = agent.heard_hours + 1, hour
    return {
        **_vitals(waiting.principal, waiting.beat, now),
        "name": name,
        "incarnation": agent.incarnation,
        "incarnation_ordinal": agent.ordinal,
        "cloned_at": agent.cloned_at,
        "heard_hours": agent.heard_hours,
        "heard_hour": agent.heard_hour,
    }


def _vitals(principal: Principal, beat: Heartbeat, now: float) -> dict[str, Any]:
    return {
        "agent_version": beat.agent_version[:_MAX_VERSION_CHARACTERS],
        "bundle_version": beat.bundle_version and beat.bundle_version[:_MAX_VERSION_CHARACTERS],
        "policy_revision": beat.policy_revision,
        "baseline_status": beat.baseline_status,
        "cpu_fraction": beat.cpu_fraction,
        "rss_bytes": beat.rss_bytes,
        "events_total": beat.events_total,
        "events_lost": beat.events_lost,
        "queue_depth": beat.queue_depth,
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
