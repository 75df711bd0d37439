"""Stage `label_gate`: refuse a corpus whose labels cannot carry a model.

A model is no better than its labels: too few, too stale, contradictory or from one analyst alone, and every figure
after this stage is fiction. The report is written first, then the stage fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd
import pandera.errors
import pandera.pandas as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from eguard.errors import ConfigError, GateFailedError
from eguard.mlops.corpus_selection import LIVE_SOURCE
from eguard.mlops.gates import Gate, missed
from eguard.mlops.workspace import Workspace, write_report

Progress = Callable[[str, int, int], None]
REPORT_NAME: Final = "label-quality.json"
SECONDS_PER_DAY: Final = 86_400.0

SCHEMA: Final = pa.DataFrameSchema(
    {
        "sample_id": pa.Column(str, pa.Check.str_length(min_value=1, max_value=128), unique=True),
        "observed_at_unix": pa.Column(float, pa.Check.gt(0.0)),
        "adjudicated_at_unix": pa.Column(float, nullable=True),
        "host_id": pa.Column(str, pa.Check.str_length(min_value=1)),
        "network": pa.Column(str, pa.Check.str_length(min_value=1)),
        "rule_id": pa.Column(str, pa.Check.str_length(min_value=1)),
        "label": pa.Column("Int8", pa.Check.isin([0, 1]), nullable=True),
        "label_source": pa.Column(str, pa.Check.str_length(min_value=1)),
        "weight": pa.Column(float, pa.Check.ge(1.0)),
        "severity": pa.Column(float, pa.Check.in_range(0.0, 1.0)),
        "is_flood": pa.Column(bool),
        "is_contested": pa.Column(bool),
    },
    strict=False,
)
_COLUMNS: Final = [*SCHEMA.columns, "source", "analyst", "n_verdicts"]


class LabelGateParams(BaseModel):
    """What labels must be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_adjudicated: int = Field(default=320, ge=0, description="Adjudicated rows.")
    min_positive: int = Field(default=50, ge=0, description="Adjudicated attacks.")
    min_negative: int = Field(default=120, ge=0, description="Rows adjudicated as no attack.")
    min_hosts: int = Field(default=40, ge=0, description="Hosts among adjudicated rows.")
    min_rules: int = Field(default=60, ge=0, description="Rules among adjudicated rows.")
    max_unresolved_fraction: float = Field(
        default=0.15, ge=0.0, le=1.0, description="Share of rows that nobody has adjudicated."
    )
    max_p95_latency_days: float = Field(
        default=5.0, ge=0.0, description="95th percentile of the days from signal to verdict; live data only."
    )
    max_contested_fraction: float = Field(
        default=0.10, ge=0.0, le=1.0, description="Share of adjudicated rows on which verdicts differ; live data only."
    )
    max_analyst_share: float = Field(
        default=0.90, ge=0.0, le=1.0, description="Largest share of live verdicts by one analyst."
    )
    max_opposite_duplicates_fraction: float = Field(
        default=0.05,
        ge=0.0,
        le=1.0,
        description="Share of rows that another row of the same host, rule and second contradicts.",
    )


def run(
    params: LabelGateParams,
    *,
    seed: int,  # noqa: ARG001 - every stage has this signature
    workspace: Workspace,
    progress: Progress | None = None,  # noqa: ARG001 - a second's work
) -> dict[str, Any]:
    """Check the corpus and write ``reports/label-quality.json``.

    Raises
    ------
    GateFailedError
        The table breaks its schema, or a threshold is missed; the report is written before.
    ConfigError
        There is no corpus.
    """
    path = workspace.processed / "corpus.parquet"
    if not path.exists():
        raise ConfigError(f"there is no corpus at {path}", remedy="Run the stage before: dvc repro corpus")
    present = set(pq.read_schema(path).names)
    corpus = pq.read_table(path, columns=[name for name in _COLUMNS if name in present]).to_pandas()
    categories = corpus.select_dtypes("category").columns
    report = judge_labels(corpus.astype(dict.fromkeys(categories, "str") | {"label": "Int8"}), params)
    write_report(workspace.reports / REPORT_NAME, report)
    if report["schema_violations"]:
        first = report["schema_violations"][0]
        raise GateFailedError(
            f"the corpus breaks its schema: {first['column']} {first['check']}",
            report=report,
            remedy=f"See reports/{REPORT_NAME} for every violation.",
        )
    if not report["passed"]:
        raise GateFailedError(
            f"the labels cannot carry a model: {report['missed']}",
            report=report,
            remedy="Adjudicate more signals, of more hosts and rules, and settle contradictions; then run again.",
        )
    return report


