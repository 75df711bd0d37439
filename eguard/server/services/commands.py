"""Commands to agents: network isolation and its end, queued here, fetched and acknowledged by the agent.

A command waits until the agent says what became of it, or until it is a day old. Until then the agent is given it at
every request, so that an agent that dies after it fetched a command gets it again. Of each kind one command waits at
most: a newer one takes the older one's place.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Final

import sqlalchemy as sa
from msgspec import Meta, Struct

from eguard.clock import Clock, SystemClock
from eguard.errors import ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent, endpoint_command
from eguard.server.principal import Principal
from eguard.server.services import audit
from eguard.wire.baseline import WireName
from eguard.wire.control import Command, CommandAcknowledgement, CommandKind, CommandList

#: A command that no agent fetched and finished within this time is void.
LIFETIME_SECONDS: Final = 86_400.0
WAITING: Final = ("pending", "delivered")
#: Commands of each agent that `Commands.status` shows.
SHOWN: Final = 20
_NETWORK_KINDS: Final = {"isolate": "isolated", "allow": "allowed"}

_column = endpoint_command.c


class CommandRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which agent, and why."""

    agent_id: WireName
    reason: Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\A[^\x00-\x1f\x7f]+\Z")]


class Commands:
    """The queue.

    Parameters
    ----------
    database : Database
        The fleet's database.
    clock : Clock, optional
        Tells how old a command is.
    """

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()

    def queue(self, principal: Principal, kind: CommandKind, request: CommandRequest) -> dict[str, Any]:
        """Queue a command in the place of one of its kind that waits, and return it.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_agent``; 409 ``agent_decommissioned``.
        """
        now = self._clock.now()
        command_id = secrets.token_hex(16)
        row = {
            "command_id": command_id,
            "agent_id": request.agent_id,
            "kind": kind,
            "arguments": {},
            "reason": request.reason,
            "status": "pending",
            "created_by": principal.name[:128],
            "created_at": now,
            "expires_at": now + LIFETIME_SECONDS,
        }

        def queue_it(connection: sa.Connection) -> dict[str, Any]:
            _lock_agent(connection, request.agent_id)
            _expire(connection, now, request.agent_id)
            waiting = sa.and_(_column.agent_id == request.agent_id, _column.kind == kind, _column.status.in_(WAITING))
            superseded = list(connection.execute(sa.select(_column.command_id).where(waiting)).scalars())
            connection.execute(sa.update(endpoint_command).where(waiting).values(status="superseded", finished_at=now))
            connection.execute(sa.insert(endpoint_command).values(**row))
            audit.record(
                connection,
                principal,
                action=f"nac.{kind}",
                object_type="agent",
                object_id=request.agent_id,
                detail={"command_id": command_id, "reason": request.reason, "superseded": superseded},
                now=now,
            )
            return _shown(_one(connection, command_id), now)

        return self._database.retrying(queue_it)

    def pending(self, agent_id: str) -> CommandList:
        """Return the commands that wait for an agent, oldest first, and note that it was given them."""
        now = self._clock.now()

        def deliver(connection: sa.Connection) -> Sequence[sa.Row[Any]]:
            _expire(connection, now, agent_id)
            waiting = sa.and_(_column.agent_id == agent_id, _column.status.in_(WAITING))
            query = sa.select(endpoint_command).where(waiting).order_by(_column.created_at, _column.command_id)
            rows = connection.execute(query.with_for_update()).all()
            connection.execute(
                sa.update(endpoint_command)
                .where(_column.agent_id == agent_id, _column.status == "pending")
                .values(status="delivered", delivered_at=now)
            )
            return rows

        return CommandList(
            commands=[
                Command(
                    command_id=row.command_id,
                    kind=row.kind,
                    reason=row.reason,
                    created_at_unix=row.created_at,
                    expires_at_unix=row.expires_at,
                    arguments=row.arguments,
                )
                for row in self._database.retrying(deliver, is_idempotent=True)
            ]
        )

    def acknowledge(self, agent_id: str, said: CommandAcknowledgement) -> dict[str, Any]:
        """Take down what became of a command; to say so twice changes nothing.

        What an agent did with a command that was superseded or void meanwhile is kept beside that status.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_command``: there is none, or it is another agent's.
        """
        now = self._clock.now()

        def take_down(connection: sa.Connection) -> dict[str, Any]:
            matches = sa.and_(_column.command_id == said.command_id, _column.agent_id == agent_id)
            row = connection.execute(sa.select(endpoint_command).where(matches).with_for_update()).first()
            if row is None:
                raise ServerRefusalError(
                    404, "unknown_command", f"there is no command {said.command_id} for {agent_id}"
                )
            if row.result is None:
                status = said.status if row.status in WAITING else row.status
                result = {"status": said.status, "detail": said.detail, "at_unix": now}
                change = sa.update(endpoint_command).where(matches)
                connection.execute(change.values(status=status, result=result, finished_at=now))
            return _shown(_one(connection, said.command_id), now)

        return self._database.retrying(take_down, is_idempotent=True)

    def status(self, agent_id: str = "") -> list[dict[str, Any]]:
        """Return what is known of agents' network isolation: of one, or of all that ever had a command.

        Returns
        -------
        list of dict
            `state` is ``isolated`` or ``allowed`` as the agent's last word was, ``unknown`` without one; `commands`
            are the latest, newest first.
        """
        now = self._clock.now()
        ordinal = (
            sa.func.row_number()
            .over(partition_by=_column.agent_id, order_by=(_column.created_at.desc(), _column.command_id.desc()))
            .label("ordinal")
        )
        ranked = sa.select(endpoint_command, ordinal)
        if agent_id:
            ranked = ranked.where(_column.agent_id == agent_id)
        inner = ranked.subquery()
        query = sa.select(inner).where(inner.c.ordinal <= SHOWN).order_by(inner.c.agent_id, inner.c.ordinal)
        found: dict[str, list[dict[str, Any]]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query):
                found.setdefault(row.agent_id, []).append(_shown(row, now))
        return [
            {"agent_id": agent, "state": _network_state(shown), "commands": shown} for agent, shown in found.items()
        ]


