"""Which life of an agent speaks: incarnations are numbered in the order in which they are first heard of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from eguard.fleet.tables import endpoint_agent, endpoint_incarnation
from eguard.fleet.upsert import upsert

#: An agent heard of less than this ago is not noted again: that would be one more row to write for every upload.
HEARD_SECONDS: Final = 5.0

# Built once: building a statement takes longer than running it.
_HEARD_OF: Final = (
    sa.select(endpoint_agent.c.incarnation_ordinal, endpoint_agent.c.last_heartbeat, endpoint_incarnation.c.ordinal)
    .outerjoin_from(
        endpoint_agent,
        endpoint_incarnation,
        sa.and_(
            endpoint_incarnation.c.agent_id == endpoint_agent.c.agent_id,
            endpoint_incarnation.c.incarnation == sa.bindparam("life"),
        ),
    )
    .where(endpoint_agent.c.agent_id == sa.bindparam("whom"))
    .with_for_update()
)
_KNOWN: Final = (
    sa.select(
        endpoint_agent.c.agent_id,
        endpoint_agent.c.incarnation,
        endpoint_agent.c.incarnation_ordinal,
        endpoint_agent.c.last_heartbeat,
    )
    .where(endpoint_agent.c.agent_id.in_(sa.bindparam("whom", expanding=True)))
    .order_by(endpoint_agent.c.agent_id)
    .with_for_update()
)
_NOTE_HEARD: Final = (
    sa.update(endpoint_agent)
    .where(endpoint_agent.c.agent_id == sa.bindparam("whom"))
    .values(last_heartbeat=sa.bindparam("now"))
)


class Incarnation(NamedTuple):
    """One life of an agent: the name it gave itself, and its number among all of that agent's."""

    name: str
    ordinal: int


def register_agents(
    connection: sa.Connection, speakers: Sequence[tuple[str, str | None]], now: float
) -> list[Incarnation]:
    """Do what `register_agent` does for one (agent, incarnation) after the other, in one look where all are known.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    speakers : sequence of (str, str or None)
        In order of the agents' names, so that servers lock them in one order; None stands for the latest incarnation
        known, and for the empty one of an agent that never said any.
    now : float
        In seconds since the epoch.

    Returns
    -------
    list of Incarnation
        One a speaker.
    """
    agents = sorted({agent_id for agent_id, _ in speakers})
    latest = {row[0]: row[1:] for row in connection.execute(_KNOWN, {"whom": agents})}
    found: list[Incarnation] = []
    silent: dict[str, dict[str, Any]] = {}
    for agent_id, name in speakers:
        incarnation, ordinal, last_heartbeat = latest.get(agent_id, ("", 0, None))
        if ordinal > 0 and name in {None, incarnation}:
            found.append(Incarnation(incarnation, ordinal))
            if last_heartbeat is None or last_heartbeat < now - HEARD_SECONDS:
                silent[agent_id] = {"whom": agent_id, "now": now}
            continue
        wanted = incarnation if name is None else name
        found.append(Incarnation(wanted, register_agent(connection, agent_id, wanted, now)))
        if found[-1].ordinal > ordinal:
            latest[agent_id] = (wanted, found[-1].ordinal, now)
    if silent:
        connection.execute(_NOTE_HEARD, [silent[agent_id] for agent_id in sorted(silent)])
    return found


def register_agent(connection: sa.Connection, agent_id: str, incarnation: str, now: float) -> int:
    """Return the ordinal of an agent's incarnation; one that was never heard of becomes the agent's latest.

    An incarnation that is known keeps its place: a batch that was delayed across a reinstallation does not turn
    the clock back. Hearing from an agent counts as a heartbeat.
    """
    found = _heard_of(connection, agent_id, incarnation)
    if found is None:
        _enrol(connection, agent_id, now)
        found = _heard_of(connection, agent_id, incarnation)
    latest, last_heartbeat, ordinal = found or (0, None, None)
    if ordinal is None:
        ordinal = latest + 1
        connection.execute(
            sa.insert(endpoint_incarnation).values(
                agent_id=agent_id, incarnation=incarnation, ordinal=ordinal, registered_at=now
            )
        )
        newest = {"incarnation": incarnation, "incarnation_ordinal": ordinal}
        connection.execute(sa.update(endpoint_agent).where(endpoint_agent.c.agent_id == agent_id).values(newest))
    if last_heartbeat is None or last_heartbeat < now - HEARD_SECONDS:
        connection.execute(_NOTE_HEARD, {"whom": agent_id, "now": now})
    return int(ordinal)


def _heard_of(
    connection: sa.Connection, agent_id: str, incarnation: str
) -> tuple[int, float | None, int | None] | None:
    """Return an agent's latest ordinal, its last heartbeat and the ordinal of `incarnation`.

    The agent's row stays locked to the end of the transaction: on a server, batches of one agent queue here, so that
    no two of them number an incarnation or compare rows at once.
    """
    row = connection.execute(_HEARD_OF, {"whom": agent_id, "life": incarnation}).one_or_none()
    return None if row is None else (row[0], row[1], row[2])


def _enrol(connection: sa.Connection, agent_id: str, now: float) -> None:
    """Add an agent without an incarnation; another server may just have done so."""
    connection.execute(
        upsert(endpoint_agent, ["agent_id"], update=[]).values(
            agent_id=agent_id,
            incarnation="",
            incarnation_ordinal=0,
            group="default",
            status="active",
            last_heartbeat=now,
            enrolled_at=now,
        )
    )
