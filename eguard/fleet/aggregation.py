"""One aggregation cycle: votes of active agents, shard by shard, to a new generation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import sqlalchemy as sa

from eguard.clock import Clock
from eguard.errors import FleetStoreError
from eguard.fleet.blocks import BlockResult
from eguard.fleet.changes import clear_marks, end_epoch
from eguard.fleet.cycle_memory import KeyState, pieces_of, remember
from eguard.fleet.cycle_plan import Plan, facts_to_build_on, make_plan
from eguard.fleet.database import Database
from eguard.fleet.executors import EngineOptions, Executor, open_executor
from eguard.fleet.generations import (
    compare_with_earlier,
    current_generation,
    lock_publication,
    publish,
    read_published,
)
from eguard.fleet.health import HealthComparison, PublishedKey
from eguard.fleet.kernel import AggregationRules, Continuous, KeyAggregate, KeyTally
from eguard.fleet.shared_reading import parts_of, read_together
from eguard.fleet.tables import endpoint_agent, endpoint_baseline
from eguard.fleet.vote_reader import Electorate, VoteReader
from eguard.fleet.vote_spool import VoteSpool
from eguard.fleet.voters import HOUR_SECONDS
from eguard.wire.distribution import distribution_from_vector

Progress = Callable[[str, int, int], None]

#: Cycles that are begun anew, at most, because somebody else published meanwhile.
MAX_ATTEMPTS: Final = 8
NO_VOTES: Final = "no_votes"


@dataclass(frozen=True, slots=True)
class AggregationReport:
    """What one cycle did.

    Attributes
    ----------
    generation : int
        Number of the generation published.
    aggregated : int
        Keys in it.
    updated : int
        Keys of it that are new or whose distribution differs from the previous generation's.
    skipped : dict of str to int
        Keys with votes that are not published, by reason: ``below_cohort``, ``below_min_mass``.
    removed : dict of str to int
        Keys of the previous generation that are not in this one, by reason: those and ``no_votes``.
    agents, votes : int
        Agents that voted on a published key or a skipped one, and their votes.
    votes_below_min_samples : int
        Rows of active agents with too few events to vote.
    votes_beyond_token_share : int
        Votes of agents enrolled with a token that has its share of the key's votes already.
    recomputed_keys : int
        Keys that were aggregated in this cycle; the others are taken over from the previous generation.
    full_because : str or None
        Why all keys were, as `eguard.fleet.cycle_plan.Plan` says it; None if they were not.
    health : tuple of HealthComparison
        Against the previous generation and the reference; empty for the first generation.
    duration_ms : float
        By the monotonic clock that the store was given.
    """

    generation: int
    aggregated: int
    updated: int
    skipped: dict[str, int]
    removed: dict[str, int]
    agents: int
    votes: int
    votes_below_min_samples: int
    votes_beyond_token_share: int
    recomputed_keys: int
    full_because: str | None
    health: tuple[HealthComparison, ...]
    duration_ms: float

    def against(self, name: str) -> HealthComparison | None:
        """Return the comparison with ``previous`` or ``reference``, if there is one."""
        return next((comparison for comparison in self.health if comparison.compared_with == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, under the names of the HTTP answer."""
        previous = self.against("previous")
        return {
            "generation": self.generation,
            "aggregated": self.aggregated,
            "updated": self.updated,
            "skipped": sum(self.skipped.values()),
            "removed": sum(self.removed.values()),
            "skipped_by_reason": dict(sorted(self.skipped.items())),
            "removed_by_reason": dict(sorted(self.removed.items())),
            "agents": self.agents,
            "votes": self.votes,
            "votes_below_min_samples": self.votes_below_min_samples,
            "votes_beyond_token_share": self.votes_beyond_token_share,
            "recomputed_keys": self.recomputed_keys,
            "full_because": self.full_because,
            "js_mean": previous.js_mean_nats if previous else None,
            "js_max": previous.js_max_nats if previous else None,
            "health": [asdict(comparison) for comparison in self.health],
            "duration_ms": self.duration_ms,
        }


