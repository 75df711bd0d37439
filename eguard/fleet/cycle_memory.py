"""What an aggregation remembers for the next one: who could vote, and what became of every key."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

import sqlalchemy as sa

from eguard.fleet.kernel import AggregationRules, KeyTally
from eguard.fleet.tables import endpoint_agent, fleet_key_votes, fleet_voter
from eguard.fleet.voters import voter_conditions

_NAMES_A_QUERY: Final = 500


class KeyState(NamedTuple):
    """What became of a key, and the time, in seconds since the epoch, before which none of its votes expires."""

    tally: KeyTally
    next_expiry: float


class Voter(NamedTuple):
    """What tells whether an agent's votes may weigh differently than in the last cycle."""

    enrolled_at: float
    enrolled_with: str | None


class MovedVoters(NamedTuple):
    """How those who may vote differ from those who could in the last cycle.

    Attributes
    ----------
    before : int
        How many could vote in the last cycle.
    lost : set of str
        Agents that may not vote any more, or are not there any more.
    came : dict of str to Voter
        Agents that may vote, and could not or were enrolled otherwise.
    are_replaced : bool
        Whether an agent among them was removed and enrolled anew.
    """

    before: int
    lost: set[str]
    came: dict[str, Voter]
    are_replaced: bool


def find_moved(connection: sa.Connection, rules: AggregationRules, now: float) -> MovedVoters:
    """Compare who may vote at the time `now` with who could in the last cycle.

    The database compares: of twenty thousand agents few move, and every row that it handed over would cost more than
    the comparison.
    """
    agent, voter = endpoint_agent.c, fleet_voter.c
    before = int(connection.execute(sa.select(sa.func.count()).select_from(fleet_voter)).scalar_one())
    may_vote = sa.exists().where(agent.agent_id == voter.agent_id, *voter_conditions(rules, now))
    lost = set(connection.execute(sa.select(voter.agent_id).where(~may_vote)).scalars())
    is_new = voter.agent_id.is_(None)
    is_other = sa.or_(voter.enrolled_at != agent.enrolled_at, voter.enrolled_with.is_distinct_from(agent.enrolled_with))
    query = (
        sa.select(agent.agent_id, agent.enrolled_at, agent.enrolled_with, voter.enrolled_at)
        .select_from(endpoint_agent.outerjoin(fleet_voter, voter.agent_id == agent.agent_id))
        .where(*voter_conditions(rules, now), sa.or_(is_new, is_other))
    )
    came, are_replaced = {}, False
    for agent_id, enrolled_at, token, earlier in connection.execute(query):
        came[agent_id] = Voter(enrolled_at, token)
        are_replaced |= earlier is not None and earlier != enrolled_at
    return MovedVoters(before, lost, came, are_replaced)


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
    moved: MovedVoters,
    states: Mapping[str, KeyState],
    replaced: Collection[str] | None,
) -> None:
    """Write down what became of a cycle, in the transaction that publishes it.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    moved : MovedVoters
        How those who could vote differ from the last cycle's. Nobody else wrote since: who publishes meanwhile has
        this cycle begun anew, and of an agent that was removed meanwhile nothing comes back.
    states : mapping of str to KeyState
        Of the keys that were aggregated.
    replaced : collection of str or None
        These keys; those without a state have no votes any more. None: all keys.
    """
    _remember_voters(connection, moved)
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


def _remember_voters(connection: sa.Connection, moved: MovedVoters) -> None:
    for names in pieces_of(moved.lost | moved.came.keys()):
        connection.execute(sa.delete(fleet_voter).where(fleet_voter.c.agent_id.in_(names)))
    if moved.came:
        new = [{"agent_id": agent_id, **voter._asdict()} for agent_id, voter in sorted(moved.came.items())]
        connection.execute(sa.insert(fleet_voter), new)


def pieces_of(names: Collection[str]) -> Iterator[list[str]]:
    """Cut names, in order, into as many as one query takes."""
    ordered = sorted(names)
    for start in range(0, len(ordered), _NAMES_A_QUERY):
        yield ordered[start : start + _NAMES_A_QUERY]
