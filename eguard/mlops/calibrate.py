"""Stage `calibrate`: conformal thresholds of the shipped model, on benign signals that it was not fitted to.

Calibration scores are a uniform sample of *all* benign signals (before any cap) of hosts that the model never saw, and
of times after its training data. Where agents sent enough of their uniform samples of scored events, those alone
calibrate: adjudicated alerts are selected by the alert, and shipped hosts are none of the fleet. Each event class gets
its own threshold where its sample supports a finite one; the pooled threshold serves the others. Half of the hosts
check the other half's thresholds, both ways round: the guarantee assumes that tomorrow's hosts are like these, and the
check says how far that holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.detection.feature_contract import FEATURE_NAMES, contract_sha256
from eguard.detection.gate import POOLED, CalibrationGroup, calibration_to_json
from eguard.detection.model import Model, load_model
from eguard.errors import ConfigError
from eguard.estimators import conformal_rank, conformal_threshold, two_sample_ks
from eguard.estimators.conformal import Guarantee
from eguard.events.model import UNCOUNTED, EventClass
from eguard.mlops.calibration_checks import coverage_by_simulation, log10_wealth, transfer_check
from eguard.mlops.corpus_selection import LIVE_SOURCE
from eguard.mlops.sampling import hash_ranks
from eguard.mlops.workspace import Workspace, read_json, write_artefact, write_report

Progress = Callable[[str, int, int], None]
#: Threshold of the beacon score, which the stage `beacons` has set.
BEACON_CALIBRATION_NAME: Final = "beacon-calibration.json"
_CLASS_OF_NAME: Final = {member.name.lower(): member.value for member in EventClass}
_COLUMNS: Final = (
    "sample_id", "source", "host_id", "observed_at_unix", "rule_id", "event_class", "label", "is_reservoir",
)  # fmt: skip
#: What the report calls the rows that calibrate.
DRAWN_BY_AGENTS: Final = "uniform samples that agents drew of their scored events, on hosts not trained on"
ALL_BENIGN: Final = "uniform sample of benign signals of hosts not trained on, or later than the training data"


class CalibrateParams(BaseModel):
    """What the thresholds promise and what they are set on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(default=0.01, gt=0, lt=0.5, description="False-positive rate that the thresholds promise.")
    guarantee: Guarantee = Field(
        default="marginal",
        description="marginal: on average over calibration sets; pac: for 95 % of calibration sets.",
    )
    max_scores: int = Field(default=5000, ge=99, description="Most calibration scores of one event class.")
    simulations: int = Field(default=400, ge=10, description="Random divisions of the coverage simulation.")


@dataclass(frozen=True, slots=True)
class BenignScores:
    """Scored benign signals: shape (n,) each. `half` says on which side of the check a signal's host is.

    `population` says what they are a sample of.
    """

    scores: NDArray[np.float64]
    event_class: NDArray[np.int8]
    half: NDArray[np.bool_]
    time_unix: NDArray[np.float64]
    population: str = ALL_BENIGN


def run(
    params: CalibrateParams, *, seed: int, workspace: Workspace, progress: Progress | None = None
) -> dict[str, Any]:
    """Write ``models/calibration.json`` and ``reports/calibration.json``: the classifier's thresholds and the beacons'.

    Raises
    ------
    ConfigError
        There is no benign signal that the model was not fitted to.
    ModelError
        The model is malformed.
    """
    model = load_model(
        read_json(workspace.models / "signature-ml-model.json"), expected_contract_sha256=contract_sha256()
    )
    metadata = read_json(workspace.models / "signature-ml-model-metadata.json")
    held_out = set(metadata["holdout"]["hosts"])
    benign = score_unseen_benign(
        workspace.interim / "features.parquet",
        model,
        held_out_hosts=held_out,
        start_unix=metadata["holdout"]["start_unix_by_source"],
        max_scores=params.max_scores,
        alpha=params.alpha,
        progress=progress,
    )
    groups = calibration_groups(benign.scores, benign.event_class, params)
    beacon = BeaconCalibration.from_json(read_json(workspace.models / BEACON_CALIBRATION_NAME))
    document = calibration_to_json(
        groups,
        alpha=params.alpha,
        guarantee=params.guarantee,
        model_digest=model.digest,
        contract_sha256=contract_sha256(),
        beacon=beacon,
    )
    write_artefact(workspace.models / "calibration.json", document)
    report = _report(params, model, benign, groups, seed) | {"beacon": beacon.to_json()}
    write_report(workspace.reports / "calibration.json", report)
    return report


def _report(
    params: CalibrateParams, model: Model, benign: BenignScores, groups: dict[str, CalibrationGroup], seed: int
) -> dict[str, Any]:
    """Return the thresholds, what they rest on, and how well they keep their promise."""
    return {
        "alpha": params.alpha,
        "guarantee": params.guarantee,
        "model_digest": model.digest,
        "population": benign.population,
        "groups": {
            name: {
                "n": len(group.scores),
                "status": group.status,
                "threshold": None if group.status != "calibrated" else group.threshold,
            }
            for name, group in sorted(groups.items())
        },
        "coverage_simulation": coverage_by_simulation(
            benign.scores, params.alpha, np.random.default_rng(seed), params.simulations
        ),
        "transfer": transfer_check(benign.scores, benign.half, params.alpha, params.guarantee),
        "health": _health(benign, np.random.default_rng(seed)),
    }


