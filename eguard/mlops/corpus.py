"""Stage `corpus`: join adjudications to feature rows, one row a signal, floods capped, sampled down.

``data/processed/corpus.parquet`` is what the later stages read; ``signature-ml-features.ndjson`` is the same corpus in
the form of the operations manual, section 5.2. Every row's ``weight`` says how many signals it stands for, so that
figures can be given for all signals and not only for those that were kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.errors import ConfigError
from eguard.mlops.adjudications import join_adjudications
from eguard.mlops.analyst_cap import cap_analysts
from eguard.mlops.corpus_rows import write_ndjson
from eguard.mlops.corpus_selection import SelectionLimits, select
from eguard.mlops.sampling import hash_ranks
from eguard.mlops.workspace import Workspace, write_report

Progress = Callable[[str, int, int], None]
#: What a row of `features.parquet` says beside the features; the corpus keeps all of it.
SIGNAL_COLUMNS: Final = (
    "sample_id",
    "observed_at_unix",
    "host_id",
    "network",
    "source",
    "rule_id",
    "event_class",
    "attack_step",
    "is_flood",
    "is_reservoir",
    "label",
    "label_source",
    "severity",
)


class CorpusParams(BaseModel):
    """What enters the corpus."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample_count: int = Field(default=90_000, ge=1, description="Corpus rows wanted, at most.")
    external_sample_cap: int | None = Field(
        default=None, ge=0, description="Most rows from shipped data; null for sample_count."
    )
    sources: tuple[str, ...] = Field(
        default=("ait", "endpoint", "live", "network"),
        description="Sources that enter. Events made for a rule's regression test (sigma) are no sample of anything.",
    )
    flood_cap: int = Field(default=20, ge=1, description="Most signals of one host and rule in one window.")
    flood_window_seconds: float = Field(default=3600.0, gt=0.0, description="Length of that window, in seconds.")
    min_stratum_rows: int = Field(
        default=40, ge=1, description="Rows that each network, rule and label keeps when the corpus is sampled down."
    )
    shipped_label_delay_seconds: float = Field(
        default=86_400.0,
        ge=0.0,
        description="Shipped labels bear no time: they count as given this many seconds after the signal.",
    )
    adjudications: str = Field(
        default="data/interim/adjudications.ndjson",
        description="Analysts' verdicts, relative to the workspace; none if the file is missing.",
    )
    permute_labels: bool = Field(
        default=False, description="Shuffle the labels among the rows: every figure must then fall to chance."
    )


def run(params: CorpusParams, *, seed: int, workspace: Workspace, progress: Progress | None = None) -> dict[str, Any]:
    """Write the corpus in both forms and ``reports/corpus.json``.

    Parameters
    ----------
    params : CorpusParams
        Caps, sizes and the permutation switch.
    seed : int
        Seeds the permutation of labels; sampling is by hash and needs none.
    workspace : Workspace
        Reads ``data/interim/features.parquet`` and, if there, the adjudications.

    Raises
    ------
    ConfigError
        The feature table is missing or lacks a column.
    """
    path = workspace.interim / "features.parquet"
    signals = _read_signals(path)
    signals = join_adjudications(
        signals, workspace.root / params.adjudications, shipped_delay_seconds=params.shipped_label_delay_seconds
    )
    rank = hash_ranks(signals["sample_id"].tolist())
    limits = SelectionLimits(
        sample_count=params.sample_count,
        external_sample_cap=params.sample_count if params.external_sample_cap is None else params.external_sample_cap,
        flood_cap=params.flood_cap,
        flood_window_seconds=params.flood_window_seconds,
        min_stratum_rows=params.min_stratum_rows,
    )
    kept, weights, capping = select(signals, rank, np.isin(_text(signals["source"]), params.sources), limits)
    corpus = signals.iloc[kept].assign(weight=weights).reset_index(drop=True)
    corpus["weight"], analysts = cap_analysts(corpus)
    if params.permute_labels:
        corpus["label"] = _permuted(corpus["label"], np.random.default_rng(seed))
    features = _read_rows(path, kept, progress)
    order = np.lexsort((corpus["sample_id"].to_numpy(), corpus["observed_at_unix"].to_numpy()))
    corpus, features = corpus.iloc[order].reset_index(drop=True), features[order]
    workspace.processed.mkdir(parents=True, exist_ok=True)
    _write_parquet(workspace.processed / "corpus.parquet", corpus, features)
    write_ndjson(workspace.processed / "signature-ml-features.ndjson", corpus, features, progress)
    report = {
        "signals": len(signals),
        "rows": len(corpus),
        "flood_cap": capping,
        "analysts": analysts,
        "labels_permuted": params.permute_labels,
        "by_source": _composition(corpus, "source"),
        "by_network": _composition(corpus, "network"),
        "by_attack_step": _composition(corpus[corpus["attack_step"] != ""], "attack_step"),
        "label_sources": {str(k): int(v) for k, v in sorted(corpus["label_source"].value_counts().items())},
        "sample_ids_sha256": hashlib.sha256("\n".join(corpus["sample_id"]).encode()).hexdigest(),
    }
    write_report(workspace.reports / "corpus.json", report)
    return report


