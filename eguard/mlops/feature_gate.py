"""Stage `feature_gate`: refuse features that leak the label, go missing, drift from the last run, or never vary.

A feature that is constant in every source carries nothing and usually means that its extractor is broken; one that has
to be constant on the data at hand is listed in the parameters with its reason. A feature that separates the classes
alone is not luck: something of the label got into it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from eguard.detection.feature_contract import FEATURE_NAMES, contract, contract_sha256
from eguard.errors import GateFailedError
from eguard.estimators import jensen_shannon_bias_nats, jensen_shannon_nats
from eguard.mlops.corpus_selection import LIVE_SOURCE
from eguard.mlops.labels import read_corpus
from eguard.mlops.metrics import roc_auc, tally
from eguard.mlops.workspace import Workspace, write_artefact, write_report

REPORT: Final = "feature-snapshot.json"
SCHEMA: Final = "feature-schema.json"
_BINS: Final = 20
#: What a feature says of an event of which nothing is known; 0 unless listed.
_DEFAULTS: Final[dict[str, float]] = {
    "rule_rarity_host": 0.5,
    "rule_rarity_fleet": 0.5,
    "silence_before": 1.0,
    "hour_rarity": 0.5,
}
#: Rows of either label that a source needs before one of its features is judged alone.
_MIN_LABEL_ROWS: Final = 20
_DAY_SECONDS: Final = 86_400.0


class FeatureGateParams(BaseModel):
    """What features must be before a model is trained on them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_missing_fraction: float = Field(default=0.05, ge=0, le=1, description="Share of rows without the feature.")
    min_live_span_days: float = Field(
        default=14.0, ge=0, description="Days that live data must span; shipped sources only state theirs."
    )
    max_single_auroc: float = Field(
        default=0.999, gt=0.5, le=1, description="Area under the ROC curve that one feature alone may reach."
    )
    max_drift_nats: float = Field(
        default=0.1, gt=0, description="Jensen-Shannon divergence of a feature's histogram from the last run, in nats."
    )
    previous_snapshot: str = Field(
        default="previous/feature-snapshot.json",
        description="Snapshot of the last promoted run, relative to the workspace; none if the file is missing.",
    )
    may_be_constant: dict[str, str] = Field(
        default_factory=dict, description="Features that may be constant on every source, each with its reason."
    )


def run(
    params: FeatureGateParams,
    *,
    seed: int,  # noqa: ARG001 - every stage has this signature
    workspace: Workspace,
    progress: object = None,  # noqa: ARG001
) -> dict[str, Any]:
    """Judge the corpus's features; write ``reports/feature-snapshot.json`` and ``data/processed/feature-schema.json``.

    Raises
    ------
    GateFailedError
        A feature failed; the report lists every one with its reason.
    ConfigError
        The corpus is missing.
    """
    corpus = read_corpus(workspace.processed / "corpus.parquet")
    report = judge_features(corpus, params, _read_previous(workspace.root / params.previous_snapshot))
    write_artefact(workspace.processed / SCHEMA, contract())
    write_report(workspace.reports / REPORT, report)
    if report["failures"]:
        first = "; ".join(f"{failure['feature']}: {failure['reason']}" for failure in report["failures"][:5])
        raise GateFailedError(
            f"{len(report['failures'])} feature checks failed: {first}",
            report=report,
            remedy=f"Read reports/{REPORT}. A feature that has to be constant goes to feature_gate.may_be_constant.",
        )
    return report


