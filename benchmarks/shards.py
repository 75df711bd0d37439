"""Detection in several processes beside one: events a second on the clock, and what the agent's own process pays.

Two streams, rules loaded: the shipped mix, where most events repeat and one process answers them from memory, and
process starts with a command line that was never seen before, where the rules have to be run. The peer is one process
on the same events. Nothing else may run on the machine, for these are times on the clock.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from eguard.agent.shards.stage import make_stage
from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions
from eguard.detection.layers import DetectionContent
from eguard.detection.prefilter import CommandLinePrefilter
from eguard.detection.rules import RuleSet
from eguard.events import EventBatch, EventClass
from eguard.events.parsers import read_batches
from eguard.mlops.rules import RulesParams, compile_rules

RAW = Path(__file__).parents[1] / "data" / "raw"
OPTIONS = EngineOptions(reservoir_events=0)
ROUNDS = 2
UNSEEN_EVENTS = 12_000


class _Cost(NamedTuple):
    """Seconds on the clock, and processor seconds of the agent's process, for all events."""

    elapsed: float
    own: float


def run() -> list[dict[str, Any]]:
    """Measure one process, two shards, and four where there are four cores; shards are started beforehand."""
    kept, _ = compile_rules(RAW / "sigma-rules" / "rules.ndjson.gz", RulesParams())
    events = EventBatch.concatenate(
        list(read_batches(RAW / "endpoint-events" / "events.csv.gz", "sysmon-csv"))
    ).sorted_by_time()
    rows: list[dict[str, Any]] = []
    for name, stream in (("shipped mix", events), ("command lines never seen", _unseen(events))):
        alone = _best(kept, stream, 1)
        rows.append(_row(f"detection with rules, {name}, one process", len(stream) / alone.elapsed, "events/s"))
        for n_shards in [2, 4] if (os.cpu_count() or 1) >= 4 else [2]:
            found = _best(kept, stream, n_shards)
            title = f"detection with rules, {name}, {n_shards} shards"
            rows += [
                _row(title, len(stream) / found.elapsed, "events/s", len(stream) / alone.elapsed),
                _row(f"{title}: the agent's process", 1e6 * found.own / len(stream), "us of CPU an event",
                     1e6 * alone.own / len(stream)),
            ]  # fmt: skip
    return rows


def _row(name: str, ours: float, unit: str, peer: float | None = None) -> dict[str, Any]:
    ratio = None if peer is None else ours / peer
    return {"name": name, "ours": ours, "peer": peer, "unit": unit, "ratio": ratio, "target_ratio": None}


def _unseen(events: EventBatch) -> EventBatch:
    """Return process starts, over and over, each with a number of its own at the end of its command line."""
    starts = np.flatnonzero(events.event_class == EventClass.PROCESS_EXEC)
    stream = events.take(np.resize(starts, UNSEEN_EVENTS))
    stream.time_unix = np.arange(UNSEEN_EVENTS, dtype=np.float64)
    stream.command_line = [f"{line} --number={number}" for number, line in enumerate(stream.command_line)]
    return stream


def _best(kept: list[dict[str, Any]], events: EventBatch, n_shards: int) -> _Cost:
    """Return the cheapest of a few runs, each from the start: other work only slows one down."""
    return min(_cost(kept, events, n_shards) for _ in range(ROUNDS))


def _cost(kept: list[dict[str, Any]], events: EventBatch, n_shards: int) -> _Cost:
    content = DetectionContent(
        rules=RuleSet.from_json({"format": 1, "rules": kept}),
        prefilter=CommandLinePrefilter({"mimikatz": 1, "sekurlsa::": 1, "-encodedcommand": 1}),
    )
    engine = Engine("benchmark", content, OPTIONS)
    engine.stage = make_stage(engine, OPTIONS, n_shards)
    try:
        # The first events of each kind arrange the rules, once in the life of a bundle.
        engine.process(events.slice(0, 512))
        began, own = time.perf_counter(), time.process_time()
        for batch in events.chunks():
            engine.process(batch)
        return _Cost(time.perf_counter() - began, time.process_time() - own)
    finally:
        engine.stage.close()
