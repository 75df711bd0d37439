"""Stage `label_gate`: refuse a corpus whose labels cannot carry a model.

The report is written whole before the verdict, so that a refusal can be read. Nothing is repaired here: a label that is
wrong is corrected where it was given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pydantic import BaseModel, ConfigDict, Field

from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.errors import ConfigError, GateFailedError
from eguard.mlops.analyst_cap import analyst_bound
from eguard.mlops.corpus_selection import LIVE_SOURCE
from eguard.mlops.workspace import Workspace, write_report

REPORT: Final = "label-quality.json"
_DAY_SECONDS: Final = 86_400.0
#: Sums of weights that were capped miss the bound by rounding.
_ROUNDING: Final = 1e-9


class LabelGateParams(BaseModel):
    """What a corpus must have before a model is trained on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_adjudicated: int = Field(default=320, ge=1, description="Rows with a label.")
    min_positive: int = Field(default=50, ge=1, description="Rows labelled as attack.")
    min_negative: int = Field(default=120, ge=1, description="Rows labelled as no attack.")
    min_hosts: int = Field(default=40, ge=1, description="Hosts with a labelled row.")
    min_rules: int = Field(default=60, ge=1, description="Rules with a labelled row.")
    min_live_positive: int = Field(default=1, ge=0, description="Live rows labelled as attack, if there are live rows.")
    min_live_negative: int = Field(
        default=1, ge=0, description="Live rows labelled as no attack, if there are live rows."
    )
    max_unresolved_fraction: float = Field(default=0.15, ge=0, le=1, description="Share of rows without a label.")
    max_latency_p95_days: float = Field(
        default=5.0, gt=0, description="95 % point of the time from signal to verdict, in days."
    )
    max_contested_fraction: float = Field(
        default=0.05, ge=0, le=1, description="Share of signals with verdicts of both kinds."
    )
    max_opposite_duplicate_fraction: float = Field(
        default=0.01, ge=0, le=1, description="Share of labelled rows equal to another in all but the label."
    )


def corpus_schema() -> pa.DataFrameSchema:
    """Return what every row of a corpus must satisfy, whatever its labels."""
    text = pa.Column(str, nullable=False)
    features = {name: pa.Column(float, pa.Check.in_range(0.0, 1.0), nullable=False) for name in FEATURE_NAMES}
    return pa.DataFrameSchema(
        {
            "sample_id": pa.Column(str, pa.Check.str_length(min_value=1), unique=True),
            "observed_at_unix": pa.Column(float, pa.Check.gt(0.0)),
            "host_id": text,
            "network": text,
            "source": text,
            "rule_id": text,
            "event_class": text,
            "label": pa.Column("Int8", pa.Check.isin([0, 1]), nullable=True),
            "weight": pa.Column(float, pa.Check.gt(0.0)),
            "severity": pa.Column(float, pa.Check.in_range(0.0, 1.0)),
            **features,
        },
        strict=False,
        coerce=True,
    )


def run(
    params: LabelGateParams,
    *,
    seed: int,  # noqa: ARG001 - every stage has this signature
    workspace: Workspace,
    progress: object = None,  # noqa: ARG001
) -> dict[str, Any]:
    """Judge ``data/processed/corpus.parquet`` and write ``reports/label-quality.json``.

    Raises
    ------
    GateFailedError
        A check failed; the report lists every one.
    ConfigError
        The corpus is missing.
    """
    corpus = read_corpus(workspace.processed / "corpus.parquet")
    report = judge_labels(corpus, params)
    write_report(workspace.reports / REPORT, report)
    failed = [check["name"] for check in report["checks"] if not check["passed"]]
    if failed or report["schema_failures"]:
        reasons = failed + [f"schema: {failure['column']} {failure['check']}" for failure in report["schema_failures"]]
        raise GateFailedError(
            f"the labels do not carry a model: {', '.join(reasons)}",
            report=report,
            remedy=f"Read reports/{REPORT}; adjudicate more alerts, or correct the rows that it names.",
        )
    return report


def read_corpus(path: Path) -> pd.DataFrame:
    """Read the corpus with plain text columns.

    Raises
    ------
    ConfigError
        There is none.
    """
    if not path.exists():
        raise ConfigError(f"there is no corpus at {path}", remedy="Run the stage before: dvc repro corpus")
    frame: pd.DataFrame = pd.read_parquet(path)
    for name, kind in frame.dtypes.items():
        if isinstance(kind, pd.CategoricalDtype):
            frame[name] = frame[name].astype(str)
    frame["label"] = frame["label"].astype("Int8")
    return frame


