"""One aggregation cycle: votes of active agents, shard by shard, to a new generation."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import sqlalchemy as sa

from eguard.clock import Clock
from eguard.events import N_EVENT_CLASSES
from eguard.fleet.database import Database
from eguard.fleet.generations import (
    compare_with_earlier,
    current_generation,
    lock_publication,
    publish,
    read_published,
)
from eguard.fleet.health import HealthComparison, PublishedKey
from eguard.fleet.kernel import AggregationRules, Continuous, KeyAggregate, Votes, aggregate_votes
from eguard.fleet.tables import endpoint_agent, endpoint_baseline
from eguard.wire.distribution import distribution_from_vector

Progress = Callable[[str, int, int], None]

#: Votes held at once, unless a single key has more.
BLOCK_VOTES: Final = 65_536
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
            "js_mean": previous.js_mean_nats if previous else None,
            "js_max": previous.js_max_nats if previous else None,
            "health": [asdict(comparison) for comparison in self.health],
            "duration_ms": self.duration_ms,
        }


@dataclass(slots=True)
class _Tally:
    """What is collected while shards go by."""

    aggregates: list[KeyAggregate]
    withheld: dict[str, str]
    agents: set[str]
    votes: int = 0
    votes_below_min_samples: int = 0


def run_aggregation(
    database: Database,
    clock: Clock,
    rules: AggregationRules,
    progress: Progress | None = None,
    also: Callable[[sa.Connection], object] = lambda _: None,
) -> AggregationReport:
    """Aggregate all votes and publish the result as a new generation.

    Votes are read in one snapshot, so uploads go on meanwhile and a vote counts wholly or not at all. Memory holds one
    block of votes and the aggregates; the write transaction at the end holds neither.

    Raises
    ------
    FleetStoreError
        The database refused. Nothing of the cycle remains, the previous generation stays current.
    """
    started = clock.monotonic()
    now = clock.now()
    tally = _Tally([], {}, set())
    with database.read() as connection:
        for votes, agents in _blocks(connection, rules, now, progress):
            result = aggregate_votes(votes, rules)
            tally.aggregates.extend(result.aggregates)
            tally.withheld.update(result.withheld)
            tally.agents.update(agents)
            tally.votes += len(votes.samples) - result.votes_below_min_samples
            tally.votes_below_min_samples += result.votes_below_min_samples
    return _publish(database, clock, tally, rules, also, started=started)


def _publish(
    database: Database,
    clock: Clock,
    tally: _Tally,
    rules: AggregationRules,
    also: Callable[[sa.Connection], object],
    *,
    started: float,
) -> AggregationReport:
    published = {
        item.process_key: PublishedKey(item.distribution, item.agent_count, item.voter_samples)
        for item in tally.aggregates
    }

    def write(connection: sa.Connection) -> AggregationReport:
        lock_publication(connection)
        previous = read_published(connection, current_generation(connection))
        health = tuple(compare_with_earlier(connection, published))
        report = AggregationReport(
            generation=current_generation(connection) + 1,
            aggregated=len(published),
            updated=sum(1 for key, item in published.items() if not _is_same(item, previous.get(key))),
            skipped=dict(Counter(tally.withheld.values())),
            removed=dict(Counter(tally.withheld.get(key, NO_VOTES) for key in previous if key not in published)),
            agents=len(tally.agents),
            votes=tally.votes,
            votes_below_min_samples=tally.votes_below_min_samples,
            health=health,
            duration_ms=1000.0 * (clock.monotonic() - started),
        )
        publish(
            connection,
            [_values(item) for item in tally.aggregates],
            health,
            computed_at=clock.now(),
            source="aggregate",
            report={"rules": asdict(rules), "report": report.to_dict()},
        )
        also(connection)
        return report

    return database.retrying(write)


def _is_same(item: PublishedKey, earlier: PublishedKey | None) -> bool:
    return earlier is not None and bool(np.array_equal(item.distribution, earlier.distribution))


def _blocks(
    connection: sa.Connection, rules: AggregationRules, now: float, progress: Progress | None
) -> Iterator[tuple[Votes, set[str]]]:
    """Yield votes in blocks of whole keys, and the agents behind each block."""
    shards = _shards(connection)
    for done, shard in enumerate(shards):
        pending: list[Any] = []
        query = _votes_query(shard, rules, now).execution_options(yield_per=BLOCK_VOTES)
        for rows in connection.execute(query).partitions():
            pending.extend(rows)
            # The last key may go on in the next partition.
            whole = bisect_left(pending, _process_key(pending[-1]), key=_process_key)
            if whole:
                yield _votes(pending[:whole])
                del pending[:whole]
        if pending:
            yield _votes(pending)
        if progress is not None:
            progress("aggregate", done + 1, len(shards))


def _process_key(row: Any) -> bytes:
    key: str = row.process_key
    return key.encode()


def _shards(connection: sa.Connection) -> list[int]:
    shard = endpoint_baseline.c.key_shard
    return list(connection.execute(sa.select(shard).distinct().order_by(shard)).scalars())


def _votes_query(shard: int, rules: AggregationRules, now: float) -> sa.Select[Any]:
    baseline, agent = endpoint_baseline.c, endpoint_agent.c
    return (
        sa.select(
            baseline.process_key,
            baseline.agent_id,
            baseline.distribution_vector,
            baseline.sample_count,
            baseline.continuous["interarrival", "mean"].as_float().label("interarrival"),
            baseline.continuous["payload", "mean"].as_float().label("payload"),
        )
        .join(endpoint_agent, agent.agent_id == baseline.agent_id)
        .where(
            baseline.key_shard == shard,
            baseline.expires_at > now,
            agent.status == "active",
            agent.last_heartbeat >= now - rules.active_seconds,
            agent.enrolled_at <= now - rules.min_agent_age_seconds,
        )
        .order_by(baseline.process_key, baseline.agent_id)
    )


def _votes(rows: list[Any]) -> tuple[Votes, set[str]]:
    owners, agents, vectors, samples, interarrival, payload = zip(*rows, strict=True)
    starts = [0, *(at for at in range(1, len(owners)) if owners[at] != owners[at - 1])]
    probabilities = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(-1, N_EVENT_CLASSES).astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # float32 left the sum a few 1e-8 off
    votes = Votes(
        keys=[owners[at] for at in starts],
        starts=np.array(starts, dtype=np.intp),
        probabilities=probabilities,
        samples=np.array(samples, dtype=np.int64),
        interarrival=np.array(interarrival, dtype=np.float64),  # None becomes NaN
        payload=np.array(payload, dtype=np.float64),
    )
    return votes, set(agents)


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