@dataclass(slots=True)
class _Cycle:
    """What a cycle knows, and what it found out so far."""

    rules: AggregationRules
    now: float
    started: float
    ended_epoch: int
    plan: Plan
    agents: int
    aggregates: list[KeyAggregate] = field(default_factory=list)
    states: dict[str, KeyState] = field(default_factory=dict)

    @property
    def replaced(self) -> frozenset[str] | None:
        """The keys whose rows are replaced; None for all."""
        return None if self.plan.full_because else self.plan.keys

    def add(self, found: BlockResult) -> None:
        """Take the results of a block."""
        self.aggregates += found.result.aggregates
        for tally, hour in zip(found.result.tallies, found.expiry_hours, strict=True):
            self.states[tally.process_key] = KeyState(tally, hour * HOUR_SECONDS)

    def all_tallies(self) -> list[KeyTally]:
        """Return the tally of every key that has votes: those found, and those taken over."""
        taken_over = (state for key, state in self.plan.states.items() if key not in self.plan.keys)
        return [state.tally for state in (*taken_over, *self.states.values())]


def run_aggregation(
    database: Database,
    clock: Clock,
    rules: AggregationRules,
    progress: Progress | None = None,
    also: Callable[[sa.Connection], object] = lambda _: None,
    *,
    engine: EngineOptions | None = None,
    is_full: bool = False,
) -> AggregationReport:
    """Aggregate the votes that changed since the last cycle, and publish the result as a new generation.

    The generation is the one that aggregating all votes would give. Votes are read in one snapshot, so uploads go on
    meanwhile and a vote counts wholly or not at all. Memory holds some blocks of votes and the aggregates; the write
    transaction at the end holds neither.

    Parameters
    ----------
    database : Database
    clock : Clock
    rules : AggregationRules
    progress : callable, optional
        Called with what is being done, how many votes are done, and how many there are.
    also : callable, optional
        Called in the transaction that publishes.
    engine : EngineOptions, optional
        Where votes are aggregated; in this process by default.
    is_full : bool, optional
        Whether keys are aggregated even if none of their votes changed.

    Raises
    ------
    FleetStoreError
        The database refused, or the engine is not available. Nothing of the cycle remains, the previous generation
        stays current.
    """
    with open_executor(engine or EngineOptions()) as executor:
        for _ in range(MAX_ATTEMPTS):
            cycle = _aggregate(database, clock, rules, executor, progress, is_full=is_full)
            report = _publish(database, clock, cycle, also)
            if report is not None:
                return report
    raise FleetStoreError(
        "others published generations while this one was aggregated, several times",
        remedy="Let one server aggregate at a time.",
        reason="aggregation_running",
    )


def _aggregate(
    database: Database,
    clock: Clock,
    rules: AggregationRules,
    executor: Executor,
    progress: Progress | None,
    *,
    is_full: bool,
) -> _Cycle:
    """Read and aggregate what the plan asks for."""
    started = clock.monotonic()
    ended_epoch = database.retrying(end_epoch)
    now = clock.now()
    with ExitStack() as opened:
        with database.read() as connection:
            electorate = Electorate.read(connection, rules, now)
            plan = make_plan(connection, rules, now, is_full=is_full)
            reader = VoteReader(electorate.numbers, now)
            spool = opened.enter_context(VoteSpool(reader.keys, database.folder))
            parts = parts_of(connection) if plan.full_because and executor.sees_files and database.folder else []
            expected = _count_rows(connection, plan, progress)
            if not parts:
                is_all = plan.full_because is not None
                portions = reader.all_votes(connection) if is_all else reader.votes_on(connection, plan.keys)
                _tell(progress, spool.fill(portions), expected)
            not_met = 0 if plan.full_because else _count_not_met(connection, reader)
        # The snapshot is let go of: what follows may take its time.
        if parts:
            _tell(progress, read_together(executor, database.address, parts, reader, spool), expected)
        agents = int(np.count_nonzero(reader.has_voted)) + not_met
        cycle = _Cycle(rules, now, started, ended_epoch, plan, agents)
        done = 0
        for found in executor.aggregate(spool.blocks(electorate), rules):
            cycle.add(found)
            done += found.votes
            if progress is not None:
                progress("aggregate", done, spool.votes)
    return cycle


