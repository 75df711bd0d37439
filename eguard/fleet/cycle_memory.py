"""What an aggregation remembers for the next one: who could vote, and what became of every key."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

import sqlalchemy as sa

from eguard.fleet.kernel import KeyTally
from eguard.fleet.tables import fleet_key_votes, fleet_voter
from eguard.fleet.vote_reader import Voter

_NAMES_A_QUERY: Final = 500


class KeyState(NamedTuple):
    """What became of a key, and the time, in seconds since the epoch, before which none of its votes expires."""

    tally: KeyTally
    next_expiry: float


def read_voters(connection: sa.Connection) -> dict[str, Voter]:
    """Return who could vote in the last cycle."""
    column = fleet_voter.c
    rows = connection.execute(sa.select(column.agent_id, column.enrolled_at, column.enrolled_with))
    return {agent_id: Voter(enrolled_at, token) for agent_id, enrolled_at, token in rows}


def read_states(connection: sa.Connection) -> dict[str, KeyState]:
    """Return what became of every key in the last cycle."""
    column = fleet_key_votes.c
    query = sa.select(
        column.process_key,
        column.votes,
        column.votes_below_min_samples,
        column.votes_beyond_token_share,
        column.withheld,
        column.next_expiry,
    )
    return {row[0]: KeyState(KeyTally(*row[:5]), row[5]) for row in connection.execute(query)}


def remember(
    connection: sa.Connection,
    voters: Mapping[str, Voter],
    states: Mapping[str, KeyState],
    replaced: Collection[str] | None,
) -> None:
    """Write down what became of a cycle, in the transaction that publishes it.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    voters : mapping of str to Voter
        Who could vote.
    states : mapping of str to KeyState
        Of the keys that were aggregated.
    replaced : collection of str or None
        These keys; those without a state have no votes any more. None: all keys.
    """
    _remember_voters(connection, voters)
    if replaced is None:
        connection.execute(sa.delete(fleet_key_votes))
    else:
        for names in pieces_of(replaced):
            connection.execute(sa.delete(fleet_key_votes).where(fleet_key_votes.c.process_key.in_(names)))
    if states:
        values = [{**state.tally._asdict(), "next_expiry": state.next_expiry} for state in states.values()]
        connection.execute(sa.insert(fleet_key_votes), values)


def forget_voter(connection: sa.Connection, agent_id: str) -> None:
    """Say that an agent's keys are marked, so that the next cycle need not look for them."""
    connection.execute(sa.delete(fleet_voter).where(fleet_voter.c.agent_id == agent_id))


def _remember_voters(connection: sa.Connection, voters: Mapping[str, Voter]) -> None:
    before = read_voters(connection)
    gone = [agent_id for agent_id, voter in before.items() if voters.get(agent_id) != voter]
    for names in pieces_of(gone):
        connection.execute(sa.delete(fleet_voter).where(fleet_voter.c.agent_id.in_(names)))
    new = [
        {"agent_id": agent_id, **voter._asdict()}
        for agent_id, voter in sorted(voters.items())
        if before.get(agent_id) != voter
    ]
    if new:
        connection.execute(sa.insert(fleet_voter), new)


def pieces_of(names: Collection[str]) -> Iterator[list[str]]:
    """Cut names, in order, into as many as one query takes."""
    ordered = sorted(names)
    for start in range(0, len(ordered), _NAMES_A_QUERY):
        yield ordered[start : start + _NAMES_A_QUERY]