def judge_features(
    corpus: pd.DataFrame, params: FeatureGateParams, previous: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the snapshot: the figures of every feature and the failures.

    Parameters
    ----------
    corpus : DataFrame
        Rows with source, label, weight and the 43 features.
    params : FeatureGateParams
        Bounds.
    previous : dict, optional
        Snapshot of an earlier run to compare histograms with; one of another contract is not comparable and is said.
    """
    failures: list[dict[str, str]] = []
    comparable = previous is not None and previous.get("contract_sha256") == contract_sha256()
    figures = {}
    for name in FEATURE_NAMES:
        if name not in corpus.columns:
            failures.append({"feature": name, "reason": "is not in the corpus"})
            continue
        figures[name] = _figures(corpus, name)
        earlier = previous["features"].get(name) if comparable and previous else None
        if earlier is not None:
            figures[name]["drift_nats"] = _drift(figures[name], earlier)
        failures += _failures(name, figures[name], params)
    failures += [
        {"feature": name, "reason": "is listed in may_be_constant but is no feature"}
        for name in sorted(params.may_be_constant.keys() - set(FEATURE_NAMES))
    ]
    spans = _spans_days(corpus)
    if LIVE_SOURCE in spans and spans[LIVE_SOURCE] < params.min_live_span_days:
        reason = f"span {spans[LIVE_SOURCE]:.1f} days, less than {params.min_live_span_days:g}"
        failures.append({"feature": "(live data)", "reason": reason})
    return {
        "contract_sha256": contract_sha256(),
        "rows": len(corpus),
        "span_days": spans,
        "compared_with_previous": comparable,
        "may_be_constant": dict(sorted(params.may_be_constant.items())),
        "features": figures,
        "failures": failures,
        "passed": not failures,
    }


def _figures(corpus: pd.DataFrame, name: str) -> dict[str, Any]:
    values = corpus[name].to_numpy(np.float64)
    present = np.isfinite(values)
    known = values[present]
    histogram: NDArray[np.int64] = np.histogram(known, bins=_BINS, range=(0.0, 1.0))[0]
    return {
        "missing_fraction": float(1.0 - present.mean()) if len(values) else 0.0,
        "outside_fraction": float(np.mean((known < 0.0) | (known > 1.0))) if known.size else 0.0,
        "mean": float(known.mean()) if known.size else 0.0,
        "auroc": _auroc(corpus, values),
        "by_source": {str(source): _source_figures(rows, name) for source, rows in corpus.groupby("source", sort=True)},
        "histogram": histogram.tolist(),
    }


def _source_figures(rows: pd.DataFrame, name: str) -> dict[str, Any]:
    """Return how much a feature says on one source, and what it would give there alone, with and without floods."""
    values = rows[name].to_numpy(np.float64)
    bare = rows[~rows["is_flood"]] if "is_flood" in rows else rows
    return {
        "non_default_fraction": float(np.mean(values != _DEFAULTS.get(name, 0.0))),
        "distinct": int(np.unique(values[np.isfinite(values)]).size),
        "auroc": _auroc(rows, values, _MIN_LABEL_ROWS),
        "auroc_without_floods": _auroc(bare, bare[name].to_numpy(np.float64), _MIN_LABEL_ROWS),
    }


def _auroc(rows: pd.DataFrame, values: NDArray[np.float64], min_label_rows: int = 1) -> float | None:
    """Return the area that a feature alone gives on adjudicated rows; None with too few rows of a label."""
    known = rows["label"].notna().to_numpy() & np.isfinite(values)
    labels = rows["label"].fillna(0).to_numpy(np.int8)[known]
    if min(int(labels.sum()), int(len(labels) - labels.sum())) < min_label_rows:
        return None
    return float(roc_auc(tally(labels, values[known])))


def _drift(figures: dict[str, Any], earlier: dict[str, Any]) -> float:
    """Return the JS divergence of the histograms less what two samples of one distribution would show, at least 0."""
    now, then = (np.asarray(part["histogram"], np.float64) for part in (figures, earlier))
    if not (now.sum() and then.sum()):
        return 0.0
    occurring = int(np.count_nonzero(now + then))
    bias = float(jensen_shannon_bias_nats(int(now.sum()), int(then.sum()), occurring))
    return max(float(jensen_shannon_nats(now / now.sum(), then / then.sum())) - bias, 0.0)


def _failures(name: str, figures: dict[str, Any], params: FeatureGateParams) -> list[dict[str, str]]:
    reasons = []
    if figures["missing_fraction"] > params.max_missing_fraction:
        reasons.append(f"is missing in {figures['missing_fraction']:.1%} of the rows")
    if figures["outside_fraction"]:
        reasons.append(f"lies outside [0, 1] in {figures['outside_fraction']:.1%} of the rows")
    for where, area in _areas(figures):
        if max(area, 1.0 - area) > params.max_single_auroc:
            reasons.append(f"separates the classes alone{where} (area {area:.4f}): it leaks the label")
            break
    varies = any(source["distinct"] > 1 for source in figures["by_source"].values())
    if not varies and name not in params.may_be_constant:
        reasons.append("never varies on any source")
    if figures.get("drift_nats", 0.0) > params.max_drift_nats:
        reasons.append(f"drifted by {figures['drift_nats']:.3f} nats since the last run")
    return [{"feature": name, "reason": reason} for reason in reasons]


def _areas(figures: dict[str, Any]) -> list[tuple[str, float]]:
    """Return where a feature's area is known: on all rows, and on each source with and without scan floods."""
    areas = [("", figures["auroc"])]
    for source, own in figures["by_source"].items():
        areas += [(f" on {source}", own["auroc"]), (f" on {source} without floods", own["auroc_without_floods"])]
    return [(where, area) for where, area in areas if area is not None]


def _spans_days(corpus: pd.DataFrame) -> dict[str, float]:
    times = corpus.groupby("source", sort=True)["observed_at_unix"]
    spans = (times.max() - times.min()) / _DAY_SECONDS
    return {str(source): float(days) for source, days in spans.items()}


def _read_previous(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    snapshot: dict[str, Any] = json.loads(path.read_text())
    return snapshot
