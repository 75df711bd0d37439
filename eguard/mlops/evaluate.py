"""Stage `offline_eval`: judge the model on a time, on hosts and on networks that it has not seen.

Two views. The **holdout**, the latest networks, is scored once by the shipped model JSON as an agent would read it. And
**unseen networks**: every network in turn is left out, the whole procedure is fitted to the others, and average
precision without the scan floods is averaged over the networks: the headline. Unless a figure says otherwise every
corpus row counts for all the alerts it stands for; ``by_signal`` counts capped rows once.

The gates hold for any data. A miss is reported and leaves the bundle unpromoted; it ends the stage only when asked to.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from eguard.detection.feature_contract import contract_sha256
from eguard.detection.model import load_model
from eguard.errors import ConfigError, GateFailedError
from eguard.mlops.classifiers import specification_from_json
from eguard.mlops.dataset import Dataset, load_dataset
from eguard.mlops.gates import Gate, missed
from eguard.mlops.holdout_evaluation import HoldoutEvaluation
from eguard.mlops.model_selection import FittingOptions
from eguard.mlops.network_evaluation import NetworkOptions, evaluate_networks
from eguard.mlops.splits import plan_holdout
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
    holdout = HoldoutEvaluation(data, split, model, seed, params.bootstrap_replicates).report(
        _previous(workspace, params), FittingOptions(**training["options"])
    )
    networks, plots = evaluate_networks(
        data, _ablation_data(path, params, training), _network_options(params, training, seed), progress
    )
    gates = _gates(params, holdout, networks)
    report = {
        "model_version": model.version,
        "model_digest": model.digest,
        "model_kind": model.kind,
        "headline": networks.pop("headline"),
        "promoted": all(gate.passed for gate in gates),
        "gates": [gate.to_json() for gate in gates],
        "holdout": holdout,
        "unseen_networks": networks,
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


def _ablation_data(path: Path, params: EvaluateParams, training: dict[str, Any]) -> Dataset:
    return load_dataset(path, min(params.ablation_rows, training["max_samples"])).labelled()


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


def _gates(params: EvaluateParams, holdout: dict[str, Any], networks: dict[str, Any]) -> list[Gate]:
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
            "unseen networks average_precision",
            networks["mean_average_precision"]["without_floods"]["value"],
            ">=",
            params.min_average_precision,
        ),
    ]
    if holdout["previous_model"] is not None:
        gates.append(
            Gate("drop against previous model", holdout["previous_model"]["drop"]["value"], "<=", params.max_drop)
        )
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
