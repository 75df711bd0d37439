"""Drift of somebody's own alerts: every detector at its default, on every network and host of some files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.errors import ConfigError, CorruptFileError
from eguard.events import EventBatch
from eguard.events.parsers import ParseReport, read_batches
from eguard.mlops.drift_alerts import HOUR_SECONDS, NetworkAlerts, split_networks
from eguard.mlops.drift_params import DriftParams
from eguard.mlops.drift_streams import ALL, SeriesBank, hourly_bank
from eguard.mlops.tables import read_events_table

Progress = Callable[[str, int, int], None]
#: Times of alarm of each series, and when each was armed.
Alarms = tuple[list[NDArray[np.float64]], NDArray[np.float64]]
_COLUMNS: Final = ("time_unix", "host_id", "group", "rule_id")
_PARQUET: Final = b"PAR1"


def drift_of_files(
    paths: Sequence[Path],
    params: DriftParams,
    *,
    source_format: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return the hourly divergences and the alarms of alerts in files.

    Parameters
    ----------
    paths : sequence of Path
        Tables of alerts that the ingest stage wrote (Parquet), or logs in any format that the parsers know; of those,
        events without a rule are left out and counted. A network may be spread over files.
    params : DriftParams
        References; of every detector the default settings are used. Attack windows and captures play no part.
    source_format : str, optional
        Format of the logs; recognised if not given.
    progress : callable, optional
        Told which file is read.

    Returns
    -------
    dict
        ``alerts``, ``without_rule``, ``rejected`` and ``damage`` of the files; ``networks``, each with ``hosts``,
        ``hours``, ``status`` (``watched``, or ``too_short`` for its reference), the excess over the bias of its
        latest hour with a value, and ``alarms`` by series and detector.

    Raises
    ------
    ConfigError
        No file holds an alert with a rule, or a Parquet file is no table of events.
    ParseError
        A format is unknown or not recognised.
    """
    batches: list[EventBatch] = []
    without_rule = rejected = 0
    damage: list[str] = []
    for number, path in enumerate(paths):
        if progress:
            progress("alerts read", number, len(paths))
        batch, report = _read(path, source_format)
        with_rule = np.array([bool(rule) for rule in batch.rule_id], dtype=np.bool_)
        without_rule += int(len(batch) - with_rule.sum())
        rejected += sum(report.rejected.values())
        if report.damage:
            damage.append(f"{path}: {report.damage}")
        batches.append(batch.take(np.flatnonzero(with_rule)))
    alerts = EventBatch.concatenate(batches)
    if not len(alerts):
        raise ConfigError(
            "no alert with a rule in the input",
            remedy="Drift needs alerts of a detection engine: what it calls a rule.",
        )
    options = params.series_options()
    networks = split_networks(alerts, options.reference_hours)
    watched = [network for network in networks if network.n_hours > options.reference_hours]
    bank = hourly_bank(watched, options, streams=(ALL,))
    alarms = {detector.name: bank.alarms(detector, detector.grid[0]) for detector in params.detectors()}
    return {
        "alerts": len(alerts),
        "without_rule": without_rule,
        "rejected": rejected,
        "damage": damage,
        "reference_hours": options.reference_hours,
        "networks": [_network(network, network in watched, bank, alarms) for network in networks],
    }


def _read(path: Path, source_format: str | None) -> tuple[EventBatch, ParseReport]:
    report = ParseReport()
    with suppress(OSError), path.open("rb") as file:
        if file.read(len(_PARQUET)) == _PARQUET:
            return read_events_table(path, _COLUMNS), report
    batches: list[EventBatch] = []
    # What was read before a broken end is kept; the report tells of it.
    with suppress(CorruptFileError):
        batches.extend(read_batches(path, source_format, report))
    return EventBatch.concatenate(batches), report


def _network(
    network: NetworkAlerts, is_watched: bool, bank: SeriesBank, alarms: Mapping[str, Alarms]
) -> dict[str, Any]:
    rows = {key.host: row for row, key in enumerate(bank.keys) if key.network == network.name}
    found: dict[str, Any] = {
        "network": network.name,
        "status": "watched" if is_watched else "too_short",
        "start_unix": network.start_unix,
        "hours": network.n_hours,
        "alerts": len(network.time_unix),
        "hosts": len(network.hosts),
        "latest": {},
        "alarms": [],
    }
    if not is_watched:
        return found
    for reference, divergence in bank.divergence.items():
        excess = divergence.excess_nats[rows[""]]
        periods = np.flatnonzero(np.isfinite(excess))
        if periods.size:
            latest = int(periods[-1])
            found["latest"][reference] = {
                "excess_nats": float(excess[latest]),
                "ended_unix": network.start_unix + (latest + 1) * HOUR_SECONDS,
            }
    for detector, (times, armed) in alarms.items():
        for host, row in rows.items():
            if times[row].size:
                found["alarms"].append(
                    {
                        "host": host,
                        "detector": detector,
                        "armed_unix": float(armed[row]),
                        "times_unix": times[row].tolist(),
                    }
                )
    return found
