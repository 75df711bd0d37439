"""Heartbeats: ten thousand agents, each every thirty seconds, and two machines that share one certificate.

Making a commit durable costs the same for one heartbeat as for fifty, so whoever holds the writer takes along those
that waited meanwhile; one that comes alone is written alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
import structlog

from eguard.clock import Clock
from eguard.errors import EguardError, ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent, endpoint_incarnation
from eguard.fleet.upsert import upsert
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


@dataclass(slots=True)
class _Waiting:
    principal: Principal
    beat: Heartbeat
    pending: int = 0
    error: EguardError | None = None
    is_done: bool = False


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
        Returns how many commands wait for an agent, given a connection, the agent and the time.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        revision_for: Callable[[str], int] = lambda _: 0,
        pending_commands: Callable[[sa.Connection, str, float], int] = lambda *_: 0,
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

        def write(connection: sa.Connection) -> list[int]:
            return [self._write_one(connection, each.principal, each.beat, now) for each in group]

        for each, pending in zip(group, self._database.retrying(write, is_idempotent=True), strict=True):
            each.pending = pending

    def _write_one(self, connection: sa.Connection, principal: Principal, beat: Heartbeat, now: float) -> int:
        agent_id = principal.name
        row = _known(connection, agent_id, beat.incarnation)
        if row is None:
            _enrol(connection, agent_id, now)
            row = _known(connection, agent_id, beat.incarnation)
            assert row is not None
        if row.status == "decommissioned":
            raise ServerRefusalError(403, "decommissioned", f"agent {agent_id} was decommissioned; enrol it again")
        changes = _vitals(principal, beat, now)
        is_clone = False
        if row.ordinal is None:
            ordinal = row.incarnation_ordinal + 1
            changes |= {"incarnation": beat.incarnation, "incarnation_ordinal": ordinal}
            _register(connection, agent_id, beat.incarnation, ordinal, now)
        elif row.ordinal < row.incarnation_ordinal and row.cloned_at is None:
            is_clone = True
            changes["cloned_at"] = now
        connection.execute(sa.update(endpoint_agent).where(_agent.agent_id == agent_id).values(changes))
        pending = self._pending_commands(connection, agent_id, now)
        if is_clone:
            _record_clone(connection, principal, beat.incarnation, str(row.incarnation), now)
        return pending


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


def _known(connection: sa.Connection, agent_id: str, incarnation: str) -> Any:
    """Return the agent's row with the ordinal of an incarnation; it stays locked to the end of the transaction."""
    return connection.execute(
        sa.select(_agent.status, _agent.incarnation, _agent.incarnation_ordinal, _agent.cloned_at, _incarnation.ordinal)
        .outerjoin_from(
            endpoint_agent,
            endpoint_incarnation,
            sa.and_(_incarnation.agent_id == _agent.agent_id, _incarnation.incarnation == incarnation),
        )
        .where(_agent.agent_id == agent_id)
        .with_for_update()
    ).one_or_none()


def _enrol(connection: sa.Connection, agent_id: str, now: float) -> None:
    connection.execute(
        upsert(endpoint_agent, ["agent_id"], update=[]).values(
            agent_id=agent_id, incarnation="", incarnation_ordinal=0, group="default", status="active", enrolled_at=now
        )
    )


def _register(connection: sa.Connection, agent_id: str, incarnation: str, ordinal: int, now: float) -> None:
    connection.execute(
        sa.insert(endpoint_incarnation).values(
            agent_id=agent_id, incarnation=incarnation, ordinal=ordinal, registered_at=now
        )
    )


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


def _record_clone(connection: sa.Connection, principal: Principal, heard: str, latest: str, now: float) -> None:
    _log.warning("two machines use one certificate", agent_id=principal.name, incarnations=[heard, latest])
    audit.record(
        connection,
        principal,
        action="endpoint.clone_detected",
        object_type="agent",
        object_id=principal.name,
        detail={"heard_again": heard, "latest": latest},
        now=now,
    )
