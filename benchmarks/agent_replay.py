"""A recording through the whole agent on one core: decode, windows, drift, learning, journal; and full rows, scored.

The events are all those of the shipped endpoints as if one machine's, recorded as `eguard sensor record` does; four in
five belong to no class that a baseline counts. The state folder lies on the disk. Processor time of all threads
counts, waiting for the disk does not.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.engine_replay import RAW, rule_content, trained_model
from eguard.agent.buffer import AlertBuffer
from eguard.agent.learning import BaselineKeeper
from eguard.agent.outlets import AlertOutlet
from eguard.agent.recording import Recording
from eguard.agent.runtime import AgentRuntime
from eguard.agent.sensing import Sensing
from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions
from eguard.detection.layers import DetectionContent
from eguard.events import EventBatch
from eguard.events.parsers import read_batches
from eguard.sensor import open_sensor
from eguard.sensor.compact_recording import CompactWriter
from eguard.settings import AgentSettings

TARGET_EVENTS_PER_SECOND = 200_000
TARGET_ROWS_PER_SECOND = 20_000
TARGET_EVENT_MICROSECONDS = 4.0
ROUNDS = 3


def run() -> list[dict[str, Any]]:
    """Measure the agent on every event, and with every event scored."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording, n_events = _record(folder / "events.egrec")
        learn = min(_seconds(folder / f"learn-{turn}", recording, everything=False) for turn in range(ROUNDS))
        score = min(_seconds(folder / f"score-{turn}", recording, everything=True) for turn in range(ROUNDS - 1))
    return [
        _row(
            "agent: decode, windows, drift, learning, journal", n_events / learn, "events/s", TARGET_EVENTS_PER_SECOND
        ),
        _row(
            "agent: CPU for each of these events", learn / n_events * 1e6, "us", TARGET_EVENT_MICROSECONDS, lower=True
        ),
        _row("agent: every event a full row with score", n_events / score, "rows/s", TARGET_ROWS_PER_SECOND),
    ]


def _seconds(state: Path, recording: Path, *, everything: bool) -> float:
    """Return the processor seconds that an agent with a fresh state needs for the recording."""
    state.mkdir(mode=0o700)
    settings = AgentSettings(agent_id="bench", state_path=state)
    replay = Recording(open_sensor("replay", replay_path=recording))
    baseline = BaselineKeeper(settings, replay.clock)
    model, gate = trained_model() if everything else (None, None)
    engine = Engine(
        "bench",
        rule_content() if everything else DetectionContent(),
        EngineOptions(reservoir_events=1 << 40 if everything else 256),
        model=model,
        gate=gate,
        profiles=baseline.table,
    )
    outlet = AlertOutlet(AlertBuffer(state / "alerts.db"), lambda _: None)
    runtime = AgentRuntime(engine, Sensing(replay, replay.clock), baseline, outlet, replay.clock)
    started = time.process_time()
    while not runtime.is_done:
        runtime.step(0.0)
    runtime.finish()
    used = time.process_time() - started
    baseline.close()
    outlet.close()
    replay.close()
    return used


def _record(path: Path) -> tuple[Path, int]:
    """Write the events of the shipped endpoints as one recording and return how many they are."""
    events = EventBatch.concatenate(list(read_batches(RAW / "endpoint-events" / "events.csv.gz", "sysmon-csv")))
    events = events.sorted_by_time()
    events.host_id = ["bench"] * len(events)
    with CompactWriter(path) as writer:
        for batch in events.chunks():
            writer.write(batch)
    return path, len(events)


def _row(name: str, ours: float, unit: str, target: float, *, lower: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "peer": None,
        "unit": unit,
        "ratio": None,
        "target_ratio": None,
        "target": target,
        "lower_is_better": lower,
    }


if __name__ == "__main__":
    for row in run():
        print(row["name"], row["ours"], row["unit"])
