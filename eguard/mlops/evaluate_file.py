"""Judge a model on somebody's own labelled features, with the metrics and intervals of the offline evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from eguard.detection.feature_contract import FEATURE_NAMES, contract_sha256
from eguard.detection.model import load_model
from eguard.errors import ConfigError, ModelError
from eguard.events.model import UNCOUNTED, EventClass
from eguard.mlops.intervals import HostSample, report_metrics
from eguard.mlops.workspace import read_json

_REPLICATES: Final = 500
_NEEDED: Final = ("sample_id", "host_id", "rule_id", "event_class", *FEATURE_NAMES)
_CLASS_INDEX: Final = {member.name.lower(): int(member) for member in EventClass}


def evaluate_file(model_path: Path, features_path: Path, labels_path: Path, *, seed: int = 0) -> dict[str, Any]:
    """Score the labelled rows of a features file and return metrics.

    Parameters
    ----------
    model_path : Path
        Model JSON.
    features_path : Path
        Parquet file with sample_id, host_id, rule_id, event_class and the 43 features.
    labels_path : Path
        CSV or NDJSON with sample_id and label (0 or 1). Rows without a label are left out and counted.
    seed : int
        Seed of the bootstrap over hosts.

    Raises
    ------
    ConfigError
        A file cannot be read, lacks a column, repeats a sample with another label, or no label meets a feature row.
    ModelError
        The model is malformed or was trained for another feature contract.
    """
    features = _read_features(features_path)
    labels = _read_labels(labels_path)
    rows = features.merge(labels, on="sample_id", how="inner", validate="many_to_one")
    if rows.empty:
        raise ConfigError(
            f"no sample_id of {labels_path} occurs in {features_path}",
            remedy="Label the rows that `eguard ml replay` wrote: copy their sample_id.",
        )
    try:
        document = read_json(model_path)
    except ValueError as error:
        raise ModelError(f"{model_path} is not JSON: {error}") from error
    model = load_model(document, expected_contract_sha256=contract_sha256())
    classes = rows["event_class"].map(_CLASS_INDEX).fillna(UNCOUNTED).to_numpy(np.intp)
    matrix = rows[list(FEATURE_NAMES)].to_numpy(np.float64)
    scores = model.score(model.tables.apply(matrix, classes, rows["rule_id"].tolist()))
    sample = HostSample(
        rows["label"].to_numpy(np.int8),
        scores,
        np.ones(len(rows)),
        pd.factorize(rows["host_id"])[0].astype(np.intp),
    )
    metrics = report_metrics(
        sample, threshold=model.threshold, rng=np.random.default_rng(seed), n_replicates=_REPLICATES
    )
    return {
        "model_version": model.version,
        "model_digest": model.digest,
        "rows": len(rows),
        "attacks": int(sample.labels.sum()),
        "hosts": int(rows["host_id"].nunique()),
        "unlabelled_rows": len(features) - len(rows),
        "labels_without_row": int((~labels["sample_id"].isin(features["sample_id"])).sum()),
        "metrics": {name: estimate.to_json() for name, estimate in metrics.items()},
    }


def _read_features(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read features from {path}: {error}",
            remedy="Make it with `eguard ml replay --source ... --input ... --out DIR`.",
        ) from error
    _require(frame, _NEEDED, path)
    return frame


def _read_labels(path: Path) -> pd.DataFrame:
    try:
        if path.suffix in (".ndjson", ".jsonl", ".json"):
            frame = pd.read_json(path, lines=True, dtype={"sample_id": str})
        else:
            frame = pd.read_csv(path, dtype={"sample_id": str})
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read labels from {path}: {error}") from error
    _require(frame, ("sample_id", "label"), path)
    labels = frame[["sample_id", "label"]].dropna().drop_duplicates()
    wrong = ~labels["label"].isin([0, 1])
    if wrong.any():
        raise ConfigError(f"{path}: label {labels.loc[wrong, 'label'].iloc[0]!r} is neither 0 nor 1")
    if labels["sample_id"].duplicated().any():
        twice = labels.loc[labels["sample_id"].duplicated(), "sample_id"].iloc[0]
        raise ConfigError(f"{path}: sample {twice} has both labels", remedy="Keep the latest verdict of each sample.")
    return labels.assign(label=labels["label"].astype(np.int8))


def _require(frame: pd.DataFrame, columns: tuple[str, ...], path: Path) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ConfigError(f"{path} lacks the column {missing[0]}", missing=missing)
