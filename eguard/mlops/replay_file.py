"""The engine and the model of a bundle on a file that they have never seen: features, scores, p-values and alerts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eguard.bundle.manifest import MANIFEST_NAME, Manifest, check_files, read_targets
from eguard.clock import SimulatedClock
from eguard.detection.alert import Alert
from eguard.detection.content import LoadedContent, load_content
from eguard.errors import CorruptFileError
from eguard.events import EventBatch, EventClass
from eguard.events.parsers import ParseReport, read_batches
from eguard.fleet.store import FleetStore
from eguard.mlops.feature_table import FeatureTableWriter, ScoredRows, sample_ids
from eguard.mlops.replay_alerts import NetworkReplay
from eguard.mlops.replay_captures import CaptureReplay
from eguard.mlops.replay_endpoints import EndpointReplay
from eguard.mlops.replay_params import ReplayParams
from eguard.mlops.replay_rows import ReplayCollector

Progress = Callable[[str, int, int], None]

#: Every host of somebody's own capture is replayed.
_PARAMS: Final = ReplayParams(max_hosts_per_capture=1 << 20)
_SEED: Final = 0
SCORE_SCHEMA: Final = pa.schema(
    [
        ("sample_id", pa.string()),
        ("score", pa.float64()),
        ("p_value", pa.float64()),
        ("threshold", pa.float64()),  # null while calibration is insufficient
        ("is_flagged", pa.bool_()),
    ]
)


@dataclass(slots=True)
class _Replayed:
    """Rows in the order of the outputs, the alerts of engines, and counts."""

    rows: list[ScoredRows] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)


def replay_file(
    source_format: str, path: Path, out_dir: Path, bundle_dir: Path, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Replay a file with a bundle's content and model.

    Writes ``features.parquet`` (the layout of the pipeline), ``scores.parquet`` (one score a row, by sample_id) and
    ``alerts.ndjson`` to `out_dir`.

    Parameters
    ----------
    source_format : str
        A key of `eguard.events.parsers.FORMATS`.
    path : Path
        The file; it may be compressed.
    out_dir : Path
        Folder for the results; created if missing.
    bundle_dir : Path
        Unsigned targets of a bundle, checked against their manifest.
    progress : callable, optional
        Told what is done, how much of it, and of how much.

    Returns
    -------
    dict
        Counts, and ``damage``: where the file broke off, or None. What stood before the damage was replayed.

    Raises
    ------
    BundleError
        The bundle is not whole.
    ModelError, RuleError
        A part of the bundle does not load, or parts do not belong together.
    ParseError
        The file cannot be read at all, or is in another format.
    """
    loaded = _load_bundle(bundle_dir)
    events, report = _read(source_format, path)
    replayed = _replay(events, loaded, progress)
    out_dir.mkdir(parents=True, exist_ok=True)
    scores = _write(replayed.rows, loaded, out_dir)
    encoded = [alert.to_json() + b"\n" for alert in replayed.alerts]
    (out_dir / "alerts.ndjson").write_bytes(b"".join(encoded))
    counts = report.to_dict()
    return {
        "events": len(events),
        "rows_scored": scores.num_rows,
        "rows_flagged": int(np.count_nonzero(scores["is_flagged"].to_numpy())),
        "alerts": len(replayed.alerts),
        "model_version": loaded.model_version,
        "damage": report.damage or None,
        "alerts_by_confidence": dict(sorted(Counter(alert.confidence for alert in replayed.alerts).items())),
        "events_by_class": _by_class(events),
        "rows_skipped": counts["skipped"],
        "rows_rejected": counts["rejected"],
    }


def _load_bundle(bundle_dir: Path) -> LoadedContent:
    files = read_targets(bundle_dir)
    check_files(Manifest.from_bytes(files[MANIFEST_NAME]), files)
    return load_content(files)


def _read(source_format: str, path: Path) -> tuple[EventBatch, ParseReport]:
    """Return the events up to the damage, if any, in time order."""
    report = ParseReport()
    batches: list[EventBatch] = []
    # A broken end is told in the report; what was read before it is kept.
    with suppress(CorruptFileError):
        batches.extend(read_batches(path, source_format, report))
    return EventBatch.concatenate(batches).sorted_by_time(), report


def _replay(events: EventBatch, loaded: LoadedContent, progress: Progress | None) -> _Replayed:
    """Send the events the way their kind goes: alerts, connections without processes, or an endpoint's telemetry."""
    replayed = _Replayed()
    if not len(events):
        return replayed
    if (events.event_class == EventClass.ALERT).all():
        for network, alerts in _by_group(events):
            replayed.rows.append(NetworkReplay(network, loaded.model.tables).run(alerts)[0])
        return replayed
    if not any(events.comm) and (events.event_class >= 0).all():
        captures = CaptureReplay(loaded.detection, _PARAMS, _SEED, loaded.model, loaded.gate)
        rows, collector, _ = captures.run(events)
    else:
        collector = ReplayCollector("endpoint", "capture_label")
        endpoints = EndpointReplay(
            loaded.detection, _PARAMS, collector, seed=_SEED, model=loaded.model, gate=loaded.gate
        )
        clock = SimulatedClock(float(events.time_unix[0]))
        with FleetStore.create("sqlite://", clock) as store:
            endpoints.run(events, store, clock, progress)
        rows = collector.rows({host: engine.reservoir.sample() for host, engine in endpoints.engines.items()})
    replayed.rows.append(rows)
    replayed.alerts = collector.alerts
    return replayed


def _by_group(events: EventBatch) -> Iterator[tuple[str, EventBatch]]:
    groups = np.array(events.group, dtype=np.str_)
    for group in np.unique(groups).tolist():
        yield group, events.take(np.flatnonzero(groups == group))


def _write(parts: list[ScoredRows], loaded: LoadedContent, out_dir: Path) -> pa.Table:
    """Write features and scores; return the scores."""
    tables = [SCORE_SCHEMA.empty_table()]
    with FeatureTableWriter(out_dir / "features.parquet") as writer:
        for rows in parts:
            writer.write(rows)
            scores = loaded.model.score(rows.features) if len(rows) else np.empty(0)
            decision = loaded.gate.judge(scores, rows.event_class)
            is_finite = np.isfinite(decision.threshold)
            columns = {
                "sample_id": pa.array(sample_ids(rows), pa.string()),
                "score": pa.array(scores),
                "p_value": pa.array(decision.p_values),
                "threshold": pa.array(np.where(is_finite, decision.threshold, 0.0), mask=~is_finite),
                "is_flagged": pa.array(decision.flagged),
            }
            tables.append(pa.table(columns, schema=SCORE_SCHEMA))
    scored = pa.concat_tables(tables)
    pq.write_table(scored, out_dir / "scores.parquet", compression="zstd", compression_level=3)
    return scored


def _by_class(events: EventBatch) -> dict[str, int]:
    values, counts = np.unique(events.event_class, return_counts=True)
    names = [EventClass(value).name.lower() if value >= 0 else "uncounted" for value in values.tolist()]
    return dict(zip(names, counts.tolist(), strict=True))
