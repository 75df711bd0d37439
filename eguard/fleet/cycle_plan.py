"""What an aggregation has to do: all keys, or those whose votes changed since the last one.

A key's aggregate follows from its votes, their voters and the rules. It holds as long as no vote on it was uploaded,
none expired, none of its voters gained or lost the vote, and the rules are the same. Only uploads leave marks: all
else is found by comparison, so that nobody who changes an agent has to think of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from eguard.fleet.changes import marked_keys
from eguard.fleet.cycle_memory import KeyState, MovedVoters, find_moved, pieces_of, read_states
from eguard.fleet.generations import current_generation
from eguard.fleet.kernel import AggregationRules
from eguard.fleet.tables import endpoint_agent, endpoint_baseline, fleet_generation

#: How a generation's rows are computed. After a change that moves them the number rises, and none is taken over.
FORMAT: Final = 1
#: Beyond this share of voters that moved, or of votes to be read, all votes are read: as the table lies it is quick.
LARGEST_SHARE: Final = 0.2
#: So many are looked up singly, whatever their share.
ALWAYS_FEW: Final = 1000


class Plan(NamedTuple):
    """What a cycle has to do.

    Attributes
    ----------
    generation : int
        The current one, which the plan builds on.
    full_because : str or None
        Why all keys are aggregated: ``asked``, ``first_generation``, ``not_aggregated`` (the current generation was
        imported or gone back to), ``rules_changed``, ``clock_went_back``, ``agents_replaced``, ``many_voters``,
        ``many_votes``. None if they are not.
    keys : frozenset of str
        Those to be aggregated, if not all.
    states : mapping of str to KeyState
        Of the last cycle, for all keys; empty if all are aggregated.
    moved : MovedVoters
        Since the last cycle.
    """

    generation: int
    full_because: str | None
    keys: frozenset[str]
    states: Mapping[str, KeyState]
    moved: MovedVoters


def make_plan(connection: sa.Connection, rules: AggregationRules, now: float, *, is_full: bool) -> Plan:
    """Compare the last cycle with how things are now.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        In the snapshot that votes are read in.
    rules : AggregationRules
    now : float
        In seconds since the epoch.
    is_full : bool
        Whether all keys are to be aggregated in any case.
    """
    generation = current_generation(connection)
    reason = "asked" if is_full else _cannot_build_on(connection, generation, rules, now)
    moved = find_moved(connection, rules, now)
    if reason is None:
        reason = _cannot_tell_keys(connection, moved)
    if reason is None:
        states = read_states(connection)
        keys = marked_keys(connection) | keys_of(connection, moved.lost | moved.came.keys())
        keys |= {key for key, state in states.items() if state.next_expiry <= now}
        if not _are_many(_votes_on(keys, states), _votes_on(states, states)):
            return Plan(generation, None, frozenset(keys), states, moved)
        reason = "many_votes"
    return Plan(generation, reason, frozenset(), {}, moved)


def facts_to_build_on(rules: AggregationRules, now: float) -> dict[str, Any]:
    """Return what a generation's report has to say for the next cycle to build on it."""
    return {"format": FORMAT, "as_of": now, "rules": asdict(rules)}


def _cannot_build_on(connection: sa.Connection, generation: int, rules: AggregationRules, now: float) -> str | None:
    column = fleet_generation.c
    found = connection.execute(sa.select(column.source, column.report).where(column.generation == generation)).first()
    if found is None:
        return "first_generation"
    if found.source != "aggregate":
        return "not_aggregated"
    report, wanted = found.report or {}, facts_to_build_on(rules, now)
    if any(report.get(name) != wanted[name] for name in ("format", "rules")):
        return "rules_changed"
    return "clock_went_back" if report["as_of"] > now else None


def _cannot_tell_keys(connection: sa.Connection, moved: MovedVoters) -> str | None:
    """Return why the rows of agents that moved do not lead to all keys concerned, if they do not."""
    if _are_many(len(moved.lost) + len(moved.came), moved.before):
        return "many_voters"
    # The rows of an agent that was removed are gone, and with them the names of the keys that it voted on.
    are_gone = _count_known(connection, moved.lost) < len(moved.lost)
    return "agents_replaced" if moved.are_replaced or are_gone else None


def _are_many(some: int, of: int) -> bool:
    return some > ALWAYS_FEW and some > LARGEST_SHARE * of


def _votes_on(keys: Iterable[str], states: Mapping[str, KeyState]) -> int:
    tallies = [states[key].tally for key in keys if key in states]
    return sum(tally.votes + tally.votes_below_min_samples + tally.votes_beyond_token_share for tally in tallies)


def _count_known(connection: sa.Connection, agent_ids: Collection[str]) -> int:
    column = endpoint_agent.c.agent_id
    query = sa.select(sa.func.count()).select_from(endpoint_agent)
    return sum(int(connection.execute(query.where(column.in_(names))).scalar_one()) for names in pieces_of(agent_ids))


def keys_of(connection: sa.Connection, agent_ids: Collection[str]) -> set[str]:
    """Return the keys that agents have rows of."""
    column = endpoint_baseline.c
    found: set[str] = set()
    for names in pieces_of(agent_ids):
        query = sa.select(column.process_key).distinct().where(column.agent_id.in_(names))
        found.update(connection.execute(query).scalars())
    return found
