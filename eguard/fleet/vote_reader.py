"""Votes out of the database: rows of agents that may vote, in large portions, as packed records."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby, repeat
from operator import itemgetter
from typing import Any, Final, cast

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from eguard.events import N_EVENT_CLASSES
from eguard.fleet.blocks import VOTE, Records
from eguard.fleet.ingest import key_shard
from eguard.fleet.kernel import AggregationRules
from eguard.fleet.tables import endpoint_agent, endpoint_baseline
from eguard.fleet.voters import token_code, vote_rank, voter_conditions

#: Rows that are fetched at once.
PORTION_ROWS: Final = 4096
#: Where a row lies in a table of SQLite.
ROW_NUMBER: Final[sa.ColumnClause[int]] = sa.literal_column("endpoint_baseline.rowid", sa.BigInteger)
#: The same table, looked at by key, and where its rows lie.
_BY_KEY: Final = endpoint_baseline.alias("by_key")
_ROW_NUMBER_BY_KEY: Final[sa.ColumnClause[int]] = sa.literal_column("by_key.rowid", sa.BigInteger)
#: Keys that one query asks for by name.
KEYS_A_QUERY: Final = 200
#: "2026-03-01 06": what of a stored time tells the hour.
_HOUR_CHARACTERS: Final = 13

_Row = tuple[Any, ...]


class Electorate:
    """The agents that may vote, numbered in the order in which votes of one key are laid out.

    Parameters
    ----------
    enrolled_with : mapping of str to str or None
        The token that each agent was enrolled with.

    Attributes
    ----------
    numbers : dict of str to int
        By agent, in order.
    tokens : ndarray of int64, shape (n_agents,)
        `eguard.fleet.voters.token_code` of each agent.
    """

    def __init__(self, enrolled_with: Mapping[str, str | None]) -> None:
        ordered = sorted((vote_rank(agent_id), agent_id) for agent_id in enrolled_with)
        self.numbers = {agent_id: number for number, (_, agent_id) in enumerate(ordered)}
        self.tokens = np.array([token_code(enrolled_with[agent_id]) for _, agent_id in ordered], dtype=np.int64)

    @classmethod
    def read(cls, connection: sa.Connection, rules: AggregationRules, now: float) -> Electorate:
        """Ask the database who may vote at the time `now`."""
        agent = endpoint_agent.c
        query = sa.select(agent.agent_id, agent.enrolled_with).where(*voter_conditions(rules, now))
        return cls(dict(connection.execute(query).all()))


class KeyNumbers(dict[str, int]):
    """Numbers of process keys in the order in which they were first met, and the shard of each."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self._shards = bytearray()

    def __missing__(self, process_key: str) -> int:
        number = self[process_key] = len(self.names)
        self.names.append(process_key)
        self._shards.append(key_shard(process_key))
        return number

    def shards(self, numbers: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Return the shards of keys, given their numbers."""
        # A copy: the bytes cannot grow while an array looks at them.
        return np.frombuffer(bytes(self._shards), dtype=np.uint8)[numbers]


class _Hours(dict[str, int]):
    """Hours since 1970 by the beginning of a stored time."""

    def __missing__(self, text: str) -> int:
        hour = self[text] = int(np.datetime64(text.replace(" ", "T"), "h").astype(np.int64))
        return hour


class _Mean(msgspec.Struct, gc=False):
    mean: float


class _Means(msgspec.Struct, gc=False):
    interarrival: _Mean | None = None
    payload: _Mean | None = None


_decode_means: Final = msgspec.json.Decoder(list[_Means | None]).decode


class VoteReader:
    """Reads votes and packs them.

    Parameters
    ----------
    numbers : mapping of str to int
        Of the agents that may vote; rows of others are passed over.
    now : float
        Rows that expired by then are passed over as well.

    Attributes
    ----------
    has_voted : ndarray of bool, shape (n_agents,)
        Whether a vote of the agent with this number was read.
    """

    def __init__(self, numbers: Mapping[str, int], now: float) -> None:
        self.numbers = numbers
        self.now = now
        self.has_voted = np.zeros(len(numbers), dtype=np.bool_)
        self._hours = _Hours()
        self.keys = KeyNumbers()

    def all_votes(self, connection: sa.Connection, rows: range | None = None) -> Iterator[Records]:
        """Yield all votes as the table lies: that is several times quicker than key by key.

        An index leads from key to key, but its rows lie all over the table. On SQLite, `rows` chooses a part of them
        by number.
        """
        query = self._query()
        if connection.dialect.name == "sqlite":
            query = query.with_hint(endpoint_baseline, "NOT INDEXED")
        if rows is not None:
            query = query.where(sa.between(ROW_NUMBER, rows.start, rows.stop - 1))
        yield from self._read(connection, query)

    def votes_on(self, connection: sa.Connection, process_keys: Collection[str]) -> Iterator[Records]:
        """Yield the votes on some keys.

        SQLite looks the rows up in the order in which they lie in the table, those of all keys together: it moves
        through the file once, and reads a page once that has rows of several keys.
        """
        named = sorted((key_shard(process_key), process_key) for process_key in process_keys)
        for start in range(0, len(named), KEYS_A_QUERY):
            by_shard = groupby(named[start : start + KEYS_A_QUERY], itemgetter(0))
            names = {shard: [name for _, name in group] for shard, group in by_shard}
            if connection.dialect.name == "sqlite":
                chosen = [sa.select(_ROW_NUMBER_BY_KEY).where(*_named(_BY_KEY.c, *each)) for each in names.items()]
                yield from self._read(connection, self._query().where(ROW_NUMBER.in_(sa.union_all(*chosen))))
                continue
            for each in names.items():
                yield from self._read(connection, self._query().where(*_named(endpoint_baseline.c, *each)))

    def _query(self) -> sa.Select[Any]:
        column = endpoint_baseline.c
        return sa.select(
            column.process_key,
            column.agent_id,
            column.distribution_vector,
            column.sample_count,
            sa.cast(column.expires_at, sa.String(32)),
            sa.type_coerce(column.continuous, sa.Text),
        ).where(column.expires_at > self.now)

    def _read(self, connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Records]:
        for rows in fetch_portions(connection, query):
            records = self._pack(rows)
            if len(records):
                yield records

    def _pack(self, rows: Sequence[_Row]) -> Records:
        keys, agents, vectors, samples, expiries, continuous = zip(*rows, strict=True)
        records = np.empty(len(rows), dtype=VOTE)
        records["voter"] = np.fromiter(map(self.numbers.get, agents, repeat(-1)), np.int32, len(rows))
        records["samples"] = samples
        records["probabilities"] = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(-1, N_EVENT_CLASSES)
        hours = [text[:_HOUR_CHARACTERS] for text in expiries]
        records["expiry_hour"] = np.fromiter(map(self._hours.__getitem__, hours), np.int32, len(rows))
        records["interarrival"], records["payload"] = _means(continuous)
        is_vote = records["voter"] >= 0
        if not is_vote.all():
            records = records[is_vote]
            keys = tuple(key for key, counts in zip(keys, is_vote.tolist(), strict=True) if counts)
        records["key"] = np.fromiter(map(self.keys.__getitem__, keys), np.int32, len(keys))
        self.has_voted[records["voter"]] = True
        return records


def _named(column: sa.ColumnCollection[str, Any], shard: int, names: list[str]) -> Iterator[sa.ColumnElement[bool]]:
    """Yield what rows on keys of a shard fulfil; the index is by shard first."""
    yield column.key_shard == shard
    yield column.process_key.in_(names)


def _means(continuous: Sequence[str | None]) -> tuple[list[float], list[float]]:
    """Return the means of both features out of the rows' JSON, read as one list."""
    if not any(continuous):
        nothing = [np.nan] * len(continuous)
        return nothing, nothing
    found = _decode_means("[" + ",".join(["null" if text is None else text for text in continuous]) + "]")
    interarrival = [np.nan if each is None or each.interarrival is None else each.interarrival.mean for each in found]
    payload = [np.nan if each is None or each.payload is None else each.payload.mean for each in found]
    return interarrival, payload


def fetch_portions(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Sequence[_Row]]:
    """Yield a query's rows in portions, from SQLite as the driver gives them, without the toolkit's work for each.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        The database refused, or was lost on the way.
    """
    if connection.dialect.name != "sqlite":
        with connection.execute(query, execution_options={"stream_results": True}) as result:
            while found := result.fetchmany(PORTION_ROWS):
                yield cast("Sequence[_Row]", found)
        return
    with connection.execute(query) as result:
        fetch = cast("Callable[[int], Sequence[_Row]]", result.cursor.fetchmany)
        try:
            while rows := fetch(PORTION_ROWS):
                yield rows
        except sqlite3.Error as error:
            raise sa.exc.OperationalError(str(query), None, error) from error
