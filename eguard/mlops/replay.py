"""Stage `replay`: recorded events, host by host on a simulated clock, through the engine that agents run.

Endpoints learn, upload and are seeded through the wire and the fleet store every simulated night
(`eguard.mlops.replay_endpoints`); networks of which only alerts are known are replayed by their alerts
(`eguard.mlops.replay_alerts`); network captures and rule positives follow (`eguard.mlops.replay_captures`). Every
candidate becomes one row of ``features.parquet``.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np

from eguard.clock import SimulatedClock
from eguard.detection.indicators import IndicatorSet
from eguard.detection.layers import DetectionContent
from eguard.detection.prefilter import CommandLinePrefilter
from eguard.detection.rules import RuleSet
from eguard.events import EventBatch
from eguard.fleet.store import FleetStore
from eguard.mlops.drift_series import DriftPoint, write_drift_series
from eguard.mlops.feature_table import FeatureTableWriter, ScoredRows
from eguard.mlops.replay_alerts import NetworkReplay, summarise
from eguard.mlops.replay_captures import CaptureReplay, replay_positives
from eguard.mlops.replay_endpoints import EndpointReplay
from eguard.mlops.replay_params import ReplayParams
from eguard.mlops.replay_rows import ReplayCollector
from eguard.mlops.tables import read_events_table
from eguard.mlops.workspace import Workspace, read_json, write_artefact, write_report

__all__ = ["ReplayParams", "run"]

Progress = Callable[[str, int, int], None]

#: Source of the events that a named rule must match.
POSITIVES: Final = "sigma"
#: Columns of the alert table that an alert's row is made of; the others would cost memory and say nothing.
ALERT_COLUMNS: Final = (
    "time_unix",
    "host_id",
    "event_class",
    "comm",
    "event_type",
    "group",
    "rule_id",
    "detector",
    "label",
    "event_bytes",
)


def run(params: ReplayParams, *, seed: int, workspace: Workspace, progress: Progress | None = None) -> dict[str, Any]:
    """Replay the three event tables.

    Writes ``data/interim/features.parquet``, ``fleet.db``, ``fleet-context.json`` and ``drift-series.parquet``, and
    ``reports/replay.json``.

    Parameters
    ----------
    params : ReplayParams
        Sizes of samples and cohorts.
    seed : int
        Seed of the agents' reservoirs.
    workspace : Workspace
        Where tables, rules and outputs lie.
    progress : callable, optional
        Told what is replayed, how much is done, and of how much.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    ConfigError
        An event table is missing or malformed.
    RuleError
        The compiled rules or indicators are missing parts.
    """
    interim = workspace.interim
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) if params.processes > 1 else nullcontext() as pool:
        # The endpoints have a process of their own; what comes back is merged in a fixed order.
        pending = pool.submit(_replay_endpoints, params, seed, workspace) if pool else None
        with FeatureTableWriter(interim / "features.parquet") as writer:
            networks, points = _replay_alerts(params, interim / "alerts.parquet", writer, progress)
            captures = _replay_captures(params, seed, workspace)
            endpoints, positives = pending.result() if pending else _replay_endpoints(params, seed, workspace, progress)
            for part in (endpoints, captures, positives):
                writer.write(part.rows)
                points += part.points
    write_drift_series(interim / "drift-series.parquet", points)
    report = {
        "sources": {
            "ait": networks,
            "endpoint": endpoints.report,
            "network": captures.report,
            "sigma": positives.report,
        },
        "ordinary_rule_matches": endpoints.rule_matches,
        "rows": writer.rows_written,
        "drift_points": len(points),
    }
    write_report(workspace.reports / "replay.json", report)
    return report


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows, counts, drift points and rule matches of one source that passes engines."""

    rows: ScoredRows
    report: dict[str, Any]
    points: list[DriftPoint]
    rule_matches: list[dict[str, Any]] = field(default_factory=list)