def _read_signals(path: Path) -> pd.DataFrame:
    """Return everything but the features, in file order."""
    if not path.exists():
        raise ConfigError(f"there is no feature table at {path}", remedy="Run the stage before: dvc repro replay")
    present = set(pq.read_schema(path).names)
    missing = [name for name in (*SIGNAL_COLUMNS, *FEATURE_NAMES) if name not in present]
    if missing:
        raise ConfigError(
            f"{path} lacks the column {missing[0]}", remedy="Run the replay stage of this version.", missing=missing
        )
    columns = [*SIGNAL_COLUMNS, *(name for name in ("model_score", "weight") if name in present)]
    text = ["host_id", "network", "source", "rule_id", "event_class", "attack_step", "label_source"]
    table = pq.read_table(path, columns=columns, read_dictionary=text)
    signals: pd.DataFrame = table.to_pandas(split_blocks=True)
    signals["label"] = signals["label"].astype("Int8")
    if "model_score" not in present:
        signals["model_score"] = np.nan
    if "weight" not in present:
        signals["weight"] = 1.0
    return signals


def _text(column: pd.Series[Any]) -> NDArray[np.str_]:
    return column.to_numpy().astype(np.str_)


def _permuted(labels: pd.Series[Any], rng: np.random.Generator) -> pd.Series[Any]:
    """Shuffle the labels among the rows that have one."""
    shuffled = labels.copy()
    known = np.flatnonzero(labels.notna().to_numpy())
    shuffled.iloc[known] = labels.iloc[known[rng.permutation(len(known))]].array
    return shuffled


def _read_rows(path: Path, kept: NDArray[np.intp], progress: Progress | None) -> NDArray[np.float64]:
    """Read the features of rows `kept` (rising), a row group at a time."""
    features = np.empty((len(kept), len(FEATURE_NAMES)))
    with pq.ParquetFile(path) as file:
        start = filled = 0
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            inside = kept[np.searchsorted(kept, start) : np.searchsorted(kept, stop)] - start
            if inside.size:
                table = file.read_row_group(group, columns=list(FEATURE_NAMES))
                for column, name in enumerate(FEATURE_NAMES):
                    features[filled : filled + inside.size, column] = table[name].to_numpy()[inside]
            filled, start = filled + inside.size, stop
            if progress is not None:
                progress("corpus", group + 1, file.num_row_groups)
    return features


def _write_parquet(path: Path, corpus: pd.DataFrame, features: NDArray[np.float64]) -> None:
    columns = pa.Table.from_pandas(corpus, preserve_index=False)
    for column, name in enumerate(FEATURE_NAMES):
        columns = columns.append_column(name, pa.array(features[:, column]))
    pq.write_table(columns.replace_schema_metadata(None), path, compression="zstd")


def _composition(corpus: pd.DataFrame, column: str) -> dict[str, dict[str, Any]]:
    """Count rows, the signals they stand for, hosts and labels by the values of a column."""
    result = {}
    for value, rows in corpus.groupby(column, observed=True, sort=True):
        result[str(value)] = {
            "rows": len(rows),
            "signals": round(float(rows["weight"].sum())),
            "hosts": int(rows["host_id"].nunique()),
            "attacks": int((rows["label"] == 1).sum()),
            "not_attacks": int((rows["label"] == 0).sum()),
            "unresolved": int(rows["label"].isna().sum()),
            "first_observed_unix": float(rows["observed_at_unix"].min()),
            "last_observed_unix": float(rows["observed_at_unix"].max()),
        }
    return result
