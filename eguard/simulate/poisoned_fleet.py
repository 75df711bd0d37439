"""A simulated fleet's server: uploads come in as bodies of the wire, generations go out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.baseline import ProfileTable
from eguard.baseline.upload import pack_uploads, to_wire
from eguard.clock import SimulatedClock
from eguard.estimators import jensen_shannon_nats
from eguard.fleet.aggregation import AggregationReport
from eguard.fleet.store import FleetStore
from eguard.mlops.poison_bounds import Aggregator, clean_aggregate
from eguard.wire.baseline import BaselineRow, entropy_threshold, receive_baseline_batch
from eguard.wire.distribution import distribution_from_vector, vector_from_distribution
from eguard.wire.process_key import decode_process_key

Floats = NDArray[np.float64]

#: Seconds between uploads.
CYCLE_SECONDS: Final = 900.0
_INCARNATION: Final = "simulated"


def learned_rows(process_key: str, counts: NDArray[np.int64], now: float) -> list[BaselineRow]:
    """Return what an honest agent uploads that counted these events, shape (8,): its profile table makes the row."""
    table = ProfileTable(capacity=1)
    slots = table.slots_for([decode_process_key(process_key)], np.array([now]))
    table.learn_counts(slots, counts[None])
    return to_wire(table)


def forged_row(process_key: str, vote: Floats, sample_count: int, *, seq: int, now: float) -> BaselineRow:
    """Return a row as a liar makes it: any distribution, shape (8,), with any number of events behind it."""
    return BaselineRow(
        process_key=process_key,
        event_distribution=distribution_from_vector(vote),
        sample_count=sample_count,
        entropy_threshold=entropy_threshold(sample_count),
        learned_at_unix=now,
        seq=seq,
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a generation says about the key; no distribution where it is not published."""

    distribution: Floats | None
    mass: float | None
    tolerated_faults: int | None

    def total_variation(self, other: Outcome) -> float | None:
        """Return the distance to another outcome; None where either is not published."""
        if self.distribution is None or other.distribution is None:
            return None
        return 0.5 * float(np.abs(self.distribution - other.distribution).sum())

    def js_nats(self, other: Outcome) -> float | None:
        """Return the Jensen-Shannon divergence from another outcome; None where either is not published."""
        if self.distribution is None or other.distribution is None:
            return None
        return float(jensen_shannon_nats(self.distribution, other.distribution))


class PoisonedFleet:
    """The server's side of one simulated fleet, and the uploads that reach it."""

    def __init__(self, store: FleetStore, clock: SimulatedClock, process_key: str) -> None:
        self._store, self._clock, self._key = store, clock, process_key

    def upload_counts(self, agent_id: str, counts: NDArray[np.int64]) -> None:
        """Upload as an honest agent does: from its profile table."""
        self._send(agent_id, learned_rows(self._key, counts, self._clock.now()))

    def upload_vote(self, agent_id: str, vote: Floats, sample_count: int, *, seq: int) -> None:
        """Upload a crafted row, as a liar does."""
        self._send(agent_id, [forged_row(self._key, vote, sample_count, seq=seq, now=self._clock.now())])

    def _send(self, agent_id: str, rows: Sequence[BaselineRow]) -> None:
        for body in pack_uploads(agent_id, list(rows)).bodies:
            self._store.upsert_received(_INCARNATION, receive_baseline_batch(body))

    def aggregate(self) -> AggregationReport:
        """Let a cycle pass and publish a generation."""
        self._clock.advance_to(self._clock.now() + CYCLE_SECONDS)
        return self._store.aggregate()

    def published(self, aggregator: Aggregator, votes: Floats) -> Outcome:
        """Return what the store published, or what another aggregator would have made of the same votes."""
        details = next((row for row in self._store.fleet_details() if row["process_key"] == self._key), None)
        faults = None if details is None else int(details["tolerated_faults"])
        if aggregator != "trimmed_median":
            return Outcome(clean_aggregate(votes, aggregator), 1.0, faults)
        if details is None:
            return Outcome(None, None, None)
        distribution = vector_from_distribution(details["median_distribution"])
        return Outcome(distribution, float(details["pre_norm_mass"]), faults)
