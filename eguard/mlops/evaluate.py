"""Stage `offline_eval`: judge the model on a time, on hosts and on networks that it has not seen.

Two views. The **holdout**, the latest networks, is scored once by the shipped model JSON as an agent would read it. And
**unseen networks**: every network in turn is left out, the whole procedure is fitted to the others, and average
precision without the scan floods is averaged over the networks: the headline. Unless a figure says otherwise every
corpus row counts for all the alerts it stands for; ``by_signal`` counts capped rows once.

The gates hold for any data. A miss is reported and leaves the bundle unpromoted; it ends the stage only when asked to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from eguard.detection.feature_contract import contract_sha256
from eguard.detection.model import load_model
from eguard.errors import ConfigError, GateFailedError
from eguard.mlops.classifiers import specification_from_json
from eguard.mlops.dataset import Dataset, load_dataset
from eguard.mlops.gates import Gate, missed
from eguard.mlops.golden import golden_recall
from eguard.mlops.holdout_evaluation import HoldoutEvaluation
from eguard.mlops.live_groups import grouped
from eguard.mlops.model_selection import FittingOptions
from eguard.mlops.network_evaluation import NetworkOptions, evaluate_networks
from eguard.mlops.splits import Holdout, plan_holdout
from eguard.mlops.workspace import Workspace, read_json, write_report

Progress = Callable[[str, int, int], None]
REPORT_NAME: Final = "signature-ml-offline-eval-report.json"


class EvaluateParams(BaseModel):
    """What is measured, and what a model must reach to be promoted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_precision: float = Field(default=0.75, ge=0.0, le=1.0, description="At the operating point, on the holdout.")
    min_recall: float = Field(default=0.70, ge=0.0, le=1.0, description="At the operating point, on the holdout.")
    min_average_precision: float = Field(
        default=0.82, ge=0.0, le=1.0, description="On the holdout, and on average over unseen networks."
    )
    min_roc_auc: float = Field(default=0.82, ge=0.0, le=1.0, description="On the holdout.")
    max_brier: float = Field(default=0.20, ge=0.0, le=1.0, description="Mean squared error of the probability.")
    max_ece: float = Field(default=0.10, ge=0.0, le=1.0, description="Expected calibration error, 15 equal-mass bins.")
    max_drop: float = Field(
        default=0.05, ge=0.0, le=1.0, description="Largest loss of average precision against the previous model."
    )
    fail_on_threshold: bool = Field(
        default=False, description="End the stage with an error when a threshold is missed."
    )
    fail_on_regression: bool = Field(default=False, description="End the stage with an error on a larger drop.")
    previous_model: str = Field(
        default="previous/signature-ml-model.json",
        description="Model to compare with, relative to the workspace; none if the file is missing.",
    )
    max_golden_drop: float = Field(
        default=0.02,
        ge=0.0,
        le=1.0,
        description="Largest loss of recall on the golden attacks against the previous model.",
    )
    golden: str = Field(
        default="data/shipped/corpus.parquet",
        description="Shipped corpus whose held-out attacks are the golden set, relative to the workspace.",
    )
    judged_sources: tuple[str, ...] | None = Field(
        default=None, description="Sources whose rows judge the model; null for all. The nightly judges on live rows."
    )
    bootstrap_replicates: int = Field(default=200, ge=20, description="Resamplings of hosts behind each interval.")
    unseen_sources: tuple[str, ...] = Field(
        default=("ait", "live"), description="Sources whose networks are left out one at a time."
    )
    min_network_attacks: int = Field(
        default=30, ge=1, description="Attacks beside floods from which on a network is left out in turn."
    )
    ablation_rows: int = Field(
        default=20_000, ge=1000, description="Rows of the corpus that the refits without feature groups use."
    )


def run(params: EvaluateParams, *, seed: int, workspace: Workspace, progress: Progress | None = None) -> dict[str, Any]:
    """Write the offline evaluation report and the curves below ``reports/plots``.

    Parameters
    ----------
    params : EvaluateParams
        Gates and sizes.
    seed : int
        Seeds the draws of hosts.

    Raises
    ------
    GateFailedError
        A gate was missed and the parameters ask for failure; the report is written before.
    ConfigError, ModelError
        An input is missing, or model and corpus do not belong together.
    """
    training = _training_report(workspace)
    path = workspace.processed / "corpus.parquet"
    data = load_dataset(path, training["max_samples"]).labelled()
    model = load_model(
        read_json(workspace.models / "signature-ml-model.json"), expected_contract_sha256=contract_sha256()
    )
    split = plan_holdout(data, training["holdout_fraction"])
    if split.to_json() != training["holdout"]:
        raise ConfigError(
            "the corpus is not the one that the model was trained on", remedy="Train again: dvc repro train"
        )
    previous = _previous(workspace, params)
    judging = _judging(data, split, params, workspace)
    holdout = HoldoutEvaluation(data, judging, model, seed, params.bootstrap_replicates).report(
        previous, FittingOptions(**training["options"])
    )
    golden = golden_recall(workspace.root / params.golden, training["holdout_fraction"], model, previous)
    options = _network_options(params, training, seed)
    rows, fewer, options, left_out = _on_unseen(path, data, params, options, training["max_samples"])
    networks, plots = evaluate_networks(rows, fewer, options, progress)
    networks["left_out"] = left_out
    gates = _gates(params, holdout, networks, golden)
    report = {
        "model_version": model.version,
        "model_digest": model.digest,
        "model_kind": model.kind,
        "headline": networks.pop("headline"),
        "promoted": all(gate.passed for gate in gates),
        "gates": [gate.to_json() for gate in gates],
        "holdout": holdout,
        "unseen_networks": networks,
        "golden": golden,
    }
    write_report(workspace.reports / REPORT_NAME, report)
    for name, points in plots.items():
        write_report(workspace.reports / "plots" / f"{name}.json", points)
    _fail_if_asked(params, gates, report)
    return report


