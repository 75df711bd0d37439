"""Hourly drift of five networks and their hosts over all shipped alerts: divergences beside pandas and scipy.

The peer groups with pandas and compares with scipy's `jensenshannon` along an axis, a series at a time: the same
divergences of the same series from the same three references, from the same file. Both sides are timed from the file.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon

from eguard.events import EventBatch
from eguard.events.parsers import read_events
from eguard.mlops.drift_alerts import read_networks
from eguard.mlops.drift_params import DriftParams
from eguard.mlops.drift_streams import hourly_bank
from eguard.mlops.tables import write_events

ROOT = Path(__file__).parents[1]
HOUR, DAY_HOURS, NAMED_RULES, MIN_EVENTS = 3600.0, 24, 63, 10
REPEATS = 2
TARGET_SECONDS = 10.0


def run() -> list[dict[str, Any]]:
    path = ROOT / "data/interim/alerts.parquet"
    with tempfile.TemporaryDirectory() as folder:
        if not path.exists():
            path = ingested(Path(folder))
        params = DriftParams()
        n_alerts = sum(len(network.time_unix) for network in read_networks(path, DAY_HOURS))
        ours = _best_seconds(lambda: divergences(path, params))
        peer = _best_seconds(lambda: peer_divergences(path))
        everything = _best_seconds(lambda: all_detectors(path, params))
    return [
        {
            "name": f"hourly drift of {n_alerts:,} alerts: divergences of networks and hosts",
            "ours": n_alerts / ours,
            "peer": n_alerts / peer,
            "unit": "alerts/s",
            "ratio": peer / ours,
        },
        {
            "name": "the same with windows, every stream and twelve detectors",
            "ours": everything,
            "unit": "s",
            "target": TARGET_SECONDS,
            "lower_is_better": True,
        },
    ]


def divergences(path: Path, params: DriftParams) -> int:
    """Return how many values there are, of the stream with everything in it."""
    options = params.series_options()
    networks = read_networks(path, options.reference_hours)
    bank = hourly_bank(networks, options, streams=("all",), windows=False)
    return sum(int(np.isfinite(found.js_nats).sum()) for found in bank.divergence.values())


def all_detectors(path: Path, params: DriftParams) -> int:
    """Return how many alarms there are at the defaults."""
    options = params.series_options()
    bank = hourly_bank(read_networks(path, options.reference_hours), options)
    return sum(len(times) for detector in params.detectors() for times in bank.alarms(detector, detector.grid[0])[0])


def peer_divergences(path: Path) -> int:
    """Return how many values there are."""
    frame = pd.read_parquet(path, columns=["time_unix", "host_id", "group", "rule_id"])
    values = 0
    for _, network in frame.groupby("group", observed=True):
        hour = (network["time_unix"] // HOUR).astype(int).rename("hour")
        hour -= hour.min()
        table = network.groupby(["host_id", hour, "rule_id"], observed=True).size()
        table = table.unstack(fill_value=0)  # noqa: PD010 - of a series of sizes; pivoting a frame is slower
        first_day = table[table.index.get_level_values("hour") < DAY_HOURS].sum()
        named = first_day[first_day > 0].sort_index().sort_values(ascending=False, kind="stable").index[:NAMED_RULES]
        classes = (
            table[named]
            .set_axis(named.astype(str), axis=1)
            .assign(other=table.drop(columns=named).sum(axis=1).astype(int))
        )
        hours = range(hour.max() + 1)
        values += _peer_series(classes.groupby("hour").sum(), hours)
        for _, rows in classes.groupby("host_id", observed=True):
            values += _peer_series(rows.droplevel("host_id"), hours)
    return values


def _peer_series(table: pd.DataFrame, hours: range) -> int:
    counts = table.reindex(hours, fill_value=0).to_numpy(float)
    pinned = np.tile(counts[:DAY_HOURS].sum(axis=0), (len(counts), 1))
    day = counts[:DAY_HOURS]
    if len(day) < DAY_HOURS:
        day = np.pad(day, ((0, DAY_HOURS - len(day)), (0, 0)))
    near = np.roll(day, -1, axis=0) + day + np.roll(day, 1, axis=0)
    enough = counts.sum(axis=1) >= MIN_EVENTS
    previous = pd.DataFrame(np.where(enough[:, np.newaxis], counts, np.nan)).ffill().shift().fillna(0.0).to_numpy()
    found = 0
    for reference, first in ((previous, 1), (pinned, DAY_HOURS), (near[np.arange(len(counts)) % DAY_HOURS], DAY_HOURS)):
        rows = (
            (counts.sum(axis=1) >= MIN_EVENTS)
            & (reference.sum(axis=1) >= MIN_EVENTS)
            & (np.arange(len(counts)) >= first)
        )
        found += int(np.isfinite(jensenshannon(counts[rows], reference[rows], axis=1) ** 2).sum())
    return found


def ingested(folder: Path) -> Path:
    """Parse the shipped alerts, where the pipeline has not run yet."""
    files = sorted((ROOT / "data/raw/alerts-ait").glob("*_alerts.csv.xz"))
    batches = [EventBatch.from_events(read_events(file, "ait")).sorted_by_time() for file in files]
    write_events(folder / "alerts.parquet", EventBatch.concatenate(batches))
    return folder / "alerts.parquet"


def _best_seconds(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    for measured in run():
        print(measured)