def judge_labels(corpus: pd.DataFrame, params: LabelGateParams) -> dict[str, Any]:
    """Return the report on a corpus: schema violations, counts, gates and whether all of it passed."""
    violations = schema_violations(corpus)
    if violations:
        return {"passed": False, "missed": "schema", "schema_violations": violations, "rows": len(corpus)}
    adjudicated = corpus[corpus["label"].notna()]
    live = adjudicated[adjudicated["source"] == LIVE_SOURCE]
    latency_days = (live["adjudicated_at_unix"] - live["observed_at_unix"]) / SECONDS_PER_DAY
    analysts = live["analyst"].value_counts(normalize=True).sort_index()
    opposite = opposite_duplicates(adjudicated)
    gates = [
        Gate("adjudicated", len(adjudicated), ">=", params.min_adjudicated),
        Gate("positive", int((adjudicated["label"] == 1).sum()), ">=", params.min_positive),
        Gate("negative", int((adjudicated["label"] == 0).sum()), ">=", params.min_negative),
        Gate("hosts", int(adjudicated["host_id"].nunique()), ">=", params.min_hosts),
        Gate("rules", int(adjudicated["rule_id"].nunique()), ">=", params.min_rules),
        Gate("unresolved_fraction", _share(corpus["label"].isna()), "<=", params.max_unresolved_fraction),
        Gate("opposite_duplicates_fraction", _share(opposite), "<=", params.max_opposite_duplicates_fraction),
    ]
    if len(live):
        gates += [
            Gate("p95_latency_days", float(np.quantile(latency_days, 0.95)), "<=", params.max_p95_latency_days),
            Gate("contested_fraction", _share(live["is_contested"]), "<=", params.max_contested_fraction),
            Gate("largest_analyst_share", float(analysts.max()), "<=", params.max_analyst_share),
        ]
    return {
        "passed": all(gate.passed for gate in gates),
        "missed": missed(gates),
        "schema_violations": [],
        "rows": len(corpus),
        "gates": [gate.to_json() for gate in gates],
        "live_rows": len(live),
        "analyst_shares": {str(name): float(share) for name, share in analysts.items()},
        "opposite_duplicates": int(opposite.sum()),
        "not_measured": [] if len(live) else ["p95_latency_days", "contested_fraction", "largest_analyst_share"],
        "by_source": _by_source(corpus),
    }


def schema_violations(corpus: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the checks of the schema that fail, each with the number of rows and the first offending value."""
    try:
        SCHEMA.validate(corpus, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases.astype({"column": str, "check": str, "failure_case": str})
        broken = cases.groupby(["column", "check"], sort=True)["failure_case"]
        return [
            {"column": column, "check": check, "rows": len(values), "first_value": values.iloc[0]}
            for (column, check), values in broken
        ]
    return []


def opposite_duplicates(adjudicated: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows another row of the same host, rule and second contradicts."""
    key = [adjudicated["host_id"], adjudicated["rule_id"], adjudicated["observed_at_unix"] // 1.0]
    label = adjudicated["label"].astype(np.int8)
    groups = label.groupby(key, observed=True)
    return groups.transform("max") > groups.transform("min")


def _share(flags: pd.Series[Any]) -> float:
    return float(flags.mean()) if len(flags) else 0.0


def _by_source(corpus: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Count labels by source of the rows and by who gave the label."""
    report = {}
    for source, rows in corpus.groupby("source", observed=True, sort=True):
        who = rows["label_source"].value_counts().sort_index()
        report[str(source)] = {
            "rows": len(rows),
            "attacks": int((rows["label"] == 1).sum()),
            "not_attacks": int((rows["label"] == 0).sum()),
            "unresolved": int(rows["label"].isna().sum()),
            "label_sources": {str(name): int(count) for name, count in who.items() if count},
        }
    return report
