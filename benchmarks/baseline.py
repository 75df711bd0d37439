"""The profile table on the agent's hot path: events a second in batches of 4,096."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from eguard.baseline import ProfileTable
from eguard.events import BATCH_EVENTS

BATCHES = 60
KEYS = 1000
SEED = 20260301
TARGET_EVENTS_PER_SECOND = 1_000_000


def run() -> list[dict[str, Any]]:
    """Return the rates of finding slots and of learning, best of five passes over the same stream."""
    batches = _stream()
    finding, learning = [], []
    for _ in range(5):
        table = ProfileTable()
        spent_finding = spent_learning = 0.0
        for keys, classes, times, payload in batches:
            started = time.perf_counter()
            slots = table.slots_for(keys, times)
            found = time.perf_counter()
            table.observe(slots, classes, times, payload)
            spent_finding += found - started
            spent_learning += time.perf_counter() - found
        finding.append(spent_finding)
        learning.append(spent_learning)
    events = BATCHES * BATCH_EVENTS
    return [
        _row(f"profile table: slots of events, {KEYS} keys", events / min(finding)),
        _row(f"profile table: learning counts and moments, {KEYS} keys", events / min(learning)),
    ]


def _stream() -> list[tuple[list[tuple[str, str]], Any, Any, Any]]:
    rng = np.random.default_rng(SEED)
    names = [(f"process-{number}", f"parent-{number % 20}") for number in range(KEYS)]
    start = 0.0
    batches = []
    for _ in range(BATCHES):
        owners = rng.zipf(1.3, BATCH_EVENTS) % KEYS
        times = start + np.sort(rng.uniform(0.0, 10.0, BATCH_EVENTS))
        start += 10.0
        classes = rng.integers(-1, 8, BATCH_EVENTS).astype(np.int8)
        batches.append(([names[owner] for owner in owners], classes, times, rng.integers(0, 2000, BATCH_EVENTS)))
    return batches


def _row(name: str, rate: float) -> dict[str, Any]:
    return {
        "name": name,
        "ours": rate,
        "peer": None,
        "unit": "events/s",
        "ratio": None,
        "target_ratio": None,
        "target": TARGET_EVENTS_PER_SECOND,
    }


if __name__ == "__main__":
    for row in run():
        print(row)
