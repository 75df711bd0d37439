"""Stage `beacons`: the beacon score on labelled command and control, on benign traffic and on synthetic channels.

A threshold is set on half of the hosts of a benign network and checked on the other half; it is what the bundle
carries. At that threshold every labelled channel is found or missed for a stated reason, beside plain mutual
information and a RITA-style score at thresholds of their own. The settings were fixed before: `settings_commit` names
the revision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from eguard.errors import ConfigError
from eguard.estimators.beacon import BeaconOptions
from eguard.mlops.beacon_benign import benign_timers, callers_of_scored_pairs, unlabelled_pairs, without_a_fleet
from eguard.mlops.beacon_calibration import (
    DESTINATION,
    READINGS,
    SCORED_PAIR,
    Reading,
    calibration_of,
    check_random_halves,
    check_transfer,
    false_alarms,
    hash_halves,
    pair_scores,
    threshold_json,
    threshold_of,
)
from eguard.mlops.beacon_channels import (
    SHIPPED_CHANNELS,
    BeaconChannel,
    FoundChannel,
    judge,
    locate,
    read_apt29_channels,
)
from eguard.mlops.beacon_comparison import LabelledData, ablate, compare
from eguard.mlops.beacon_leave_out import leave_one_capture_out
from eguard.mlops.beacon_pairs import PAIR_COLUMNS, BeaconPairs, pairs_from_events
from eguard.mlops.beacon_peers import debiased_information_bits, plain_information_bits, rita_scores
from eguard.mlops.beacon_plots import channel_intervals, score_points
from eguard.mlops.beacon_scores import score_pairs
from eguard.mlops.beacon_sweep import BenignSide, run_sweep
from eguard.mlops.beacon_synthetic import SweepParams
from eguard.mlops.tables import read_events_table
from eguard.mlops.workspace import Workspace, write_artefact, write_report

Progress = Callable[[str, int, int], None]

BENIGN_GROUP: Final = "rita-http24h"
PLOTS_FOLDER: Final = "plots-beacons"
CALIBRATION_NAME: Final = "beacon-calibration.json"
#: Captures taken at one server, whose callers are other people's hosts.
_SENSOR_HOSTS: Final = {"rita-3days": "64.225.56.201"}


class BeaconsParams(BaseModel):
    """What is promised, what is labelled, and what is simulated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings_commit: str = Field(
        default="f7f601dd5c8f665e71c63ae587219fce4da537c0",
        pattern=r"^[0-9a-f]{40}$",
        description="revision that fixed the settings of the score before this stage read a labelled capture",
    )
    alpha: float = Field(default=0.01, gt=0, lt=0.5, description="false alarms promised for each benign destination")
    reading: Reading = Field(
        default=SCORED_PAIR,
        description="what one trial is: any destination contacted, or only pairs or names with observations enough",
    )
    alphas: tuple[float, ...] = Field(
        default=(0.005, 0.01, 0.02, 0.05, 0.1), description="rates at which the sweep is read"
    )
    callers: tuple[int, ...] = Field(
        default=(1, 3, 5), description="hosts of the fleet that call a channel's destination, where rarity is varied"
    )
    random_halves: int = Field(default=50, ge=1, description="random divisions of the hosts behind the spread")
    channels: tuple[BeaconChannel, ...] = Field(
        default=SHIPPED_CHANNELS,
        description="labelled channels besides those of apt29-day1, which its labels.csv names",
    )
    sweep: SweepParams = Field(default=SweepParams(), description="synthetic channels")


def run(params: BeaconsParams, *, seed: int, workspace: Workspace, progress: Progress | None = None) -> dict[str, Any]:
    """Write ``reports/beacons.json``, its plots and ``models/beacon-calibration.json``.

    Parameters
    ----------
    params : BeaconsParams
        Rates, labels and sizes.
    seed : int
        Of random halves, permutations and synthetic channels.
    workspace : Workspace
        Where the connections lie and reports go.
    progress : callable, optional
        Told the step, how many are done, and of how many.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    ConfigError
        The connections are missing or hold no benign network, or the labels cannot be read.
    """
    evaluation = _Evaluation(params, seed, workspace)
    steps: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("calibration", evaluation.calibration),
        ("channels", evaluation.judged_channels),
        ("comparison", lambda: compare(evaluation.data, evaluation.options, params.alpha)),
        ("ablation", lambda: ablate(evaluation.data, evaluation.options, params.alpha, params.callers)),
        ("leave_one_capture_out", lambda: leave_one_capture_out(evaluation.data, evaluation.options, params.alpha)),
        ("benign_timers", evaluation.timers),
        ("unlabelled", evaluation.unlabelled),
        ("sweep", evaluation.sweep),
    )
    report: dict[str, Any] = evaluation.header()
    for done, (name, step) in enumerate(steps):
        if progress:
            progress("beacons", done, len(steps))
        report[name] = step()
    if progress:
        progress("beacons", len(steps), len(steps))
    write_artefact(workspace.models / CALIBRATION_NAME, evaluation.document())
    for name, points in evaluation.plots().items():
        write_report(workspace.reports / PLOTS_FOLDER / f"{name}.json", points)
    write_report(workspace.reports / "beacons.json", report)
    return report


