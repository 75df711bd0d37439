"""The audit log: one record a mutation, each bound to the one before it.

A record's hash covers the hash of the record before, so that nobody changes, removes or inserts a record without
breaking every later one (`eguard.server.services.audit_chain` walks them). Whoever owns the database can still compute
the whole chain anew or cut off its end: against that, an operator keeps the head somewhere else and has it checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from msgspec import Struct

from eguard.clock import Clock
from eguard.errors import ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import audit_log, server_counter
from eguard.fleet.upsert import upsert
from eguard.server.principal import Principal
from eguard.server.services.audit_chain import (
    COUNTER,
    GENESIS,
    PRUNED,
    AuditReport,
    ChainHead,
    record_hash,
    verify_chain,
)
from eguard.wire.canonical import canonical_json

MAX_PAGE: Final = 500


def record(
    connection: sa.Connection,
    principal: Principal,
    *,
    action: str,
    object_type: str,
    object_id: str,
    detail: Mapping[str, Any],
    now: float,
) -> int:
    """Write one record in the caller's transaction and return its sequence number.

    The caller's mutation and its record are committed together or not at all: if this raises, let it. Call it last in
    the transaction: other servers' records wait from here to its end.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Of a write transaction. The counter's row stays locked until that transaction ends.
    principal : Principal
        Who did it, from the credential.
    action : str
        ``noun.verb``, such as ``policy.create``.
    object_type, object_id : str
        What it was done to.
    detail : dict
        What changed, as plain JSON without secrets.
    now : float
        Seconds since the epoch.

    Raises
    ------
    ValueError
        `detail` is no JSON.
    """
    sequence = _next_sequence(connection)
    values = {
        "sequence": sequence,
        "at": now,
        "principal": principal.name,
        "role": str(principal.role),
        "action": action,
        "object_type": object_type,
        "object_id": object_id,
        # Through text, so that what is hashed is what a reader gets back: tuples become lists, keys become strings.
        "detail": json.loads(canonical_json(detail)),
        "address": principal.address,
        "credential": principal.credential,
        "previous_hash": _hash_of(connection, sequence - 1),
    }
    connection.execute(sa.insert(audit_log).values(**values, record_hash=record_hash(values)))
    return sequence


class AuditRecord(Struct, frozen=True, kw_only=True):
    """One record, as analysts read it."""

    sequence: int
    at_unix: float
    principal: str
    role: str
    action: str
    object_type: str
    object_id: str
    detail: dict[str, Any]
    address: str
    credential: str
    record_hash: str


class AuditPage(Struct, frozen=True, kw_only=True):
    """Records, newest first; `next_cursor` asks for the older ones, and is none at the end."""

    records: list[AuditRecord]
    next_cursor: str | None


class Audit:
    """Reading, checking and shortening the log.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        For the record that shortening leaves.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def search(
        self,
        *,
        principal: str | None = None,
        action: str | None = None,
        object_type: str | None = None,
        object_id: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> AuditPage:
        """Return the newest records that fit every filter given; `since` is inside the range, `until` is not.

        Raises
        ------
        ServerRefusalError
            The cursor is none that this method gave out (422 ``invalid_cursor``).
        """
        log = audit_log.c
        size = min(max(limit, 1), MAX_PAGE)
        query = sa.select(audit_log).order_by(log.sequence.desc()).limit(size + 1)
        exact = ((log.principal, principal), (log.action, action), (log.object_type, object_type))
        for column, wanted in (*exact, (log.object_id, object_id)):
            if wanted is not None:
                query = query.where(column == wanted)
        if since is not None:
            query = query.where(log.at >= since)
        if until is not None:
            query = query.where(log.at < until)
        if cursor is not None:
            query = query.where(log.sequence < _sequence_of(cursor))
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        records = [AuditRecord(**_public(row)) for row in rows[:size]]
        return AuditPage(records=records, next_cursor=str(records[-1].sequence) if len(rows) > size else None)

    def verify(self, known_head: ChainHead | None = None) -> AuditReport:
        """Walk the chain and report the first broken link; `known_head` is one that an operator kept elsewhere."""
        with self._database.read() as connection:
            return verify_chain(connection, known_head)

    def prune(self, principal: Principal, before: float) -> int:
        """Remove the records from before `before`, leave one that says so, and return how many went.

        The log keeps beginning with a whole stretch: it ends the removal at the first record that is young enough, and
        at the newest one in any case.
        """
        now = self._clock.now()
        return self._database.retrying(lambda connection: _prune(connection, principal, before, now))


def _prune(connection: sa.Connection, principal: Principal, before: float, now: float) -> int:
    log = audit_log.c
    newest = sa.select(sa.func.max(log.sequence)).scalar_subquery()
    keep = connection.execute(
        sa.select(log.sequence, log.previous_hash)
        .where(sa.or_(log.at >= before, log.sequence == newest))
        .order_by(log.sequence)
        .limit(1)
    ).one_or_none()
    if keep is None:
        return 0
    removed = connection.execute(sa.delete(audit_log).where(log.sequence < keep.sequence)).rowcount
    if removed:
        record(
            connection,
            principal,
            action=PRUNED,
            object_type="audit_log",
            object_id=str(keep.sequence),
            detail={"first_sequence": keep.sequence, "previous_hash": keep.previous_hash, "removed": removed},
            now=now,
        )
    return removed


def _public(row: sa.RowMapping) -> dict[str, Any]:
    values = dict(row)
    del values["previous_hash"]
    values["at_unix"] = values.pop("at")
    return values


def _sequence_of(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise ServerRefusalError(
            422,
            "invalid_cursor",
            "the cursor is none that this list gave out",
            errors=[("cursor", "take it from next_cursor of the page before")],
        )
    return int(cursor)


def _next_sequence(connection: sa.Connection) -> int:
    """Count up under the row's lock: two servers on one database never take the same number."""
    counter = server_counter.c
    step = sa.update(server_counter).where(counter.name == COUNTER).values(value=counter.value + 1)
    if connection.execute(step).rowcount == 0:
        _add_counter(connection)
        connection.execute(step)
    return int(connection.execute(sa.select(counter.value).where(counter.name == COUNTER)).scalar_one())


def _add_counter(connection: sa.Connection) -> None:
    last = connection.execute(sa.select(sa.func.coalesce(sa.func.max(audit_log.c.sequence), 0))).scalar_one()
    # If another server was first, its row stays.
    connection.execute(upsert(server_counter, ["name"], update=[]).values(name=COUNTER, value=last))


def _hash_of(connection: sa.Connection, sequence: int) -> str:
    # A locking read sees what is committed now; a plain one may see a snapshot from before the counter was locked.
    found = connection.execute(
        sa.select(audit_log.c.record_hash).where(audit_log.c.sequence == sequence).with_for_update()
    ).scalar_one_or_none()
    return GENESIS if found is None else str(found)