def _replay_endpoints(
    params: ReplayParams, seed: int, workspace: Workspace, progress: Progress | None = None
) -> tuple[_Part, _Part]:
    """Replay the endpoints, then the rule positives; write the fleet's database and tables."""
    interim = workspace.interim
    content = load_detection_content(interim / "rules.json", interim / "indicators.json")
    events, positives = _endpoint_events(interim / "events.parquet", params.max_events)
    clock = SimulatedClock(float(events.time_unix[0]) if len(events) else 0.0)
    collector = ReplayCollector("endpoint", "capture_label")
    endpoints = EndpointReplay(content, params, collector, seed=seed)
    with _open_fleet(interim / "fleet.db", clock) as store:
        endpoints.run(events, store, clock, progress)
    write_artefact(interim / "fleet-context.json", endpoints.fleet.to_json())
    rows = collector.rows({host: engine.reservoir.sample() for host, engine in endpoints.engines.items()})
    matches = rule_matches(content, collector)
    positive_rows, positive, found = replay_positives(positives, content, seed=seed)
    return (
        _Part(rows, endpoints.report(), collector.drift_points, matches),
        _Part(positive_rows, positive.report() | found, positive.drift_points),
    )


def _replay_captures(params: ReplayParams, seed: int, workspace: Workspace) -> _Part:
    """Replay the network captures."""
    interim = workspace.interim
    content = load_detection_content(interim / "rules.json", interim / "indicators.json")
    connections = read_events_table(interim / "connections.parquet")
    rows, collector, by_capture = CaptureReplay(content, params, seed).run(connections)
    return _Part(rows, collector.report() | {"captures": by_capture}, collector.drift_points)


def load_detection_content(rules_path: Path, indicators_path: Path) -> DetectionContent:
    """Load what the rules stage wrote.

    Raises
    ------
    RuleError
        A file is of another format or malformed.
    """
    rules = read_json(rules_path)
    return DetectionContent(
        indicators=IndicatorSet.from_json(read_json(indicators_path)),
        rules=RuleSet.from_json(rules),
        prefilter=CommandLinePrefilter.from_json(rules),
    )


def rule_matches(content: DetectionContent, collector: ReplayCollector) -> list[dict[str, Any]]:
    """Return how many ordinary events each rule matched, most first."""
    ranked = sorted(collector.rules.items(), key=lambda item: (-item[1], content.rules.rules[item[0]].id))
    return [
        {"rule_id": rule.id, "title": rule.title, "level": rule.level, "author": rule.author, "events": count}
        for rule, count in ((content.rules.rules[index], count) for index, count in ranked)
    ]


def _endpoint_events(path: Path, most: int | None) -> tuple[EventBatch, EventBatch]:
    """Return the endpoints' events in time order, at most the first `most`, and the rule positives apart from them."""
    events = read_events_table(path)
    is_positive = np.array([source == POSITIVES for source in events.source], dtype=np.bool_)
    ordinary = np.flatnonzero(~is_positive)
    in_time = ordinary[np.argsort(events.time_unix[ordinary], kind="stable")][:most]
    return events.take(in_time), events.take(np.flatnonzero(is_positive))


def _open_fleet(database: Path, clock: SimulatedClock) -> FleetStore:
    """Return an empty fleet store on the simulated clock; an earlier replay's is removed."""
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    return FleetStore.create(f"sqlite:///{database}", clock)


def _replay_alerts(
    params: ReplayParams, path: Path, writer: FeatureTableWriter, progress: Progress | None
) -> tuple[dict[str, Any], list[DriftPoint]]:
    """Replay the alert networks one after the other, so that the rows of one at a time lie in memory."""
    alerts = read_events_table(path, ALERT_COLUMNS)
    groups = np.array(alerts.group, dtype=np.str_)
    networks: dict[str, Any] = {}
    points: list[DriftPoint] = []
    names = np.unique(groups).tolist()
    for done, network in enumerate(names):
        if progress:
            progress(f"alerts of {network}", done, len(names))
        rows_of = np.flatnonzero(groups == network)
        rows_of = rows_of[np.argsort(alerts.time_unix[rows_of], kind="stable")][: params.max_alerts]
        replay = NetworkReplay(network)
        rows, series = replay.run(alerts.take(rows_of))
        writer.write(rows)
        points += series
        networks[network] = {**summarise(rows), "drift_alarms": replay.drift.alarms}
    return {"networks": networks, "alerts": sum(network["alerts"] for network in networks.values())}, points
