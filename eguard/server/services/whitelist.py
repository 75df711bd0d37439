"""The whitelist: what is not to be alerted on, for whom, why, and for how long.

Entries travel to agents beside their policy. Every change takes the next policy revision and writes it down as the
whitelist's, so that every agent that it may concern is told (`eguard.wire.policy.PolicyPayload`).
"""

from __future__ import annotations

import secrets
from typing import Any, Final, Literal

import sqlalchemy as sa

from eguard.clock import Clock, SystemClock
from eguard.errors import ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent, endpoint_whitelist, server_counter
from eguard.fleet.upsert import upsert
from eguard.server.principal import Principal
from eguard.server.services import audit
from eguard.server.services.revisions import WHITELIST_REVISION, next_revision
from eguard.server.services.whitelist_values import WhitelistRequest, canonical_value
from eguard.wire.policy import WhitelistEntry

#: Entries that may hold at once. A signed policy that carries all of them stays below its cap of a million characters.
MAX_ENTRIES: Final = 1000


class Whitelist:
    """The entries.

    Parameters
    ----------
    database : Database
        The fleet's database.
    clock : Clock, optional
        Tells which entries have expired.
    """

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()

    def create(self, principal: Principal, request: WhitelistRequest) -> dict[str, Any]:
        """Add an entry and return it.

        Raises
        ------
        ServerRefusalError
            422 ``invalid_whitelist_entry``; 404 ``unknown_agent``; 409 ``whitelist_exists`` or ``whitelist_full``.
        """
        now = self._clock.now()
        value = _checked_value(request, now)
        row = {
            "entry_id": secrets.token_hex(8),
            "kind": request.kind,
            "value": value,
            "scope": request.scope,
            "scope_id": request.scope_id,
            "reason": request.reason,
            "created_by": principal.name[:128],
            "created_at": now,
            "expires_at": request.expires_at_unix,
        }

        def add(connection: sa.Connection) -> dict[str, Any]:
            revision = _take_revision(connection)  # also the lock that puts changes of the whitelist in a row
            self._refuse_conflicts(connection, row, now)
            connection.execute(sa.insert(endpoint_whitelist).values(**row))
            stored = connection.execute(
                sa.select(endpoint_whitelist).where(endpoint_whitelist.c.entry_id == row["entry_id"])
            )
            shown = _shown(dict(stored.mappings().one()), now)  # times as they are kept, to the microsecond
            _record(connection, principal, "create", {**row, "revision": revision}, now)
            return shown

        return self._database.retrying(add)

    def delete(self, principal: Principal, entry_id: str) -> dict[str, Any]:
        """Remove an entry and return what it said.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_whitelist_entry``.
        """
        now = self._clock.now()
        matches = endpoint_whitelist.c.entry_id == entry_id

        def remove(connection: sa.Connection) -> dict[str, Any]:
            revision = _take_revision(connection)
            found = connection.execute(sa.select(endpoint_whitelist).where(matches)).mappings().first()
            if found is None:
                raise ServerRefusalError(404, "unknown_whitelist_entry", f"there is no whitelist entry {entry_id[:64]}")
            row = dict(found)
            connection.execute(sa.delete(endpoint_whitelist).where(matches))
            _record(connection, principal, "delete", {**row, "revision": revision}, now)
            return _shown(row, now)

        return self._database.retrying(remove)

    def entries(
        self, *, kind: str = "", scope: str = "", scope_id: str = "", include_expired: bool = True
    ) -> list[dict[str, Any]]:
        """Return entries, latest first; an empty filter takes all."""
        now = self._clock.now()
        column = endpoint_whitelist.c
        query = sa.select(endpoint_whitelist).order_by(column.created_at.desc(), column.entry_id)
        for wanted, held in ((kind, column.kind), (scope, column.scope), (scope_id, column.scope_id)):
            if wanted:
                query = query.where(held == wanted)
        if not include_expired:
            query = query.where(_holds(now))
        with self._database.read() as connection:
            return [_shown(dict(row), now) for row in connection.execute(query).mappings()]

    @staticmethod
    def _refuse_conflicts(connection: sa.Connection, row: dict[str, Any], now: float) -> None:
        column = endpoint_whitelist.c
        if row["scope"] == "agent":
            known = sa.select(endpoint_agent.c.agent_id).where(endpoint_agent.c.agent_id == row["scope_id"])
            if connection.execute(known).first() is None:
                raise ServerRefusalError(404, "unknown_agent", f"there is no agent {row['scope_id']}")
        same = sa.and_(*(column[name] == row[name] for name in ("kind", "value", "scope", "scope_id")), _holds(now))
        held = connection.execute(sa.select(column.entry_id).where(same)).scalar()
        if held is not None:
            raise ServerRefusalError(409, "whitelist_exists", f"entry {held} says the same; delete it to change it")
        count = connection.execute(sa.select(sa.func.count()).select_from(endpoint_whitelist).where(_holds(now)))
        if count.scalar_one() >= MAX_ENTRIES:
            raise ServerRefusalError(409, "whitelist_full", f"{MAX_ENTRIES} entries hold already; delete some first")