def _count_not_met(connection: sa.Connection, reader: VoteReader) -> int:
    """Return how many agents have a vote, but none on the keys that were read."""
    row, agent_id = endpoint_baseline.c, endpoint_agent.c.agent_id
    not_met = [name for name, number in reader.numbers.items() if not reader.has_voted[number]]
    has_vote = sa.exists().where(row.agent_id == agent_id, row.expires_at > reader.now)
    query = sa.select(sa.func.count()).select_from(endpoint_agent).where(has_vote)
    return sum(int(connection.execute(query.where(agent_id.in_(names))).scalar_one()) for names in pieces_of(not_met))


def _count_rows(connection: sa.Connection, plan: Plan, progress: Progress | None) -> int:
    """Return the number of rows to read, if anybody wants to know and it can be told."""
    if progress is None or not plan.full_because:
        return 0
    return int(connection.execute(sa.select(sa.func.count()).select_from(endpoint_baseline)).scalar_one())


def _tell(progress: Progress | None, counts: Iterator[int], expected: int) -> None:
    """Read on, and tell how far it got."""
    for votes in counts:
        if progress is not None:
            progress("read votes", votes, max(votes, expected))


def _publish(
    database: Database, clock: Clock, cycle: _Cycle, also: Callable[[sa.Connection], object]
) -> AggregationReport | None:
    """Publish a cycle's generation; None if the one that it builds on is not the current one any more."""
    found = {
        item.process_key: PublishedKey(item.distribution, item.agent_count, item.voter_samples)
        for item in cycle.aggregates
    }

    def write(connection: sa.Connection) -> AggregationReport | None:
        lock_publication(connection)
        if current_generation(connection) != cycle.plan.generation:
            return None
        previous = read_published(connection, cycle.plan.generation)
        kept = () if cycle.replaced is None else previous.keys() - cycle.replaced
        published = {key: previous[key] for key in kept} | found
        health = tuple(compare_with_earlier(connection, published))
        report = _report(cycle, published, previous, health, duration_ms=1000.0 * (clock.monotonic() - cycle.started))
        publish(
            connection,
            [_values(item) for item in cycle.aggregates],
            health,
            computed_at=clock.now(),
            source="aggregate",
            report={**facts_to_build_on(cycle.rules, cycle.now), "report": report.to_dict()},
            replaced=cycle.replaced,
        )
        remember(connection, cycle.plan.moved, cycle.states, cycle.replaced)
        clear_marks(connection, cycle.ended_epoch)
        also(connection)
        return report

    return database.retrying(write)


def _report(
    cycle: _Cycle,
    published: dict[str, PublishedKey],
    previous: dict[str, PublishedKey],
    health: tuple[HealthComparison, ...],
    *,
    duration_ms: float,
) -> AggregationReport:
    tallies = cycle.all_tallies()
    withheld = {tally.process_key: tally.withheld for tally in tallies if tally.withheld is not None}
    return AggregationReport(
        generation=cycle.plan.generation + 1,
        aggregated=len(published),
        updated=sum(1 for key, item in published.items() if not _is_same(item, previous.get(key))),
        skipped=dict(Counter(withheld.values())),
        removed=dict(Counter(withheld.get(key, NO_VOTES) for key in previous if key not in published)),
        agents=cycle.agents,
        votes=sum(tally.votes for tally in tallies),
        votes_below_min_samples=sum(tally.votes_below_min_samples for tally in tallies),
        votes_beyond_token_share=sum(tally.votes_beyond_token_share for tally in tallies),
        recomputed_keys=len(cycle.states) if cycle.replaced is None else len(cycle.replaced),
        full_because=cycle.plan.full_because,
        health=health,
        duration_ms=duration_ms,
    )


def _is_same(item: PublishedKey, earlier: PublishedKey | None) -> bool:
    return earlier is not None and bool(np.array_equal(item.distribution, earlier.distribution))


def _values(item: KeyAggregate) -> dict[str, Any]:
    continuous = {name: _natural(getattr(item, name)) for name in ("interarrival", "payload")}
    return {
        "process_key": item.process_key,
        "median_distribution": distribution_from_vector(item.distribution),
        "agent_count": item.agent_count,
        "voter_samples": item.voter_samples,
        "stddev_kl": item.stddev_kl,
        "pre_norm_mass": item.pre_norm_mass,
        "tolerated_faults": item.tolerated_faults,
        "continuous": {name: value for name, value in continuous.items() if value is not None} or None,
    }


def _natural(feature: Continuous | None) -> dict[str, Any] | None:
    return None if feature is None else feature._asdict()
