"""Endpoints: what operators decide about single agents, and what agents say of themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from eguard.clock import Clock
from eguard.errors import EguardError, ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent
from eguard.server.principal import Principal
from eguard.server.services import audit
from eguard.server.services.certificates import revoke_all
from eguard.server.services.heartbeats import Beat, Heartbeats, PendingCommands, Revisions, no_revisions
from eguard.server.services.inventory import read_endpoint
from eguard.server.services.revisions import lock_revisions, next_revision
from eguard.wire.control import Heartbeat, HeartbeatAnswer

MAX_GROUP_CHARACTERS: Final = 64

_agent = endpoint_agent.c


class Endpoints:
    """The agents.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        Receive times.
    revisions_for, pending_commands, count : callables
        See `Heartbeats`.
    moved : callable
        Called after an agent was moved to a group, as another policy may be its own now.
    revoked : callable
        Called after certificates were revoked.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        revisions_for: Revisions = no_revisions,
        pending_commands: PendingCommands = lambda *_: {},
        count: Callable[[Mapping[str, int]], None] = lambda _: None,
        moved: Callable[[], object] = lambda: None,
        revoked: Callable[[], object] = lambda: None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._moved = moved
        self._revoked = revoked
        self._heartbeats = Heartbeats(
            database, clock, revisions_for=revisions_for, pending_commands=pending_commands, count=count
        )

    def heartbeat(self, principal: Principal, beat: Heartbeat) -> HeartbeatAnswer:
        """Write down how an agent is, and answer what waits for it; see `Heartbeats.take`."""
        return self._heartbeats.take(principal, beat)

    def heartbeats(self, beats: Sequence[Beat]) -> list[HeartbeatAnswer | EguardError]:
        """Take several heartbeats together; see `Heartbeats.take_all`."""
        return self._heartbeats.take_all(beats)

    def decommission(self, principal: Principal, agent_id: str, reason: str) -> dict[str, Any]:
        """Take an agent out of the fleet: its certificates are revoked, and it is refused until it is enrolled again.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_agent``; 409 ``already_decommissioned``.
        """
        now = self._clock.now()

        def decommission(connection: sa.Connection) -> dict[str, Any]:
            agent = locked_agent(connection, agent_id)
            if agent["status"] == "decommissioned":
                raise ServerRefusalError(409, "already_decommissioned", f"agent {agent_id} was decommissioned before")
            _set(connection, agent_id, {"status": "decommissioned", "decommissioned_at": now})
            serials = revoke_all(connection, agent_id, f"decommissioned: {reason}", now)
            detail = {"reason": reason, "serials": serials}
            return self._record(connection, principal, "endpoint.decommission", agent_id, detail)

        view = self._database.retrying(decommission)
        self._revoked()
        return view

    def quarantine(self, principal: Principal, agent_id: str, reason: str) -> dict[str, Any]:
        """Keep an agent's profiles and take its votes: it goes on reporting, and counts in no aggregate.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_agent``; 409 ``not_active``: it is quarantined or decommissioned.
        """
        values = {"status": "quarantined", "quarantined_at": self._clock.now()}
        return self._change(principal, "endpoint.quarantine", agent_id, wanted="active", values=values, reason=reason)

    def release(self, principal: Principal, agent_id: str, reason: str) -> dict[str, Any]:
        """Give a quarantined agent its votes back.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_agent``; 409 ``not_quarantined``.
        """
        values = {"status": "active", "quarantined_at": None}
        return self._change(principal, "endpoint.release", agent_id, wanted="quarantined", values=values, reason=reason)

    def move(self, principal: Principal, agent_id: str, group: str, reason: str = "") -> dict[str, Any]:
        """Put an agent into a group; it is sent that group's policy from now on.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_agent``; 409 ``agent_decommissioned`` or ``already_in_group``; 422 ``invalid_group``.
        """
        if not 1 <= len(group) <= MAX_GROUP_CHARACTERS or not group.isprintable() or group != group.strip():
            detail = f"1 to {MAX_GROUP_CHARACTERS} printable characters, no blank at either end"
            raise ServerRefusalError(422, "invalid_group", f"group: {detail}", errors=[("group", detail)])

        def move(connection: sa.Connection) -> dict[str, Any]:
            lock_revisions(connection)  # before the agent's row, as everybody who changes policies does
            agent = locked_agent(connection, agent_id)
            if agent["status"] == "decommissioned":
                raise ServerRefusalError(409, "agent_decommissioned", f"agent {agent_id} was decommissioned")
            if agent["group"] == group:
                raise ServerRefusalError(409, "already_in_group", f"agent {agent_id} is in group {group} already")
            revision = next_revision(connection)
            _set(connection, agent_id, {"group": group, "group_revision": revision})
            detail = {"from": agent["group"], "to": group, "revision": revision, "reason": reason}
            return self._record(connection, principal, "endpoint.move", agent_id, detail)

        view = self._database.retrying(move)
        self._moved()
        return view

    def _change(
        self, principal: Principal, action: str, agent_id: str, *, wanted: str, values: dict[str, Any], reason: str
    ) -> dict[str, Any]:
        def change(connection: sa.Connection) -> dict[str, Any]:
            agent = locked_agent(connection, agent_id)
            if agent["status"] != wanted:
                raise ServerRefusalError(409, f"not_{wanted}", f"agent {agent_id} is {agent['status']}, not {wanted}")
            _set(connection, agent_id, values)
            return self._record(connection, principal, action, agent_id, {"reason": reason})

        return self._database.retrying(change)

    def _record(
        self, connection: sa.Connection, principal: Principal, action: str, agent_id: str, detail: dict[str, Any]
    ) -> dict[str, Any]:
        now = self._clock.now()
        audit.record(
            connection, principal, action=action, object_type="agent", object_id=agent_id, detail=detail, now=now
        )
        return read_endpoint(connection, agent_id, now)


def agent_row(connection: sa.Connection, agent_id: str) -> sa.RowMapping | None:
    """Return an agent's row, if there is one."""
    query = sa.select(endpoint_agent).where(_agent.agent_id == agent_id)
    return connection.execute(query).mappings().one_or_none()


def locked_agent(connection: sa.Connection, agent_id: str) -> sa.RowMapping:
    """Return an agent's row and keep it for this transaction alone.

    Raises
    ------
    ServerRefusalError
        404 ``unknown_agent``.
    """
    query = sa.select(endpoint_agent).where(_agent.agent_id == agent_id).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise ServerRefusalError(404, "unknown_agent", f"there is no agent {agent_id}")
    return row


def _set(connection: sa.Connection, agent_id: str, values: dict[str, Any]) -> None:
    connection.execute(sa.update(endpoint_agent).where(_agent.agent_id == agent_id).values(values))
