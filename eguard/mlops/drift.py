"""Stage `drift`: drift detectors against known onsets, repeated captures of one host, and the fleet's generations.

``reports/drift.json`` holds the figures. Behind them are ``data/interim/drift-details.json``, with every setting,
alarm, capture and generation, and ``drift-hourly.parquet``, the series of whole networks. Nothing is fitted: a
detector has its published defaults, and the settings that each network would have chosen for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eguard.mlops.drift_alerts import HOUR_SECONDS, NetworkAlerts, read_networks
from eguard.mlops.drift_captures import captures_report, read_captures
from eguard.mlops.drift_counts import DAY_HOURS
from eguard.mlops.drift_evaluation import SCOPES, Evaluation
from eguard.mlops.drift_fleet import fleet_report
from eguard.mlops.drift_onsets import Episode, read_episodes
from eguard.mlops.drift_params import DriftParams
from eguard.mlops.drift_streams import ALL, SeriesBank, daily_bank, hourly_bank
from eguard.mlops.workspace import Workspace, write_artefact, write_report

Progress = Callable[[str, int, int], None]
REPORT_NAME: Final = "drift.json"
SERIES_NAME: Final = "drift-hourly.parquet"
DETAILS_NAME: Final = "drift-details.json"


def run(params: DriftParams, *, seed: int, workspace: Workspace, progress: Progress | None = None) -> dict[str, Any]:
    """Write the report and the hourly series.

    Parameters
    ----------
    params : DriftParams
        References and settings.
    seed : int
        Not used: nothing here is random.
    workspace : Workspace
        ``data/interim/alerts.parquet``, ``events.parquet``, ``fleet.db``, and the table of attack windows.
    progress : callable, optional
        Told how far the evaluation is.

    Raises
    ------
    ConfigError
        An input is missing.
    """
    del seed
    options = params.series_options()
    networks = read_networks(workspace.interim / "alerts.parquet", options.reference_hours)
    episodes, steps = read_episodes(workspace.root / params.attack_windows, params.episode_gap_hours)
    watched = [network for network in networks if network.n_hours > options.reference_hours]
    hourly, daily = hourly_bank(watched, options), daily_bank(watched, options)
    by_hour = Evaluation(
        watched,
        hourly,
        episodes,
        steps,
        detectors=params.detectors(),
        horizon_hours=params.horizon_hours,
        progress=progress,
    )
    by_day = Evaluation(
        watched,
        daily,
        episodes,
        steps,
        detectors=[detector for detector in params.detectors() if detector.name in _DAILY],
        horizon_hours=max(params.horizon_hours, DAY_HOURS),
    )
    captures, capture_rows = captures_report(
        read_captures(
            workspace.interim / "events.parquet", min_captures=params.min_captures, min_events=params.min_capture_events
        ),
        baseline_captures=params.baseline_captures,
        level_nats=params.level_nats[0],
    )
    fleet, generations = fleet_report(workspace.interim / "fleet.db", params.level_nats[0])
    details = {
        "hourly_grid": {scope: by_hour.grid_report(scope) for scope in SCOPES},
        "daily_grid": {scope: by_day.grid_report(scope) for scope in SCOPES},
        "default_alarms": _alarms(by_hour),
        "captures": capture_rows,
        **generations,
    }
    report = {
        "params": params.model_dump(mode="json"),
        "networks": [_network(network, network in watched) for network in networks],
        "episodes": [_episode(episode) for episode in episodes],
        "background": [_background(network, episodes) for network in watched],
        "hourly": _by_scope(by_hour, params),
        "daily": _by_scope(by_day, params),
        "steps": by_hour.steps_report(dict.fromkeys(step.steps[0] for step in steps), params.max_false_alarms_per_week),
        "captures": captures,
        "fleet": fleet,
    }
    write_artefact(workspace.interim / DETAILS_NAME, details)
    write_series(workspace.interim / SERIES_NAME, (hourly, daily))
    write_report(workspace.reports / REPORT_NAME, report)
    return report


#: Four to six days are too few for a chart that learns its moments, or for ADWIN: days have the level rule alone.
_DAILY: Final = ("level, previous", "level, pinned")


def write_series(path: Path, banks: Iterable[SeriesBank]) -> None:
    """Write the divergences of whole networks with all of the attack in the stream, one row a period with a value."""
    rows: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
    for bank in banks:
        for row, key in enumerate(bank.keys):
            if key.host or key.stream != ALL:
                continue
            for reference, divergence in bank.divergence.items():
                js, bias = divergence.js_nats[row], divergence.bias_nats[row]
                for period in np.flatnonzero(np.isfinite(js)).tolist():
                    values = (
                        key.network,
                        reference,
                        bank.period_hours,
                        float(bank.start_unix[row]) + (period + 1) * bank.period_hours * HOUR_SECONDS,
                        float(js[period]),
                        float(bias[period]),
                    )
                    for name, value in zip(_SCHEMA.names, values, strict=True):
                        rows[name].append(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows, schema=_SCHEMA), path, compression="zstd", compression_level=3)


_SCHEMA: Final = pa.schema(
    [
        ("network", pa.string()),
        ("reference", pa.string()),
        ("period_hours", pa.int64()),
        ("time_unix", pa.float64()),  # end of the period
        ("js_nats", pa.float64()),
        ("bias_nats", pa.float64()),
    ]
)


def _by_scope(evaluation: Evaluation, params: DriftParams) -> dict[str, Any]:
    budgets = (params.max_false_alarms_per_week, params.max_false_alarms_per_host_week)
    return {scope: evaluation.report(scope, budget) for scope, budget in zip(SCOPES, budgets, strict=True)}


def _network(network: NetworkAlerts, is_watched: bool) -> dict[str, Any]:
    return {
        "name": network.name,
        "start_unix": network.start_unix,
        "end_unix": network.end_unix,
        "alerts": len(network.time_unix),
        "hosts": len(network.hosts),
        "is_watched": is_watched,
    }


def _episode(episode: Episode) -> dict[str, Any]:
    return {
        "network": episode.network,
        "start_unix": episode.start_unix,
        "end_unix": episode.end_unix,
        "steps": list(episode.steps),
    }


def _background(network: NetworkAlerts, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Count attack alerts outside every episode, by step: what is there from the first day is part of the reference."""
    outside = np.ones(len(network.time_unix), dtype=np.bool_)
    for episode in episodes:
        if episode.network == network.name:
            outside &= (network.time_unix < episode.start_unix) | (network.time_unix > episode.end_unix)
    hour = (network.time_unix - network.start_unix) // HOUR_SECONDS
    found = {}
    for index, step in enumerate(network.steps):
        rows = outside & (network.step == index)
        if step and rows.any():
            found[step] = {"alerts": int(rows.sum()), "hours": len(np.unique(hour[rows]))}
    return {"network": network.name, "hours": network.n_hours, "steps": found}


def _alarms(evaluation: Evaluation) -> list[dict[str, Any]]:
    """List the alarms on whole networks at the default settings."""
    return [
        {"detector": case.detector, "network": case.network, "times_unix": times}
        for case, times in evaluation.alarms.items()
        if case.setting == 0
    ]