def entries_for(connection: sa.Connection, agent_id: str, group: str, now: float) -> list[WhitelistEntry]:
    """Return the entries that hold for an agent at `now`, in the order of their ids."""
    column = endpoint_whitelist.c
    concerns = sa.or_(
        column.scope == "fleet",
        sa.and_(column.scope == "group", column.scope_id == group),
        sa.and_(column.scope == "agent", column.scope_id == agent_id),
    )
    query = sa.select(column.entry_id, column.kind, column.value, column.expires_at)
    rows = connection.execute(query.where(concerns, _holds(now)).order_by(column.entry_id))
    return [
        WhitelistEntry(entry_id=row.entry_id, kind=row.kind, value=row.value, expires_at_unix=row.expires_at)
        for row in rows
    ]


def _holds(now: float) -> sa.ColumnElement[bool]:
    return sa.or_(endpoint_whitelist.c.expires_at.is_(None), endpoint_whitelist.c.expires_at > now)


def _checked_value(request: WhitelistRequest, now: float) -> str:
    """Return the request's value as it is compared, or refuse the request."""
    errors: list[tuple[str, str]] = []
    value = ""
    try:
        value = canonical_value(request.kind, request.value)
    except ValueError as error:
        errors.append(("value", str(error)))
    if (request.scope == "fleet") == bool(request.scope_id):
        errors.append(("scope_id", "name a group or an agent; for the fleet leave it out"))
    if request.expires_at_unix is not None and request.expires_at_unix <= now:
        errors.append(("expires_at_unix", "lies in the past"))
    if errors:
        message = f"{errors[0][0]}: {errors[0][1]}"
        raise ServerRefusalError(422, "invalid_whitelist_entry", message, errors=errors)
    return value


def _take_revision(connection: sa.Connection) -> int:
    """Take the next policy revision, keep it as the whitelist's, and return it; the counter's row stays locked."""
    revision = next_revision(connection)
    connection.execute(upsert(server_counter, ["name"]).values(name=WHITELIST_REVISION, value=revision))
    return revision


def _record(connection: sa.Connection, principal: Principal, verb: str, row: dict[str, Any], now: float) -> None:
    said = ("kind", "value", "scope", "scope_id", "reason", "expires_at", "revision")
    audit.record(
        connection,
        principal,
        action=f"whitelist.{verb}",
        object_type="whitelist",
        object_id=row["entry_id"],
        detail={name: row[name] for name in said},
        now=now,
    )


def _shown(row: dict[str, Any], now: float) -> dict[str, Any]:
    """Return an entry as the API shows it."""
    shown: dict[str, Any] = {
        name: row[name] for name in ("entry_id", "kind", "value", "scope", "scope_id", "reason", "created_by")
    }
    shown |= {"created_at_unix": row["created_at"], "expires_at_unix": row["expires_at"]}
    state: Literal["expired", "active"] = "expired" if row["expires_at"] and row["expires_at"] <= now else "active"
    return {**shown, "state": state}
