"""Corpus rows as NDJSON, in the form of the operations manual, section 5.2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eguard.detection.feature_contract import FEATURE_NAMES

Progress = Callable[[str, int, int], None]
#: Fields of an NDJSON row before the features (operations manual 5.2).
ROW_FIELDS: Final = (
    "sample_id",
    "observed_at_utc",
    "adjudicated_at_utc",
    "host_id",
    "network",
    "rule_id",
    "event_class",
    "model_score",
    "label",
    "label_source",
    "analyst",
    "weight",
)
_BLOCK_ROWS: Final = 4096


def write_ndjson(
    path: Path, corpus: pd.DataFrame, features: NDArray[np.float64], progress: Progress | None = None
) -> None:
    """Write one JSON object a row: what it is, its label and its weight, and the features by name."""
    encoder = msgspec.json.Encoder()
    names = (*ROW_FIELDS, *FEATURE_NAMES)
    with path.open("wb") as file:
        for start in range(0, len(corpus), _BLOCK_ROWS):
            block = corpus.iloc[start : start + _BLOCK_ROWS]
            values = [_plain(block, name) for name in ROW_FIELDS]
            rows = zip(*values, *features[start : start + len(block)].T.tolist(), strict=True)
            file.writelines(encoder.encode(dict(zip(names, row, strict=True))) + b"\n" for row in rows)
            if progress is not None:
                progress("corpus", start + len(block), len(corpus))


def _plain(block: pd.DataFrame, name: str) -> list[Any]:
    """Return a column as JSON values: ISO times, null for what is missing."""
    if name.endswith("_utc"):
        seconds = block[name.removesuffix("_utc") + "_unix"]
        text = pd.to_datetime(seconds, unit="s").dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return [value if isinstance(value, str) else None for value in text]
    return [None if pd.isna(value) else value for value in block[name].tolist()]
