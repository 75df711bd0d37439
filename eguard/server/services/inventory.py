"""The inventory: which machines there are, what they are, and how they are."""

from __future__ import annotations

from typing import Any, Final, Literal

import sqlalchemy as sa
from msgspec import Struct

from eguard.clock import Clock
from eguard.errors import ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent, endpoint_inventory
from eguard.fleet.upsert import upsert
from eguard.server.principal import Principal
from eguard.server.services.heartbeats import add_agent
from eguard.server.services.row_view import row_view
from eguard.wire.control import InventoryReport

EndpointState = Literal["active", "silent", "lost", "quarantined", "decommissioned"]

#: An agent that was not heard of for ten heartbeats is silent, for seven days lost.
SILENT_SECONDS: Final = 300.0
LOST_SECONDS: Final = 7 * 86_400.0
MAX_PAGE: Final = 1000

_agent = endpoint_agent.c
_machine = endpoint_inventory.c
_SEARCHED: Final = (
    _agent.agent_id,
    _machine.hostname,
    _machine.ip_address,
    _machine.mac_address,
    _machine.os_version,
    _machine.kernel_version,
)


class InventoryPage(Struct, frozen=True, kw_only=True):
    """Endpoints by name; `next_cursor` asks for those after, and is none at the end. `total` counts all that fit."""

    rows: list[dict[str, Any]]
    next_cursor: str | None
    total: int