def _training_report(workspace: Workspace) -> dict[str, Any]:
    path = workspace.reports / "train.json"
    if not path.exists():
        raise ConfigError(f"there is no training report at {path}", remedy="Run the stage before: dvc repro train")
    report: dict[str, Any] = read_json(path)
    return report


def _previous(workspace: Workspace, params: EvaluateParams) -> Any:
    path = workspace.root / params.previous_model
    return read_json(path) if path.exists() else None


def _judging(data: Dataset, split: Holdout, params: EvaluateParams, workspace: Workspace) -> Holdout:
    """Return the split with only the rows that judge on its held-out side.

    Raises
    ------
    GateFailedError
        They are not of both labels.
    """
    if params.judged_sources is None:
        return split
    judging = split.held_out & np.isin(data.sources, params.judged_sources)
    if len(set(data.labels[judging & ~data.is_flood].tolist())) < 2:
        attacks = int((data.labels[judging] == 1).sum())
        gates = [
            Gate("held-out attacks", attacks, ">=", 1.0),
            Gate("held-out rows that are no attack", int(judging.sum()) - attacks, ">=", 1.0),
        ]
        report = {"promoted": False, "gates": [gate.to_json() for gate in gates]}
        write_report(workspace.reports / REPORT_NAME, report)
        raise GateFailedError(
            f"{int(judging.sum())} rows of {', '.join(params.judged_sources)} data were held out, not of both labels",
            report=report,
            remedy="Adjudicate alerts of both kinds on more hosts.",
        )
    return replace(split, held_out=judging, fraction=float(judging.mean()))


def _on_unseen(
    path: Path, data: Dataset, params: EvaluateParams, options: NetworkOptions, max_rows: int
) -> tuple[Dataset, Dataset, NetworkOptions, str]:
    """Return the rows, fewer rows for ablations, and what is left out in turn: networks, or parts of a fleet."""
    fewer = load_dataset(path, min(params.ablation_rows, max_rows)).labelled()
    if params.judged_sources is None:
        return data, fewer, options, "networks"
    data, left_out, min_attacks = grouped(data, params.min_network_attacks)
    fewer, _, _ = grouped(fewer, params.min_network_attacks)
    return data, fewer, replace(options, sources=params.judged_sources, min_attacks=min_attacks), left_out


def _network_options(params: EvaluateParams, training: dict[str, Any], seed: int) -> NetworkOptions:
    return NetworkOptions(
        specification=specification_from_json(training["specification"]),
        fitting=FittingOptions(**training["options"]),
        target_precision=training["operating_point"]["target_precision"],
        sources=params.unseen_sources,
        min_attacks=params.min_network_attacks,
        seed=seed,
        n_replicates=params.bootstrap_replicates,
    )


def _gates(
    params: EvaluateParams, holdout: dict[str, Any], networks: dict[str, Any], golden: dict[str, Any] | None
) -> list[Gate]:
    """Return the gates: on the holdout without floods, on unseen networks, and against the previous model."""
    figures = holdout["without_floods"]

    def value(name: str) -> float | None:
        return figures[name]["value"] if figures else None

    gates = [
        Gate("holdout operating_precision", value("operating_precision"), ">=", params.min_precision),
        Gate("holdout operating_recall", value("operating_recall"), ">=", params.min_recall),
        Gate("holdout average_precision", value("average_precision"), ">=", params.min_average_precision),
        Gate("holdout roc_auc", value("roc_auc"), ">=", params.min_roc_auc),
        Gate("holdout brier", value("brier"), "<=", params.max_brier),
        Gate("holdout ece", value("ece"), "<=", params.max_ece),
        Gate(
            f"unseen {networks['left_out']} average_precision",
            networks["mean_average_precision"]["without_floods"]["value"],
            ">=",
            params.min_average_precision,
        ),
    ]
    if holdout["previous_model"] is not None:
        gates.append(
            Gate("drop against previous model", holdout["previous_model"]["drop"]["value"], "<=", params.max_drop)
        )
    if golden is not None and golden["drop"] is not None:
        gates.append(Gate("drop of recall on golden attacks", golden["drop"], "<=", params.max_golden_drop))
    return gates


def _fail_if_asked(params: EvaluateParams, gates: list[Gate], report: dict[str, Any]) -> None:
    for is_asked, is_regression in ((params.fail_on_threshold, False), (params.fail_on_regression, True)):
        sentence = missed([gate for gate in gates if gate.name.startswith("drop") == is_regression])
        if is_asked and sentence:
            raise GateFailedError(
                f"the model is not good enough: {sentence}",
                report=report,
                remedy=f"See reports/{REPORT_NAME}. More adjudicated signals help; lowering a gate does not.",
            )