class _Evaluation:
    """Pairs read once, scored once with the fixed settings, and asked from several sides."""

    def __init__(self, params: BeaconsParams, seed: int, workspace: Workspace) -> None:
        self.params, self.seed = params, seed
        self.options = BeaconOptions()
        events = read_events_table(workspace.interim / "connections.parquet", PAIR_COLUMNS)
        self.pairs = pairs_from_events(events)
        self.benign_events = events.take(np.flatnonzero(np.array(events.group, dtype=np.str_) == BENIGN_GROUP))
        benign = self.pairs.of_group(BENIGN_GROUP)
        if not len(benign):
            raise ConfigError(
                f"the connections hold no group {BENIGN_GROUP} to set a threshold on",
                remedy="Enable net-rita-http24h in the ingest section of params.yaml and run dvc repro ingest.",
            )
        self.benign = score_pairs(benign, self.options, has_fleet=True)
        self.is_calibrating = hash_halves(benign)
        self.scores = pair_scores(benign, self.benign.score, self.benign.regularity.is_scored)
        calibration = self.scores.take(self.is_calibrating)
        # Whatever reading ships, the promise for a destination is kept: a higher threshold keeps it too, and too few
        # destinations leave none.
        self.threshold = max(
            (threshold_of(calibration, params.alpha, reading) for reading in (params.reading, DESTINATION)),
            key=lambda threshold: threshold.threshold,
        )
        #: Under the reading that ships, the plain one and the stricter one; infinite where calibration did not suffice.
        self.readings: tuple[Reading, ...] = tuple(dict.fromkeys((params.reading, DESTINATION, SCORED_PAIR)))
        self.thresholds: dict[str, float] = {
            reading: threshold_of(calibration, params.alpha, reading).threshold for reading in self.readings
        }
        channels = (*params.channels, *read_apt29_channels(workspace.raw))
        groups = sorted({channel.group for channel in channels})
        self.captures = {name: self.pairs.of_group(name) for name in groups}
        self.scored = {name: score_pairs(pairs, self.options, has_fleet=False) for name, pairs in self.captures.items()}
        self.located = [locate([channel], self.captures[channel.group])[0] for channel in channels]
        scorable = [found for found in self.located if self._is_scorable(found)]
        self.data = LabelledData(benign, self.is_calibrating, self.captures, scorable)
        self.curves: list[dict[str, Any]] = []
        self.sweep_report: dict[str, Any] = {}

    def _is_scorable(self, found: FoundChannel) -> bool:
        if found.row is None:
            return False
        return int(self.captures[found.channel.group].n_observations[found.row]) >= self.options.min_observations

    def header(self) -> dict[str, Any]:
        """Return settings and sizes."""
        return {
            "settings": asdict(self.options),
            "settings_commit": self.params.settings_commit,
            "alpha": self.params.alpha,
            "shipped_reading": self.params.reading,
            "threshold": _finite(self.threshold.threshold),
            "thresholds": {reading: _finite(value) for reading, value in self.thresholds.items()},
            "status": self.threshold.status,
            "excluded_observations": self.pairs.excluded,
            "groups": {
                name: _sizes(self.pairs.of_group(name), self.options.min_observations) for name in self.pairs.groups
            },
        }

    def document(self) -> dict[str, Any]:
        """Return what the bundle carries."""
        n_destinations = len(np.unique(self.benign.pairs.destination[self.is_calibrating]))
        return calibration_of(self.threshold, n_destinations, self.options).to_json()

    def calibration(self) -> dict[str, Any]:
        """Return the threshold under every reading, and how it holds on other hosts."""
        alpha = self.params.alpha
        readings = {}
        for name in READINGS:
            rng = np.random.default_rng(self.seed)
            readings[name] = {
                "all_hosts": threshold_json(threshold_of(self.scores, alpha, name)),
                "first_half_checked_on_second": check_transfer(self.scores, self.is_calibrating, alpha, name),
                "second_half_checked_on_first": check_transfer(self.scores, ~self.is_calibrating, alpha, name),
                "random_halves": check_random_halves(self.scores, alpha, name, rng, self.params.random_halves),
            }
        hosts = self.benign.pairs.hosts
        return {
            "group": BENIGN_GROUP,
            "hosts_calibrating": [hosts[code] for code in np.unique(self.benign.pairs.host[self.is_calibrating])],
            "hosts_checking": [hosts[code] for code in np.unique(self.benign.pairs.host[~self.is_calibrating])],
            "readings": readings,
            "keyed_by_address": self._keyed_by_address(),
            "scored_pairs_by_hosts_contacting": callers_of_scored_pairs(self.benign),
            "without_a_fleet": {
                reading: without_a_fleet(self.benign, ~self.is_calibrating, threshold)
                for reading, threshold in self.thresholds.items()
            },
        }

    def _keyed_by_address(self) -> dict[str, Any]:
        """Return how the thresholds hold where destinations are addresses, as an agent keys them."""
        pairs = pairs_from_events(self.benign_events, by_address=True)
        scored = score_pairs(pairs, self.options, has_fleet=True)
        scores, is_calibrating = pair_scores(pairs, scored.score, scored.regularity.is_scored), hash_halves(pairs)
        return {
            reading: {
                "own_threshold": threshold_json(threshold_of(scores.take(is_calibrating), self.params.alpha, reading)),
                "false_alarms_at_shipped": false_alarms(scores.take(~is_calibrating), self.thresholds[reading]),
            }
            for reading in self.readings
        }

    def judged_channels(self) -> dict[str, Any]:
        """Return what becomes of every labelled channel; those with too few observations stand apart."""
        enough, below = [], []
        for found in self.located:
            scored = self.scored[found.channel.group]
            judged = judge(found, scored, {name: _finite(value) for name, value in self.thresholds.items()})
            if self._is_scorable(found):
                enough.append(judged | self._information(found))
            else:
                below.append(judged)
        return {
            "scored": enough,
            "below_minimum": below,
            "n_found": {
                reading: sum(channel["by_reading"][reading]["is_found"] for channel in enough)
                for reading in self.thresholds
            },
            "n_channels": len(enough),
            "rarity": "taken as 1: a capture of one host has no fleet to compare with",
        }

    def _information(self, found: FoundChannel) -> dict[str, Any]:
        """Return plain and debiased information of interval and size, which is reported and decides nothing."""
        assert found.row is not None
        pairs, most = self.captures[found.channel.group], self.options.max_observations
        chosen = pairs.take(np.array([found.row]))
        least = self.options.min_observations
        debiased, p_value = debiased_information_bits(
            pairs, found.row, np.random.default_rng(self.seed), max_observations=most
        )
        end = float(pairs.times_seconds.max())
        plain = plain_information_bits(chosen, min_observations=least, max_observations=most)
        rita = rita_scores(chosen, min_observations=least, end_seconds=end)
        return {
            "information_bits": float(plain[0]),
            "debiased_information_bits": debiased,
            "information_p_value": p_value,
            "rita_style_score": float(rita.score[0]),
            "rita_style_parts": {
                name: float(getattr(rita, name)[0]) for name in ("timing", "size", "histogram", "duration")
            },
        }

    def timers(self) -> dict[str, Any]:
        """Return the benign timers by name: of the benign network, and outbound ones of captures without a fleet."""
        by_group = {BENIGN_GROUP: benign_timers(self.benign, self.thresholds)}
        for group, sensor in _SENSOR_HOSTS.items():
            scored = self.scored.get(group)
            if scored is None:
                continue
            own = np.array([scored.pairs.hosts[code] == sensor for code in scored.pairs.host], bool)
            outbound = score_pairs(scored.pairs.take(own), self.options, has_fleet=False)
            by_group[group] = benign_timers(outbound, self.thresholds)
        return by_group

    def unlabelled(self) -> dict[str, Any]:
        """Return how many unlabelled pairs of each capture pass; no false-alarm rate is claimed of them."""
        return {
            group: unlabelled_pairs(
                scored,
                self.thresholds,
                {f.row for f in self.located if f.channel.group == group and f.row is not None},
                _SENSOR_HOSTS.get(group, ""),
            )
            for group, scored in sorted(self.scored.items())
        }

    def sweep(self) -> dict[str, Any]:
        """Return detection and false alarms of synthetic channels."""
        least = self.options.min_observations
        side = BenignSide(
            self.benign, rita_scores(self.benign.pairs, min_observations=least).score, self.is_calibrating
        )
        result = run_sweep(
            self.params.sweep,
            side,
            thresholds=self.thresholds,
            alphas=self.params.alphas,
            callers=self.params.callers,
            rng=np.random.default_rng(self.seed),
        )
        self.curves, self.sweep_report = result.curves, result.report
        return result.report

    def plots(self) -> dict[str, list[dict[str, Any]]]:
        """Return the points of every plot, one row a point."""
        return {
            "roc": self.curves,
            "detection": [
                {"reading": reading} | row
                for reading, tables in self.sweep_report["by_reading"].items()
                for row in tables["by_jitter_and_missed"]
            ],
            "scores": score_points(self.benign, ~self.is_calibrating, self.data, self.scored),
            "intervals": channel_intervals(self.data, self.options.max_observations),
        }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _sizes(pairs: BeaconPairs, least: int) -> dict[str, int]:
    return {
        "hosts": len(np.unique(pairs.host)),
        "destinations": len(np.unique(pairs.destination)),
        "pairs": len(pairs),
        "pairs_with_observations_enough": int((pairs.n_observations >= least).sum()),
        "observations": int(pairs.offsets[-1]),
    }