class Inventory:
    """The inventory.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        Tells who has not been heard of for long.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def report(self, principal: Principal, report: InventoryReport) -> None:
        """Write down what machine an agent is on; the report that arrives last counts, whatever its clock says."""
        now = self._clock.now()
        values = _values(principal.name, report, now)

        def write(connection: sa.Connection) -> None:
            add_agent(connection, principal.name, now)  # its first heartbeat may come later
            connection.execute(upsert(endpoint_inventory, ["agent_id"]).values(values))

        self._database.retrying(write, is_idempotent=True)

    def rows(
        self,
        *,
        q: str = "",
        os: str = "",
        status: EndpointState | None = None,
        group: str = "",
        limit: int = 100,
        cursor: str = "",
    ) -> InventoryPage:
        """Return endpoints that fit every filter given, by name.

        Parameters
        ----------
        q : str
            Part of a name, an address or a version; case does not count.
        os : str
            Type of operating system, as agents report it.
        status : str, optional
            See `state_of`.
        group : str
            The group, exactly.
        """
        now = self._clock.now()
        filters = _filters(q, os, status, group, now)
        size = min(max(limit, 1), MAX_PAGE)
        joined = sa.outerjoin(endpoint_agent, endpoint_inventory, _agent.agent_id == _machine.agent_id)
        page = _columns().select_from(joined).where(*filters).order_by(_agent.agent_id).limit(size + 1)
        if cursor:
            page = page.where(_agent.agent_id > cursor)
        with self._database.read() as connection:
            found = connection.execute(page).mappings().all()
            total = connection.execute(sa.select(sa.func.count()).select_from(joined).where(*filters)).scalar_one()
        rows = [endpoint_view(row, now) for row in found[:size]]
        return InventoryPage(
            rows=rows, next_cursor=rows[-1]["agent_id"] if len(found) > size else None, total=int(total)
        )

    def endpoint(self, agent_id: str) -> dict[str, Any]:
        """Return one endpoint.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_agent``.
        """
        with self._database.read() as connection:
            return read_endpoint(connection, agent_id, self._clock.now())

    def counts(self) -> dict[str, int]:
        """Return how many endpoints are in each state."""
        now = self._clock.now()
        state = sa.case(
            *((condition, name) for name, condition in _conditions(now).items() if name != "active"), else_="active"
        )
        query = sa.select(state.label("state"), sa.func.count()).select_from(endpoint_agent).group_by("state")
        with self._database.read() as connection:
            found = {str(name): int(count) for name, count in connection.execute(query)}
        return {name: found.get(name, 0) for name in ("active", "silent", "lost", "quarantined", "decommissioned")}


def read_endpoint(connection: sa.Connection, agent_id: str, now: float) -> dict[str, Any]:
    """Return one endpoint as analysts see it.

    Raises
    ------
    ServerRefusalError
        404 ``unknown_agent``.
    """
    joined = sa.outerjoin(endpoint_agent, endpoint_inventory, _agent.agent_id == _machine.agent_id)
    query = _columns().select_from(joined).where(_agent.agent_id == agent_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise ServerRefusalError(404, "unknown_agent", f"there is no agent {agent_id}")
    return endpoint_view(row, now)


def state_of(status: str, last_heartbeat: float | None, now: float) -> EndpointState:
    """Return an endpoint's state: what an operator decided first, then how long it has been silent.

    Examples
    --------
    >>> state_of("active", 1000.0, 1200.0), state_of("active", 1000.0, 1301.0), state_of("active", None, 0.0)
    ('active', 'silent', 'silent')
    >>> state_of("active", 0.0, 8 * 86_400.0), state_of("quarantined", 0.0, 8 * 86_400.0)
    ('lost', 'quarantined')
    """
    if status == "decommissioned":
        return "decommissioned"
    if status == "quarantined":
        return "quarantined"
    if last_heartbeat is None:
        return "silent"
    if now - last_heartbeat > LOST_SECONDS:
        return "lost"
    return "silent" if now - last_heartbeat > SILENT_SECONDS else "active"


def endpoint_view(row: sa.RowMapping, now: float) -> dict[str, Any]:
    """Return a row of both tables as analysts see it; times in seconds since the epoch."""
    values = row_view(row, endpoint_agent, endpoint_inventory)
    last = values["last_heartbeat_unix"]
    return {
        **values,
        "status": state_of(str(row["status"]), last, now),
        "cloned": values["cloned_at_unix"] is not None,
        "lost": last is not None and now - last > LOST_SECONDS,
        "facts": values["facts"] or {},
    }


_HIDDEN: Final = frozenset({"incarnation_ordinal", "group_revision"})


def _columns() -> sa.Select[Any]:
    own = [column for column in _agent if column.name not in _HIDDEN]
    # Both tables know a version; the heartbeat's is the younger one.
    machine = [column for column in _machine if column.name not in {"agent_id", "agent_version"}]
    return sa.select(*own, *machine)


def _conditions(now: float) -> dict[str, sa.ColumnElement[bool]]:
    """Return `state_of` as conditions of the database; of several that hold, the first counts."""
    quiet = _agent.last_heartbeat
    undecided = _agent.status.not_in(("decommissioned", "quarantined"))
    is_lost = sa.and_(undecided, quiet.is_not(None), quiet < now - LOST_SECONDS)
    is_silent = sa.and_(
        undecided, sa.or_(quiet.is_(None), sa.and_(quiet < now - SILENT_SECONDS, quiet >= now - LOST_SECONDS))
    )
    return {
        "decommissioned": _agent.status == "decommissioned",
        "quarantined": _agent.status == "quarantined",
        "lost": is_lost,
        "silent": is_silent,
        "active": sa.and_(undecided, quiet >= now - SILENT_SECONDS),
    }


def _filters(q: str, os: str, status: EndpointState | None, group: str, now: float) -> list[sa.ColumnElement[bool]]:
    filters: list[sa.ColumnElement[bool]] = []
    if q:
        filters.append(sa.or_(*(sa.func.lower(column).contains(q.lower(), autoescape=True) for column in _SEARCHED)))
    if os:
        filters.append(sa.func.lower(_machine.os_type) == os.lower())
    if group:
        filters.append(_agent.group == group)
    if status is not None:
        filters.append(_conditions(now)[status])
    return filters


def _values(agent_id: str, report: InventoryReport, now: float) -> dict[str, Any]:
    texts = {
        "hostname": report.hostname,
        "os_type": report.os_type,
        "os_version": report.os_version,
        "kernel_version": report.kernel_version,
        "architecture": report.architecture,
        "ip_address": report.ip_address,
        "mac_address": report.mac_address,
        "agent_version": report.agent_version,
        "sensor": report.sensor,
    }
    return {
        "agent_id": agent_id,
        # What does not fit is cut: a machine with an odd name is better known half than not at all.
        **{name: text[: _machine[name].type.length] for name, text in texts.items()},  # type: ignore[attr-defined]
        "cpu_count": report.cpu_count,
        "memory_bytes": report.memory_bytes,
        "boot_time": report.boot_time_unix,
        "facts": report.facts,
        "collected_at": min(report.collected_at_unix, now),
    }