def judge_labels(corpus: pd.DataFrame, params: LabelGateParams) -> dict[str, Any]:
    """Return the report: every check with its value, its bound and whether it passed."""
    labelled = corpus[corpus["label"].notna()]
    latency_days = (labelled["adjudicated_at_unix"] - labelled["observed_at_unix"]) / _DAY_SECONDS
    latency_p95 = float(np.quantile(latency_days, 0.95)) if len(labelled) else 0.0
    checks = [
        _at_least("adjudicated", len(labelled), params.min_adjudicated),
        _at_least("positive", int((labelled["label"] == 1).sum()), params.min_positive),
        _at_least("negative", int((labelled["label"] == 0).sum()), params.min_negative),
        _at_least("hosts", int(labelled["host_id"].nunique()), params.min_hosts),
        _at_least("rules", int(labelled["rule_id"].nunique()), params.min_rules),
        _at_most("unresolved_fraction", _share(corpus["label"].isna()), params.max_unresolved_fraction),
        _at_most("latency_p95_days", latency_p95, params.max_latency_p95_days),
        _at_most("contested_fraction", _share(labelled["is_contested"]), params.max_contested_fraction),
        _at_most(
            "opposite_duplicate_fraction", _share(opposite_duplicates(labelled)), params.max_opposite_duplicate_fraction
        ),
        *_analyst_checks(labelled),
        *_live_checks(labelled, params),
    ]
    return {
        "checks": checks,
        "passed": all(check["passed"] for check in checks),
        "schema_failures": schema_failures(corpus),
        "by_network": _class_balance(labelled, "network"),
        "by_label_source": _class_balance(labelled, "label_source"),
    }


def schema_failures(corpus: pd.DataFrame, most: int = 20) -> list[dict[str, Any]]:
    """Return the first failures of the schema, as column, check and offending value."""
    try:
        corpus_schema().validate(corpus, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases.head(most)
        return [
            {"column": str(row.column), "check": str(row.check), "value": str(row.failure_case)}
            for row in cases.itertuples()
        ]
    return []


def opposite_duplicates(labelled: pd.DataFrame) -> pd.Series[bool]:
    """Mark rows that equal another row of the other label in host, rule, time and every feature."""
    identity = ["host_id", "rule_id", "observed_at_unix", *FEATURE_NAMES]
    key = pd.util.hash_pandas_object(labelled[identity], index=False)
    labels_of_key = labelled["label"].astype(int).groupby(key.to_numpy()).transform("nunique")
    return labels_of_key > 1


def _analyst_checks(labelled: pd.DataFrame) -> list[dict[str, Any]]:
    """Bound the share of each class's weight that one analyst has; shipped labels bear no name and are exempt.

    The corpus stage has capped the weights. A share above the bound is left where too few analysts spoke of a class
    for any weights to meet it.
    """
    named = labelled[labelled["analyst"].notna()]
    n_analysts = named["analyst"].nunique()
    bound = analyst_bound(n_analysts)
    checks = []
    for label, name in ((1, "positive"), (0, "negative")):
        weights = named[named["label"] == label].groupby("analyst")["weight"].sum()
        if n_analysts > 1 and weights.size:
            check = _at_most(f"largest_analyst_share_{name}", float(weights.max() / weights.sum()), bound)
            checks.append(check | {"passed": check["value"] <= bound + _ROUNDING})
    return checks


def _live_checks(labelled: pd.DataFrame, params: LabelGateParams) -> list[dict[str, Any]]:
    """Ask live data, where there is any, for both classes: shipped rows must not hide that analysts gave one only."""
    live = labelled[labelled["source"] == LIVE_SOURCE]
    if live.empty:
        return []
    return [
        _at_least("live_positive", int((live["label"] == 1).sum()), params.min_live_positive),
        _at_least("live_negative", int((live["label"] == 0).sum()), params.min_live_negative),
    ]


def _class_balance(labelled: pd.DataFrame, column: str) -> dict[str, dict[str, int]]:
    return {
        str(value): {"attacks": int((rows["label"] == 1).sum()), "not_attacks": int((rows["label"] == 0).sum())}
        for value, rows in labelled.groupby(column, sort=True)
    }


def _share(flags: pd.Series[Any]) -> float:
    return float(flags.mean()) if len(flags) else 0.0


def _at_least(name: str, value: float, bound: float) -> dict[str, Any]:
    return {"name": name, "rule": "at least", "bound": bound, "value": value, "passed": value >= bound}


def _at_most(name: str, value: float, bound: float) -> dict[str, Any]:
    return {"name": name, "rule": "at most", "bound": bound, "value": value, "passed": value <= bound}
