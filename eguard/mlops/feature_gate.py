"""Stage `feature_gate`: refuse features that leak, drift, are missing or never vary.

Checked on the corpus, whose rows carry labels, and on the whole feature table. Columns 7 and 41 are fitted in training
and therefore constant here; like every other column that varies on no source they are accepted only by name and reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from eguard.detection.feature_contract import FEATURE_NAMES, contract, contract_sha256
from eguard.errors import ConfigError, GateFailedError
from eguard.mlops.corpus_selection import LIVE_SOURCE
from eguard.mlops.feature_statistics import SourceAurocs, feature_drift, single_feature_aurocs, table_statistics
from eguard.mlops.gates import Gate, missed
from eguard.mlops.workspace import Workspace, read_json, write_artefact, write_report

Progress = Callable[[str, int, int], None]
REPORT_NAME: Final = "feature-snapshot.json"
SCHEMA_NAME: Final = "signature-ml-feature-schema.json"
#: Why shipped data cannot vary these.
SHIPPED_EXCEPTIONS: Final[dict[str, str]] = {
    "yara_hit_count": "no YARA engine is loaded in replay: the shipped data holds events, not files",
    "container_risk": "no shipped source reports containers",
    "event_class_risk": "fitted in training, per fold, from the training labels",
    "rule_precision_prior": "fitted in training, per fold, from other networks' adjudications",
}


class FeatureGateParams(BaseModel):
    """What features must be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_missing_fraction: float = Field(
        default=0.05, ge=0.0, le=1.0, description="Share of missing values, by feature."
    )
    min_live_span_days: float = Field(default=14.0, ge=0.0, description="Days that live data must span.")
    max_drift_nats: float = Field(
        default=0.10,
        ge=0.0,
        description="Jensen-Shannon divergence of a feature's histogram from the last run's, less its bias, in nats.",
    )
    max_single_auroc: float = Field(
        default=0.999, gt=0.5, le=1.0, description="No feature alone may separate attacks better than this."
    )
    exceptions: dict[str, str] = Field(
        default=SHIPPED_EXCEPTIONS, description="Features that may be constant on every source, each with its reason."
    )
    previous_snapshot: str = Field(
        default="previous/feature-snapshot.json",
        description="Snapshot of the last run, relative to the workspace; none if the file is missing.",
    )


def run(
    params: FeatureGateParams,
    *,
    seed: int,  # noqa: ARG001 - every stage has this signature
    workspace: Workspace,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Check the features; write ``reports/feature-snapshot.json`` and the schema beside the corpus.

    Raises
    ------
    GateFailedError
        A check failed; the report is written before.
    ConfigError
        A table is missing.
    """
    corpus, table = workspace.processed / "corpus.parquet", workspace.interim / "features.parquet"
    for path in (corpus, table):
        if not path.exists():
            raise ConfigError(f"there is no table at {path}", remedy="Run the stages before: dvc repro corpus")
    previous = workspace.root / params.previous_snapshot
    statistics = table_statistics(table, progress)
    report = judge_features(
        params, statistics, single_feature_aurocs(corpus), read_json(previous) if previous.exists() else None
    )
    write_artefact(workspace.processed / SCHEMA_NAME, contract())
    write_report(workspace.reports / REPORT_NAME, report)
    if not report["passed"]:
        raise GateFailedError(
            f"the features are not fit to train on: {report['missed']}",
            report=report,
            remedy=f"See reports/{REPORT_NAME}. A constant feature needs its reason in feature_gate.exceptions.",
        )
    return report


def judge_features(
    params: FeatureGateParams,
    statistics: dict[str, Any],
    aurocs: SourceAurocs,
    previous: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the report: what was measured, every gate, and whether all were met."""
    sources = statistics["sources"]
    constant = [name for name in FEATURE_NAMES if not any(_varies(source, name) for source in sources.values())]
    unexplained = sorted(set(constant) - params.exceptions.keys())
    gates = [
        Gate("absent columns", len(statistics["absent"]), "<=", 0),
        Gate("values outside [0, 1]", _outside(sources), "<=", 0),
        Gate("largest missing fraction", _largest_missing(sources), "<=", params.max_missing_fraction),
        Gate("largest AUROC of one feature", _largest(aurocs), "<=", params.max_single_auroc),
        Gate("constant features without a reason", len(unexplained), "<=", 0),
    ]
    if LIVE_SOURCE in sources:
        gates.append(Gate("live span in days", sources[LIVE_SOURCE]["span_days"], ">=", params.min_live_span_days))
    drift = None
    if previous is not None:
        if previous["contract_sha256"] == contract_sha256():
            drift = feature_drift(sources, previous["sources"])
            largest = max(drift.values(), default=0.0)
            gates.append(Gate("largest drift against the last run in nats", largest, "<=", params.max_drift_nats))
        else:
            gates.append(Gate("last run had the same feature contract", 0.0, ">=", 1.0))
    return {
        "passed": all(gate.passed for gate in gates),
        "missed": missed(gates),
        "contract_sha256": contract_sha256(),
        "gates": [gate.to_json() for gate in gates],
        "constant_features": {name: params.exceptions.get(name) for name in constant},
        "unexplained_constant_features": unexplained,
        "exceptions_that_vary": sorted(params.exceptions.keys() - set(constant)),
        "single_feature_auroc": aurocs,
        "drift_nats": drift,
        "sources": sources,
    }


def _varies(source: dict[str, Any], name: str) -> bool:
    feature = source["features"][name]
    return bool(feature["maximum"] != feature["minimum"])


def _outside(sources: dict[str, Any]) -> int:
    return sum(feature["outside"] for source in sources.values() for feature in source["features"].values())


def _largest_missing(sources: dict[str, Any]) -> float:
    shares = [
        feature["missing"] / source["rows"] for source in sources.values() for feature in source["features"].values()
    ]
    return float(max(shares, default=1.0))


def _largest(aurocs: SourceAurocs) -> float:
    values = [value for source in aurocs.values() for pair in source.values() for value in pair.values()]
    return max((value for value in values if value is not None), default=0.5)
