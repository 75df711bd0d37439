"""The fleet store on a file, durable: uploads taken in and votes aggregated, rows a second."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np

from eguard.clock import SystemClock
from eguard.fleet import FleetStore
from eguard.wire import (
    BaselineBatch,
    BaselineRow,
    distribution_from_vector,
    encode_baseline_batch,
    receive_baseline_batch,
)

AGENTS = 200
PROFILES = 128
EVENTS = 1000
SEED = 20260301


def run() -> list[dict[str, Any]]:
    """Return the rates of first uploads, of replayed ones and of a whole aggregation cycle."""
    bodies = [_body(agent) for agent in range(AGENTS)]
    with tempfile.TemporaryDirectory() as folder, FleetStore.create(f"sqlite:///{folder}/fleet.db") as store:
        first = _upload(store, bodies)
        replay = _upload(store, bodies)
        clock = SystemClock()
        started = clock.monotonic()
        report = store.aggregate()
        seconds = clock.monotonic() - started
    return [
        _row("fleet store: first uploads, decoded and durable", AGENTS * PROFILES / first, "rows/s"),
        _row("fleet store: replayed uploads", AGENTS * PROFILES / replay, "rows/s"),
        _row("fleet store: one aggregation cycle", report.votes / seconds, "votes/s"),
    ]


def _upload(store: FleetStore, bodies: list[bytes]) -> float:
    started = time.perf_counter()
    for body in bodies:
        store.upsert_received("first", receive_baseline_batch(body))
    return time.perf_counter() - started


def _body(agent: int) -> bytes:
    rng = np.random.default_rng((SEED, agent))
    rows = [
        BaselineRow(
            process_key=f"service-{number}:systemd",
            event_distribution=distribution_from_vector(rng.multinomial(EVENTS, np.full(8, 1 / 8)) / EVENTS),
            sample_count=EVENTS,
            entropy_threshold=4.0,
            learned_at_unix=1_772_000_000.0,
            seq=number + 1,
        )
        for number in range(PROFILES)
    ]
    return encode_baseline_batch(BaselineBatch(agent_id=f"agent-{agent:06d}", batch_id="b", baselines=rows))


def _row(name: str, rate: float, unit: str) -> dict[str, Any]:
    return {"name": name, "ours": rate, "peer": None, "unit": unit, "ratio": None, "target_ratio": None}


if __name__ == "__main__":
    for row in run():
        print(row)
