"""Taking uploads in: idempotent, monotone, a group of them in one transaction.

Per (agent, key) the pair (incarnation, seq) never falls. A batch that arrives twice, late or out of order therefore
leaves the store as if every row had arrived once and in order, and the answer says which rows those were.

A group is judged batch by batch in memory, and its rows are looked up and written together: a statement costs as much
as a dozen rows, and SQLite's driver hands Python's lock back and forth once a statement.

Nearly every group is new from the first row to the last. SQLite counts the rows that a guarded statement changed, so
there a group is first written and not looked up: if all of its rows were changed, all were newer. If not, they are
written back and the group goes the long way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, groupby, repeat
from operator import attrgetter, itemgetter
from typing import Final, NamedTuple, TypeVar

import numpy as np
import sqlalchemy as sa

from eguard.fleet.bulk import BulkInsert
from eguard.fleet.registration import Incarnation, register_agents
from eguard.fleet.stored_rows import StoredRow, find_in_the_way
from eguard.fleet.tables import endpoint_baseline
from eguard.fleet.upsert import upsert
from eguard.wire.baseline import BaselineRow, RowRejection, UpsertResult
from eguard.wire.distribution import CLASS_NAMES

#: Hash shards of the process keys; aggregation holds one at a time.
KEY_SHARDS: Final = 256
#: A baseline that is not updated for this long expires.
EXPIRY_SECONDS: Final = 30 * 86_400.0

_Value = TypeVar("_Value")

_BY_KEY: Final = attrgetter("process_key")
_VECTOR_BYTES: Final = 4 * len(CLASS_NAMES)
_POSITION: Final[dict[str, int]] = {name: position for position, name in enumerate(CLASS_NAMES)}


class Upload(NamedTuple):
    """Rows of one agent, and which of its lives sent them: the latest one known if it says nothing."""

    agent_id: str
    incarnation: str | None
    rows: Sequence[BaselineRow]


class Accepted(NamedTuple):
    """Rows that the store takes, and which life of which agent they are from."""

    agent_id: str
    incarnation: Incarnation
    rows: Sequence[BaselineRow]


@lru_cache(maxsize=65_536)
def key_shard(process_key: str) -> int:
    """Return the shard of a key, 0..255: stable across machines and versions.

    Examples
    --------
    >>> key_shard("bash:sshd") == key_shard("bash:sshd"), 0 <= key_shard("nginx:systemd") < KEY_SHARDS
    (True, True)
    """
    return hashlib.blake2b(process_key.encode(), digest_size=1).digest()[0]


def take_uploads(
    connection: sa.Connection, uploads: Sequence[Upload], now: float, changed: set[str] | None = None
) -> list[UpsertResult]:
    """Store the rows that are newer than what is there, and classify all of them.

    The outcome is that of taking one upload after the other. A row with the stored (incarnation, seq) is `unchanged` if
    its content is the stored one; with another content it is rejected as ``seq_reused``, because dropping it silently
    would lose what the agent learned.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Of a write transaction.
    uploads : sequence of Upload
        Those of one agent in the order in which they came.
    now : float
        In seconds since the epoch.
    changed : set of str, optional
        Gets the keys of all rows that were stored.

    Returns
    -------
    list of UpsertResult
        One an upload.
    """
    # Servers that take the same agents' rows lock them in one order, whatever order the uploads came in.
    order = sorted(range(len(uploads)), key=lambda position: uploads[position].agent_id)
    speakers = [uploads[position][:2] for position in order]
    lives = dict(zip(order, register_agents(connection, speakers, now), strict=True))
    came = [Accepted(uploads[at].agent_id, lives[at], sorted(uploads[at].rows, key=_BY_KEY)) for at in order]
    if connection.dialect.name == "sqlite" and _is_each_key_once(came) and _store_if_newer(connection, came, now):
        accepted = came
        results = {at: UpsertResult(len(uploads[at].rows), 0, 0, []) for at in order}
    else:
        accepted, results = _judge(connection, uploads, lives)
        if accepted:
            store_rows(connection, accepted, now)
    if changed is not None:
        changed.update(*(map(_BY_KEY, each.rows) for each in accepted))
    return [results[position] for position in range(len(uploads))]


def _is_each_key_once(came: Sequence[Accepted]) -> bool:
    """Tell whether no row is for the same agent and key as another one."""
    return len({each.agent_id for each in came}) == len(came) and all(
        len(set(map(_BY_KEY, each.rows))) == len(each.rows) for each in came
    )


def _store_if_newer(connection: sa.Connection, came: Sequence[Accepted], now: float) -> bool:
    """Store all rows if each is newer than what is there, else none."""
    # Said to the driver: the toolkit's own form of a savepoint costs as much as forty rows.
    connection.exec_driver_sql("SAVEPOINT attempt")
    is_newer = store_rows(connection, came, now) == sum(len(each.rows) for each in came)
    if not is_newer:
        connection.exec_driver_sql("ROLLBACK TO attempt")
    connection.exec_driver_sql("RELEASE attempt")
    return is_newer


def _judge(
    connection: sa.Connection, uploads: Sequence[Upload], lives: Mapping[int, Incarnation]
) -> tuple[list[Accepted], dict[int, UpsertResult]]:
    """Compare uploads with what is there; return what is to be stored, and each one's result.

    `lives` are the uploads' incarnations by position, in order of the agents' names.
    """
    by_agent: dict[str, list[int]] = {}
    for position in lives:
        by_agent.setdefault(uploads[position].agent_id, []).append(position)
    held = find_in_the_way(
        connection,
        {
            agent_id: _lowest((lives[at].ordinal, uploads[at].rows) for at in places)
            for agent_id, places in by_agent.items()
        },
    )
    accepted: list[Accepted] = []
    results: dict[int, UpsertResult] = {}
    for agent_id, places in by_agent.items():
        state = _AgentRows(held[agent_id])
        for position in places:
            results[position] = state.take(lives[position], uploads[position].rows)
        accepted += [Accepted(agent_id, *life) for life in state.accepted()]
    return accepted, results


def _lowest(parts: Iterable[tuple[int, Sequence[BaselineRow]]]) -> dict[str, tuple[int, int]]:
    """Return each key's lowest (ordinal, seq) among an agent's uploads."""
    lowest: dict[str, tuple[int, int]] = {}
    for ordinal, rows in parts:
        for row in rows:
            age = (ordinal, row.seq)
            known = lowest.get(row.process_key)
            if known is None or age < known:
                lowest[row.process_key] = age
    return lowest


class _AgentRows:
    """What is there of one agent, as its uploads go by.

    Parameters
    ----------
    held : mapping of str to StoredRow
        Rows in the database; those that are older than everything that comes may be left out.
    """

    def __init__(self, held: dict[str, StoredRow]) -> None:
        self._held = held
        self.newest: dict[str, tuple[Incarnation, BaselineRow]] = {}

    def take(self, incarnation: Incarnation, rows: Sequence[BaselineRow]) -> UpsertResult:
        """Judge an upload's rows, each against those before it."""
        accepted = unchanged = stale = 0
        rejected: list[RowRejection] = []
        for index, row in enumerate(rows):
            age, before = (incarnation.ordinal, row.seq), self._age(row.process_key)
            if before is None or age > before:
                self.newest[row.process_key] = incarnation, row
                accepted += 1
            elif age < before:
                stale += 1
            elif self._is_same(row):
                unchanged += 1
            else:
                rejected.append(RowRejection(index, "seq_reused", f"seq {row.seq} was used for other content before"))
        return UpsertResult(accepted, unchanged, stale, rejected)

    def accepted(self) -> Iterator[tuple[Incarnation, list[BaselineRow]]]:
        """Yield the rows to store in order of their keys, as long runs of one incarnation as that makes."""
        newest = [self.newest[key] for key in sorted(self.newest)]
        for incarnation, run in groupby(newest, key=itemgetter(0)):
            yield incarnation, [row for _, row in run]

    def _age(self, process_key: str) -> tuple[int, int] | None:
        if process_key in self.newest:
            incarnation, row = self.newest[process_key]
            return incarnation.ordinal, row.seq
        held = self._held.get(process_key)
        return None if held is None else (held.ordinal, held.seq)

    def _is_same(self, row: BaselineRow) -> bool:
        content = (row.sample_count, *_vectors([row]))
        if row.process_key in self.newest:
            other = self.newest[row.process_key][1]
            return content == (other.sample_count, *_vectors([other]))
        held = self._held[row.process_key]
        return content == (held.sample_count, held.vector)


