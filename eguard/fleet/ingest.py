"""Taking uploads in: idempotent, monotone, one transaction a batch.

Per (agent, key) the pair (incarnation, seq) never falls. A batch that arrives twice, late or out of order therefore
leaves the store as if every row had arrived once and in order, and the answer says which rows those were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat
from typing import Final

import numpy as np
import sqlalchemy as sa

from eguard.fleet.bulk import BulkInsert
from eguard.fleet.tables import endpoint_agent, endpoint_baseline, endpoint_incarnation
from eguard.fleet.upsert import upsert
from eguard.wire.baseline import BaselineRow, RowRejection, UpsertResult
from eguard.wire.distribution import CLASS_NAMES

#: Hash shards of the process keys; aggregation holds one at a time.
KEY_SHARDS: Final = 256
#: A baseline that is not updated for this long expires.
EXPIRY_SECONDS: Final = 30 * 86_400.0

#: An agent heard of less than this ago is not noted again: that would be one more row to write for every upload.
HEARD_SECONDS: Final = 5.0

_LOOKUP_KEYS: Final = 400
_VECTOR_BYTES: Final = 4 * len(CLASS_NAMES)
_POSITION: Final[dict[str, int]] = {name: position for position, name in enumerate(CLASS_NAMES)}


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
_NOTE_HEARD: Final = (
    sa.update(endpoint_agent)
    .where(endpoint_agent.c.agent_id == sa.bindparam("whom"))
    .values(last_heartbeat=sa.bindparam("now"))
)


#: What is compared: incarnation ordinal, seq, events behind the row, its distribution as it is stored.
_Stored = tuple[int, int, int, bytes]


@lru_cache(maxsize=65_536)
def key_shard(process_key: str) -> int:
    """Return the shard of a key, 0..255: stable across machines and versions.

    Examples
    --------
    >>> key_shard("bash:sshd") == key_shard("bash:sshd"), 0 <= key_shard("nginx:systemd") < KEY_SHARDS
    (True, True)
    """
    return hashlib.blake2b(process_key.encode(), digest_size=1).digest()[0]


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


def latest_incarnation(connection: sa.Connection, agent_id: str) -> str:
    """Return the incarnation that an agent was last heard with; one that never said any has the empty one."""
    agent = endpoint_agent.c
    return connection.execute(sa.select(agent.incarnation).where(agent.agent_id == agent_id)).scalar() or ""


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


def upsert_rows(
    connection: sa.Connection, agent_id: str, incarnation: str, rows: Sequence[BaselineRow], now: float
) -> UpsertResult:
    """Store the rows that are newer than what is there, and classify all of them.

    A row with the stored (incarnation, seq) is `unchanged` if its content is the stored one; with another content it is
    rejected as ``seq_reused``, because dropping it silently would lose what the agent learned.
    """
    ordinal = register_agent(connection, agent_id, incarnation, now)
    stored = _stored(connection, agent_id, sorted({row.process_key for row in rows}))
    newest: dict[str, tuple[BaselineRow, bytes]] = {}
    accepted = unchanged = stale = 0
    rejected: list[RowRejection] = []
    for index, (row, vector) in enumerate(zip(rows, _vectors(rows), strict=True)):
        incoming = (ordinal, row.seq, row.sample_count, vector)
        held = stored.get(row.process_key)
        if held is None or incoming[:2] > held[:2]:
            stored[row.process_key] = incoming
            newest[row.process_key] = row, vector
            accepted += 1
        elif incoming[:2] < held[:2]:
            stale += 1
        elif incoming == held:
            unchanged += 1
        else:
            rejected.append(RowRejection(index, "seq_reused", f"seq {row.seq} was used for other content before"))
    if newest:
        _store(connection, agent_id, (incarnation, ordinal), [newest[key] for key in sorted(newest)], now)
    return UpsertResult(accepted, unchanged, stale, rejected)


def _vectors(rows: Sequence[BaselineRow]) -> list[bytes]:
    """Return each row's distribution as it is stored."""
    values = [0.0] * (len(rows) * len(CLASS_NAMES))
    for number, row in enumerate(rows):
        start = number * len(CLASS_NAMES)
        for name, probability in row.event_distribution.items():
            values[start + _POSITION[name]] = probability
    packed = np.array(values, dtype="<f4").tobytes()
    return [packed[start : start + _VECTOR_BYTES] for start in range(0, len(packed), _VECTOR_BYTES)]


def _stored(connection: sa.Connection, agent_id: str, keys: list[str]) -> dict[str, _Stored]:
    found: dict[str, _Stored] = {}
    for start in range(0, len(keys), _LOOKUP_KEYS):
        part = keys[start : start + _LOOKUP_KEYS]
        rows = connection.exec_driver_sql(_lookup(connection.dialect.name, len(part)), (agent_id, *part)).all()
        found.update((row[0], (row[1], row[2], row[3], row[4])) for row in rows)
    return found


@lru_cache(maxsize=2 * _LOOKUP_KEYS)
def _lookup(dialect_name: str, keys: int) -> str:
    """Return the text of the lookup: preparing it anew for every upload would cost as much as running it."""
    mark = "?" if dialect_name == "sqlite" else "%s"
    # Only marks are put in; the values travel beside the text.
    marks = ", ".join([mark] * keys)
    columns = "process_key, incarnation_ordinal, seq, sample_count, distribution_vector"
    return f"SELECT {columns} FROM endpoint_baseline WHERE agent_id = {mark} AND process_key IN ({marks})"  # noqa: S608


def _store(
    connection: sa.Connection,
    agent_id: str,
    incarnation: tuple[str, int],
    rows: list[tuple[BaselineRow, bytes]],
    now: float,
) -> None:
    records = [row for row, _ in rows]
    _GUARDED_UPSERT.execute(
        connection,
        {
            "agent_id": repeat(agent_id),
            "process_key": [row.process_key for row in records],
            "event_distribution": [row.event_distribution for row in records],
            "distribution_vector": [vector for _, vector in rows],
            "sample_count": [row.sample_count for row in records],
            "entropy_threshold": [row.entropy_threshold for row in records],
            "learned_at": [row.learned_at_unix for row in records],
            "continuous": [row.continuous for row in records],
            "prior_generation": [row.prior_generation for row in records],
            "key_shard": [key_shard(row.process_key) for row in records],
            "updated_at": repeat(now),
            "expires_at": repeat(now + EXPIRY_SECONDS),
            "incarnation": repeat(incarnation[0]),
            "incarnation_ordinal": repeat(incarnation[1]),
            "seq": [row.seq for row in records],
        },
    )


# A key's shard follows from the key: left alone, the index that it leads is left alone as well.
_CHANGED: Final = [
    column.name for column in endpoint_baseline.c if column.name not in {"agent_id", "process_key", "key_shard"}
]
# The rows were compared in this transaction already; the guard holds against whoever stored something since.
_GUARDED_UPSERT: Final = BulkInsert(
    upsert(endpoint_baseline, ["agent_id", "process_key"], update=_CHANGED, guard=["incarnation_ordinal", "seq"])
)
