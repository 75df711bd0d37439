"""Taking uploads in: idempotent, monotone, one transaction a batch.

Per (agent, key) the pair (incarnation, seq) never falls. A batch that arrives twice, late or out of order therefore
leaves the store as if every row had arrived once and in order, and the answer says which rows those were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from eguard.fleet.bulk import BulkInsert
from eguard.fleet.tables import endpoint_agent, endpoint_baseline, endpoint_incarnation
from eguard.fleet.upsert import upsert
from eguard.wire.baseline import BaselineRow, RowRejection, UpsertResult
from eguard.wire.distribution import vector_from_distribution

#: Hash shards of the process keys; aggregation holds one at a time.
KEY_SHARDS: Final = 256
#: A baseline that is not updated for this long expires.
EXPIRY_SECONDS: Final = 30 * 86_400.0

_LOOKUP_KEYS: Final = 400


class _Stored(NamedTuple):
    incarnation_ordinal: int
    seq: int
    sample_count: int
    distribution_vector: bytes


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
    agent, known = endpoint_agent.c, endpoint_incarnation.c
    found = connection.execute(
        sa.select(agent.incarnation_ordinal, agent.last_heartbeat, known.ordinal)
        .outerjoin_from(
            endpoint_agent,
            endpoint_incarnation,
            sa.and_(known.agent_id == agent.agent_id, known.incarnation == incarnation),
        )
        .where(agent.agent_id == agent_id)
    ).one_or_none()
    if found is None:
        _enrol(connection, agent_id, incarnation, now)
        return 1
    latest, last_heartbeat, ordinal = found
    changes: dict[str, Any] = {}
    if last_heartbeat is None or last_heartbeat < now:
        changes["last_heartbeat"] = now
    if ordinal is None:
        ordinal = latest + 1
        changes |= {"incarnation": incarnation, "incarnation_ordinal": ordinal}
        _remember(connection, agent_id, incarnation, ordinal, now)
    if changes:
        connection.execute(sa.update(endpoint_agent).where(agent.agent_id == agent_id).values(changes))
    return int(ordinal)


def latest_incarnation(connection: sa.Connection, agent_id: str) -> str:
    """Return the incarnation that an agent was last heard with; one that never said any has the empty one."""
    agent = endpoint_agent.c
    return connection.execute(sa.select(agent.incarnation).where(agent.agent_id == agent_id)).scalar() or ""


def _enrol(connection: sa.Connection, agent_id: str, incarnation: str, now: float) -> None:
    connection.execute(
        sa.insert(endpoint_agent).values(
            agent_id=agent_id,
            incarnation=incarnation,
            incarnation_ordinal=1,
            group="default",
            status="active",
            last_heartbeat=now,
            enrolled_at=now,
        )
    )
    _remember(connection, agent_id, incarnation, 1, now)


def _remember(connection: sa.Connection, agent_id: str, incarnation: str, ordinal: int, now: float) -> None:
    connection.execute(
        sa.insert(endpoint_incarnation).values(
            agent_id=agent_id, incarnation=incarnation, ordinal=ordinal, registered_at=now
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
    newest: dict[str, dict[str, Any]] = {}
    accepted = unchanged = stale = 0
    rejected: list[RowRejection] = []
    for index, row in enumerate(rows):
        vector = vector_from_distribution(row.event_distribution).astype("<f4").tobytes()
        incoming = _Stored(ordinal, row.seq, row.sample_count, vector)
        held = stored.get(row.process_key)
        if held is None or incoming[:2] > held[:2]:
            stored[row.process_key] = incoming
            newest[row.process_key] = _values(agent_id, incarnation, row, incoming, now)
            accepted += 1
        elif incoming[:2] < held[:2]:
            stale += 1
        elif incoming == held:
            unchanged += 1
        else:
            rejected.append(RowRejection(index, "seq_reused", f"seq {row.seq} was used for other content before"))
    if newest:
        _GUARDED_UPSERT.execute(connection, [newest[key] for key in sorted(newest)])
    return UpsertResult(accepted, unchanged, stale, rejected)


def _stored(connection: sa.Connection, agent_id: str, keys: list[str]) -> dict[str, _Stored]:
    baseline = endpoint_baseline.c
    found: dict[str, _Stored] = {}
    for start in range(0, len(keys), _LOOKUP_KEYS):
        query = sa.select(
            baseline.process_key,
            baseline.incarnation_ordinal,
            baseline.seq,
            baseline.sample_count,
            baseline.distribution_vector,
        ).where(baseline.agent_id == agent_id, baseline.process_key.in_(keys[start : start + _LOOKUP_KEYS]))
        for key, *values in connection.execute(query):
            found[key] = _Stored(*values)
    return found


def _values(agent_id: str, incarnation: str, row: BaselineRow, stored: _Stored, now: float) -> dict[str, Any]:
    return {
        "agent_id": agent_id,
        "process_key": row.process_key,
        "event_distribution": row.event_distribution,
        "distribution_vector": stored.distribution_vector,
        "sample_count": row.sample_count,
        "entropy_threshold": row.entropy_threshold,
        "learned_at": row.learned_at_unix,
        "continuous": row.continuous,
        "prior_generation": row.prior_generation,
        "key_shard": key_shard(row.process_key),
        "updated_at": now,
        "expires_at": now + EXPIRY_SECONDS,
        "incarnation": incarnation,
        "incarnation_ordinal": stored.incarnation_ordinal,
        "seq": row.seq,
    }


# The rows were compared in this transaction already; the guard holds against whoever stored something since.
_GUARDED_UPSERT: Final = BulkInsert(
    upsert(endpoint_baseline, ["agent_id", "process_key"], guard=["incarnation_ordinal", "seq"])
)