def _vectors(rows: Sequence[BaselineRow]) -> list[bytes]:
    """Return each row's distribution as it is stored."""
    distributions = [row.event_distribution for row in rows]
    probabilities = np.fromiter(chain.from_iterable(map(dict.values, distributions)), np.float32)
    classes = np.fromiter(map(_POSITION.__getitem__, chain.from_iterable(distributions)), np.intp, len(probabilities))
    sizes = np.fromiter(map(len, distributions), np.intp, len(distributions))
    vectors = np.zeros((len(rows), len(CLASS_NAMES)), dtype="<f4")
    vectors[np.repeat(np.arange(len(rows)), sizes), classes] = probabilities
    packed = vectors.tobytes()
    return [packed[start : start + _VECTOR_BYTES] for start in range(0, len(packed), _VECTOR_BYTES)]


def store_rows(connection: sa.Connection, accepted: Sequence[Accepted], now: float) -> int:
    """Write rows, unless the database holds newer ones by now; return how many were written, on SQLite alone."""
    rows = [row for each in accepted for row in each.rows]
    sizes = [len(each.rows) for each in accepted]
    return _GUARDED_UPSERT.execute(
        connection,
        {
            "agent_id": _repeated((each.agent_id for each in accepted), sizes),
            "process_key": [row.process_key for row in rows],
            "event_distribution": [row.event_distribution for row in rows],
            "distribution_vector": _vectors(rows),
            "sample_count": [row.sample_count for row in rows],
            "entropy_threshold": [row.entropy_threshold for row in rows],
            "learned_at": [row.learned_at_unix for row in rows],
            "continuous": [row.continuous for row in rows],
            "prior_generation": [row.prior_generation for row in rows],
            "key_shard": [key_shard(row.process_key) for row in rows],
            "updated_at": repeat(now),
            "expires_at": repeat(now + EXPIRY_SECONDS),
            "incarnation": _repeated((each.incarnation.name for each in accepted), sizes),
            "incarnation_ordinal": _repeated((each.incarnation.ordinal for each in accepted), sizes),
            "seq": [row.seq for row in rows],
        },
    )


def _repeated(values: Iterable[_Value], times: Sequence[int]) -> list[_Value]:
    return list(chain.from_iterable(map(repeat, values, times)))


# A key's shard follows from the key: left alone, the index that it leads is left alone as well.
_CHANGED: Final = [
    column.name for column in endpoint_baseline.c if column.name not in {"agent_id", "process_key", "key_shard"}
]
# The rows were compared in this transaction already; the guard holds against whoever stored something since.
_GUARDED_UPSERT: Final = BulkInsert(
    upsert(endpoint_baseline, ["agent_id", "process_key"], update=_CHANGED, guard=["incarnation_ordinal", "seq"])
)
