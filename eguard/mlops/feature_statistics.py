"""What the columns of a feature table look like by source, how far they drifted, and what each alone would give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.estimators import jensen_shannon_bias_nats, jensen_shannon_nats
from eguard.mlops.metrics import roc_auc, tally

Progress = Callable[[str, int, int], None]
#: AUROC by source, feature, and with or without scan floods; None where it has no answer.
SourceAurocs = dict[str, dict[str, dict[str, float | None]]]
SECONDS_PER_DAY: Final = 86_400.0
#: Rows of either label that a source needs before its features are judged alone.
MIN_LABEL_ROWS: Final = 20
#: Bins of a feature's histogram over [0, 1].
HISTOGRAM_BINS: Final = 20
#: What a feature says when nothing is known of the event; 0 unless listed.
DEFAULTS: Final[dict[str, float]] = {
    "rule_rarity_host": 0.5,
    "rule_rarity_fleet": 0.5,
    "silence_before": 1.0,
    "hour_rarity": 0.5,
}


def table_statistics(path: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Return by source the rows, span, and by feature missing values, non-default values, range and histogram."""
    sources: dict[str, dict[str, Any]] = {}
    with pq.ParquetFile(path) as file:
        names = set(file.schema_arrow.names)
        for group in range(file.num_row_groups):
            columns = [name for name in FEATURE_NAMES if name in names]
            table = file.read_row_group(group, columns=["source", "observed_at_unix", *columns])
            source_of = np.asarray(table["source"].to_pylist(), np.str_)
            for source in np.unique(source_of).tolist():
                rows = table.filter(source_of == source)
                _add_rows(sources.setdefault(source, _empty()), rows)
            if progress is not None:
                progress("feature gate", group + 1, file.num_row_groups)
    for source in sources.values():
        for feature in source["features"].values():
            feature["non_default_fraction"] = feature["non_default"] / source["rows"]
    return {"absent": [name for name in FEATURE_NAMES if name not in names], "sources": dict(sorted(sources.items()))}


def single_feature_aurocs(corpus: Path) -> SourceAurocs:
    """Return by source and feature how well it alone separates attacks, in either direction, with and without floods.

    Sources that lack 20 rows of either label are left out: with a handful of rows anything separates.
    """
    table = pq.read_table(corpus, columns=["source", "label", "is_flood", *FEATURE_NAMES])
    table = table.filter(pc.is_valid(table["label"]))
    source_of = np.asarray(table["source"].to_pylist(), np.str_)
    labels, is_flood = table["label"].to_numpy(), table["is_flood"].to_numpy()
    report: SourceAurocs = {}
    for source in np.unique(source_of).tolist():
        rows = source_of == source
        bare = rows & ~is_flood
        if min(np.bincount(labels[bare], minlength=2)[:2]) < MIN_LABEL_ROWS:
            continue
        columns = {name: table[name].to_numpy() for name in FEATURE_NAMES}
        report[source] = {
            name: {
                "with_floods": _auroc(labels[rows], values[rows]),
                "without_floods": _auroc(labels[bare], values[bare]),
            }
            for name, values in columns.items()
        }
    return report


def feature_drift(now: dict[str, Any], before: dict[str, Any]) -> dict[str, float]:
    """Return by ``source/feature`` the JS divergence of the histograms less its finite-sample bias, at least 0.

    Only sources of both runs are compared; a source that came or went is a change of the data and not a drift.
    """
    drift = {}
    for source in sorted(now.keys() & before.keys()):
        for name in FEATURE_NAMES:
            new = np.asarray(now[source]["features"][name]["histogram"], np.float64)
            old = np.asarray(before[source]["features"][name]["histogram"], np.float64)
            if new.sum() and old.sum():
                occurring = int(np.count_nonzero(new + old))
                bias = float(jensen_shannon_bias_nats(int(new.sum()), int(old.sum()), occurring))
                value = float(jensen_shannon_nats(new / new.sum(), old / old.sum()))
                drift[f"{source}/{name}"] = max(value - bias, 0.0)
    return drift


def _empty() -> dict[str, Any]:
    features = {
        name: {"missing": 0, "outside": 0, "non_default": 0, "minimum": None, "maximum": None,
               "histogram": [0] * HISTOGRAM_BINS}
        for name in FEATURE_NAMES
    }  # fmt: skip
    return {"rows": 0, "first_unix": None, "last_unix": None, "span_days": 0.0, "features": features}


def _add_rows(source: dict[str, Any], rows: Any) -> None:
    times = rows["observed_at_unix"].to_numpy()
    source["rows"] += len(times)
    source["first_unix"] = _least(source["first_unix"], float(times.min()))
    source["last_unix"] = -_least(None if source["last_unix"] is None else -source["last_unix"], -float(times.max()))
    source["span_days"] = (source["last_unix"] - source["first_unix"]) / SECONDS_PER_DAY
    for name in FEATURE_NAMES:
        feature = source["features"][name]
        if name not in rows.column_names:
            feature["missing"] += len(times)
            continue
        values = pc.fill_null(rows[name], np.nan).to_numpy()
        known = values[np.isfinite(values)]
        feature["missing"] += int(len(values) - len(known))
        feature["outside"] += int(np.count_nonzero((known < 0.0) | (known > 1.0)))
        feature["non_default"] += int(np.count_nonzero(known != DEFAULTS.get(name, 0.0)))
        feature["histogram"] = _histogram(known, feature["histogram"])
        if known.size:
            feature["minimum"] = _least(feature["minimum"], float(known.min()))
            highest = None if feature["maximum"] is None else -feature["maximum"]
            feature["maximum"] = -_least(highest, -float(known.max()))


def _histogram(values: NDArray[np.float64], before: list[int]) -> list[int]:
    bins = np.minimum(np.clip(values, 0.0, 1.0) * HISTOGRAM_BINS, HISTOGRAM_BINS - 1).astype(np.intp)
    counts: list[int] = (np.bincount(bins, minlength=HISTOGRAM_BINS) + np.asarray(before)).tolist()
    return counts


def _least(first: float | None, second: float) -> float:
    return second if first is None else min(first, second)


def _auroc(labels: NDArray[np.int8], values: NDArray[np.float64]) -> float | None:
    """Return the larger of AUROC and its mirror image; None without both labels."""
    area = float(roc_auc(tally(labels, values)))
    return max(area, 1.0 - area) if np.isfinite(area) else None