def pending_counts(connection: sa.Connection, agent_ids: Sequence[str], now: float) -> dict[str, int]:
    """Return how many commands wait for each of some agents; one for whom none waits is left out."""
    rows = connection.execute(_PENDING_COUNTS, {"agent_ids": list(agent_ids), "now": now})
    return {str(agent_id): int(count) for agent_id, count in rows}


# Made once, as every heartbeat asks.
_PENDING_COUNTS: Final = (
    sa.select(_column.agent_id, sa.func.count())
    .where(
        _column.agent_id.in_(sa.bindparam("agent_ids", expanding=True)),
        _column.status.in_(WAITING),
        _column.expires_at > sa.bindparam("now", type_=_column.expires_at.type),
    )
    .group_by(_column.agent_id)
)


def expire_commands(connection: sa.Connection, now: float) -> int:
    """Mark every command whose time is over as ``expired`` and return how many those were."""
    return _expire(connection, now, None)


def _expire(connection: sa.Connection, now: float, agent_id: str | None) -> int:
    over = sa.and_(_column.status.in_(WAITING), _column.expires_at <= now)
    if agent_id is not None:
        over = sa.and_(over, _column.agent_id == agent_id)
    change = sa.update(endpoint_command).where(over).values(status="expired", finished_at=now)
    return int(connection.execute(change).rowcount)


def _lock_agent(connection: sa.Connection, agent_id: str) -> None:
    query = sa.select(endpoint_agent.c.status).where(endpoint_agent.c.agent_id == agent_id).with_for_update()
    status = connection.execute(query).scalar()
    if status is None:
        raise ServerRefusalError(404, "unknown_agent", f"there is no agent {agent_id}")
    if status == "decommissioned":
        raise ServerRefusalError(409, "agent_decommissioned", f"{agent_id} is decommissioned and fetches no commands")


def _one(connection: sa.Connection, command_id: str) -> sa.Row[Any]:
    return connection.execute(sa.select(endpoint_command).where(_column.command_id == command_id)).one()


def _shown(row: sa.Row[Any], now: float) -> dict[str, Any]:
    is_over = row.status in WAITING and row.expires_at <= now
    return {
        "command_id": row.command_id,
        "agent_id": row.agent_id,
        "kind": row.kind,
        "reason": row.reason,
        "status": "expired" if is_over else row.status,
        "created_by": row.created_by,
        "created_at_unix": row.created_at,
        "delivered_at_unix": row.delivered_at,
        "finished_at_unix": row.finished_at,
        "expires_at_unix": row.expires_at,
        "result": row.result,
    }


def _network_state(shown: list[dict[str, Any]]) -> str:
    """Return the state that the agent's last word leaves its network in."""
    done = [command for command in shown if (command["result"] or {}).get("status") == "done"]
    last = max(done, key=lambda command: command["result"]["at_unix"], default=None)
    return _NETWORK_KINDS[last["kind"]] if last is not None else "unknown"