def score_unseen_benign(
    path: Path,
    model: Model,
    *,
    held_out_hosts: set[str],
    start_unix: Mapping[str, float],
    max_scores: int,
    alpha: float = 0.01,
    progress: Progress | None = None,
) -> BenignScores:
    """Score a uniform sample of the benign signals that `model` was not fitted to, at most `max_scores` a class.

    Samples that live agents drew are the only ones if there are enough of them for a threshold at `alpha`.

    Raises
    ------
    ConfigError
        The feature table is missing or holds no such signal.
    """
    if not path.exists():
        raise ConfigError(f"there is no feature table at {path}", remedy="Run the stage before: dvc repro replay")
    parts: list[pd.DataFrame] = []
    n_drawn = 0
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            signals = file.read_row_group(group, columns=list(_COLUMNS)).to_pandas()
            start = signals["source"].astype(str).map(start_unix).fillna(np.inf)
            is_unseen = signals["host_id"].isin(held_out_hosts) | (signals["observed_at_unix"] >= start)
            is_benign = (is_unseen & (signals["label"] == 0)).to_numpy()
            drawn = is_benign & (signals["source"].astype(str) == LIVE_SOURCE) & signals["is_reservoir"].to_numpy()
            chosen = np.flatnonzero(is_benign)
            n_drawn += int(drawn.sum())
            if chosen.size:
                # Of each kind apart, for which of them counts is known at the end.
                signals = signals.assign(is_drawn=drawn)
                part = pd.concat(
                    _sample_by_class(rows, max_scores)
                    for _, rows in signals.iloc[chosen].groupby("is_drawn", sort=True)
                )
                features = file.read_row_group(group, columns=list(FEATURE_NAMES)).to_pandas()
                parts.append(pd.concat([part, features.loc[part.index]], axis=1))
            if progress is not None:
                progress("calibrate", group + 1, file.num_row_groups)
    if not parts:
        raise ConfigError(
            "no benign signal is left that the model was not fitted to",
            remedy="Adjudicate benign signals of other hosts, or enlarge train.holdout_fraction.",
        )
    rows = pd.concat(parts, ignore_index=True)
    is_enough = n_drawn > 0 and conformal_rank(n_drawn, alpha) is not None
    if is_enough:
        rows = rows[rows["is_drawn"]].reset_index(drop=True)
    rows = _sample_by_class(rows, max_scores)
    rows = rows.sort_values(["observed_at_unix", "sample_id"], kind="stable")
    event_class = rows["event_class"].astype(str).map(_CLASS_OF_NAME).fillna(UNCOUNTED).to_numpy().astype(np.int8)
    matrix = rows[list(FEATURE_NAMES)].to_numpy(np.float64)
    scores = model.score(model.tables.apply(matrix, event_class, rows["rule_id"].astype(str).tolist()))
    hosts = rows["host_id"].astype(str)
    names = sorted(set(hosts))
    place = dict(zip(names, hash_ranks(names).tolist(), strict=True))
    half = hosts.map(place).to_numpy() % 2 == 0
    population = DRAWN_BY_AGENTS if is_enough else ALL_BENIGN
    return BenignScores(scores, event_class, half, rows["observed_at_unix"].to_numpy(np.float64), population)


def _sample_by_class(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """Keep the `most` rows of each event class whose ids hash lowest: uniform, and the same in every run."""
    rank = pd.Series(hash_ranks(rows["sample_id"].tolist()), index=rows.index)
    place = rank.groupby(rows["event_class"].astype(str)).rank(method="first")
    return rows[place <= most]


def calibration_groups(
    scores: NDArray[np.float64], event_class: NDArray[np.int8], params: CalibrateParams
) -> dict[str, CalibrationGroup]:
    """Return the pooled group, and one for each event class whose sample supports a finite threshold."""
    groups = {POOLED: _group(scores, params)}
    for value in np.unique(event_class[event_class >= 0]):
        group = _group(scores[event_class == value], params)
        if group.status == "calibrated":
            groups[EventClass(int(value)).name.lower()] = group
    return groups


def _group(scores: NDArray[np.float64], params: CalibrateParams) -> CalibrationGroup:
    threshold = conformal_threshold(scores, params.alpha, params.guarantee)
    return CalibrationGroup(threshold.threshold, threshold.status, np.sort(scores))


def _health(benign: BenignScores, rng: np.random.Generator) -> dict[str, Any]:
    """Compare the two halves' scores as a deployed gate compares today's with its calibration set."""
    first, second = benign.scores[benign.half], benign.scores[~benign.half]
    if not (first.size and second.size):
        return {"ks_statistic": None, "ks_p_value": None, "martingale_log10_wealth": None}
    statistic, p_value = two_sample_ks(first, second)
    in_time = np.argsort(benign.time_unix[~benign.half], kind="stable")
    return {
        "ks_statistic": statistic,
        "ks_p_value": p_value,
        "martingale_log10_wealth": log10_wealth(first, second[in_time], rng),
    }
