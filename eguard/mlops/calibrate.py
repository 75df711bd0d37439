"""Stage `calibrate`: conformal thresholds for the classifier, on benign signals that nothing was fitted to.

The scores come from the uniform sample of benign signals that the corpus stage set aside (see `eguard.mlops.corpus`):
of alert sources from all alerts known to be none, of endpoints from the reservoirs, whose contamination is assumed and
printed. A class with scores enough has its own threshold (Mondrian), every other shares the pooled one. The promise is
about signals like these; what it is worth on a network that was not calibrated on is measured beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from eguard.detection.feature_contract import contract_sha256
from eguard.detection.gate import POOLED, CalibrationGroup, calibration_to_json
from eguard.detection.model import Model, load_model
from eguard.errors import ConfigError
from eguard.estimators.conformal import MondrianThresholds, mondrian_thresholds
from eguard.events import UNCOUNTED, EventClass
from eguard.mlops.calibration_checks import simulated_rates, unseen_unit_rates
from eguard.mlops.dataset import Dataset, load_dataset
from eguard.mlops.holdout_evaluation import filled_features
from eguard.mlops.workspace import Workspace, read_json, write_artefact, write_report

Progress = Callable[[str, int, int], None]
SECONDS_PER_DAY: Final = 86_400.0


class CalibrateParams(BaseModel):
    """What the thresholds promise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(default=0.01, gt=0.0, lt=0.5, description="Promised false-positive rate of scored signals.")
    guarantee: Literal["marginal", "pac"] = Field(
        default="marginal", description="marginal: on average over calibrations; pac: for 95 % of them."
    )
    simulations: int = Field(default=500, ge=20, description="Random halvings of the scores that check the coverage.")


def run(
    params: CalibrateParams, *, seed: int, workspace: Workspace, progress: Progress | None = None
) -> dict[str, Any]:
    """Write ``models/calibration.json`` and ``reports/calibration.json``.

    Parameters
    ----------
    params : CalibrateParams
        Rate and guarantee.
    seed : int
        Seeds the halvings of the coverage check.

    Raises
    ------
    ConfigError
        There is no calibration sample.
    ModelError
        The model does not fit the feature contract.
    """
    model = load_model(
        read_json(workspace.models / "signature-ml-model.json"), expected_contract_sha256=contract_sha256()
    )
    data = load_dataset(workspace.processed / "calibration.parquet")
    if not len(data):
        raise ConfigError("the calibration sample is empty", remedy="Adjudicate benign signals; then run corpus again.")
    scores = model.score(filled_features(model, data, np.ones(len(data), np.bool_)))
    thresholds = mondrian_thresholds(scores, data.event_class.tolist(), params.alpha, params.guarantee)
    groups = calibration_groups(scores, data.event_class, thresholds)
    document = calibration_to_json(
        groups,
        alpha=params.alpha,
        guarantee=params.guarantee,
        model_digest=model.digest,
        contract_sha256=contract_sha256(),
    )
    write_artefact(workspace.models / "calibration.json", document)
    if progress is not None:
        progress("calibrate", 1, 2)
    report = {
        "alpha": params.alpha,
        "guarantee": params.guarantee,
        "model_digest": model.digest,
        "calibration_set": _origin(data),
        "groups": {
            name: {"threshold": _finite(group.threshold), "status": group.status, "n": len(group.scores)}
            for name, group in sorted(groups.items())
        },
        "coverage_by_simulation": simulated_rates(
            scores,
            data.event_class,
            params.alpha,
            params.guarantee,
            n_simulations=params.simulations,
            rng=np.random.default_rng(seed),
        ),
        "unseen_networks": unseen_unit_rates(data, scores, params.alpha, params.guarantee),
        "on_corpus": _on_corpus(model, thresholds, workspace),
    }
    write_report(workspace.reports / "calibration.json", report)
    if progress is not None:
        progress("calibrate", 2, 2)
    return report


def calibration_groups(
    scores: NDArray[np.float64], event_class: NDArray[np.int8], thresholds: MondrianThresholds
) -> dict[str, CalibrationGroup]:
    """Return the groups of the calibration JSON: every class with a threshold of its own, and the pool."""
    pooled = thresholds.pooled
    groups = {POOLED: CalibrationGroup(pooled.threshold, pooled.status, np.sort(scores))}
    for value in np.unique(event_class[event_class != UNCOUNTED]).tolist():
        own = thresholds.by_category[value]
        if own.status == "calibrated":
            name = EventClass(value).name.lower()
            groups[name] = CalibrationGroup(own.threshold, own.status, np.sort(scores[event_class == value]))
    return groups


def _origin(data: Dataset) -> dict[str, Any]:
    """Say where the calibration scores are from, and what is only assumed of them."""
    sources, counts = np.unique(data.sources, return_counts=True)
    return {
        "rows": len(data),
        "how": "uniform sample of benign signals set aside before the corpus was capped; nothing was fitted to them",
        "by_source": dict(zip(sources.tolist(), counts.tolist(), strict=True)),
        "hosts": len(np.unique(data.hosts)),
        "assumed_benign_rows": int(data.is_reservoir.sum()),
    }


def _on_corpus(model: Model, thresholds: MondrianThresholds, workspace: Workspace) -> dict[str, Any]:
    """Return what the thresholds flag in the corpus, by source: attacks found and alarms a host and day."""
    data = load_dataset(workspace.processed / "corpus.parquet").labelled()
    scores = model.score(filled_features(model, data, np.ones(len(data), np.bool_)))
    limit = np.array([thresholds.of(value).threshold for value in data.event_class.tolist()])
    flagged = scores > limit
    report = {}
    for source in np.unique(data.sources).tolist():
        rows = (data.sources == source) & ~data.is_flood
        attack, other = rows & (data.labels == 1), rows & (data.labels == 0)
        host_days = _host_days(data, rows)
        report[source] = {
            "flagged_attacks_fraction": _weighted_share(flagged, attack, data.weights),
            "flagged_others_fraction": _weighted_share(flagged, other, data.weights),
            "host_days": host_days,
            "scored_signals_per_host_day": float(data.weights[rows].sum()) / host_days,
            "false_alarms_per_host_day": float(data.weights[other & flagged].sum()) / host_days,
        }
    return report


def _host_days(data: Dataset, rows: NDArray[np.bool_]) -> int:
    """Return the number of (host, date) pairs that hold a row, at least 1."""
    days = np.floor_divide(data.time_unix[rows], SECONDS_PER_DAY).astype(np.int64)
    return max(1, len(np.unique(np.stack([data.hosts[rows], days]), axis=1).T))


def _weighted_share(flags: NDArray[np.bool_], rows: NDArray[np.bool_], weights: NDArray[np.float64]) -> float | None:
    total = float(weights[rows].sum())
    return float(weights[rows & flags].sum()) / total if total else None


def _finite(threshold: float) -> float | None:
    return None if math.isinf(threshold) else threshold
