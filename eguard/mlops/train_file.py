"""Training from files alone, with the inputs and outputs of operations manual 5.1."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from eguard.detection.feature_contract import FEATURE_NAMES, contract_sha256
from eguard.errors import ConfigError, CorruptFileError, GateFailedError
from eguard.mlops import train
from eguard.mlops.corpus_rows import ROW_FIELDS
from eguard.mlops.corpus_selection import LIVE_SOURCE
from eguard.mlops.export import FEEDBACK_LABELS
from eguard.mlops.section import overridden, validated
from eguard.mlops.workspace import Workspace, read_json, write_artefact, write_report
from eguard.settings import MlopsSettings
from eguard.wire.canonical import canonical_sha256

Progress = Callable[[str, int, int], None]
_SHIPPED: Final = "shipped"
_TIMES: Final = ("observed_at", "adjudicated_at")


@dataclass(frozen=True, slots=True)
class TrainFiles:
    """What training reads and writes."""

    dataset: Path
    feature_schema: Path
    labels_report: Path
    model_out: Path
    metadata_out: Path


def train_file(
    files: TrainFiles,
    settings: MlopsSettings,
    model_version: str | None,
    resource_profile: str,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train on an NDJSON corpus; write the model and its metadata, and return the metadata.

    NDJSON rows say neither which rows a scan flooded nor from which shipped source a row is: all count as no flood, and
    those that no analyst labelled as one source. The pipeline's own table knows both, and may choose another model.

    Raises
    ------
    ConfigError
        A file is missing, or the schema is not this version's.
    CorruptFileError
        A row is malformed; the message gives its line.
    GateFailedError
        The label gate refused the corpus.
    """
    schema = _read(files.feature_schema)
    if canonical_sha256(schema) != contract_sha256():
        raise ConfigError(
            f"{files.feature_schema} is not the feature contract of this version",
            remedy="Export the corpus with this version, or install the one that wrote it.",
        )
    labels = _read(files.labels_report)
    if not isinstance(labels, dict) or labels.get("passed") is not True:
        raise GateFailedError(
            f"{files.labels_report} does not say that the labels passed their gate",
            report=labels if isinstance(labels, dict) else {},
            remedy="Adjudicate more alerts; the report lists what was asked for.",
        )
    values = {"model_version": model_version, "resource_profile": settings.resource_profile or resource_profile}
    params = overridden("train", validated(Path("--resource-profile"), train.TrainParams, values), settings)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        workspace.processed.mkdir(parents=True)
        pq.write_table(read_ndjson(files.dataset), workspace.processed / "corpus.parquet")
        train.run(params, seed=0, workspace=workspace, progress=progress)
        model = read_json(workspace.models / "signature-ml-model.json")
        metadata: dict[str, Any] = read_json(workspace.models / "signature-ml-model-metadata.json")
    write_artefact(files.model_out, model)
    write_report(files.metadata_out, metadata)
    return metadata


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", remedy="Name the file that a night wrote.") from error


def read_ndjson(path: Path) -> pa.Table:
    """Read an NDJSON corpus as the table that training takes.

    Raises
    ------
    ConfigError
        There is no such file, or it has no row.
    CorruptFileError
        A row is no JSON object, or lacks a field.
    """
    wanted = {*ROW_FIELDS, *FEATURE_NAMES}
    decoder = msgspec.json.Decoder(dict[str, Any])
    rows: list[dict[str, Any]] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = decoder.decode(line)
                except msgspec.DecodeError as error:
                    raise CorruptFileError(f"{path}, line {number}: {error}", line=number) from error
                missing = sorted(wanted - row.keys())
                if missing:
                    raise CorruptFileError(f"{path}, line {number}: no {missing[0]}", line=number)
                rows.append(row)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", remedy="Name a corpus as NDJSON.") from error
    if not rows:
        raise ConfigError(f"{path} has no rows", remedy="Name a corpus as NDJSON.")
    return pa.Table.from_pandas(_columns(pd.DataFrame(rows)), preserve_index=False).replace_schema_metadata(None)


def _columns(frame: pd.DataFrame) -> pd.DataFrame:
    for name in _TIMES:
        times = pd.to_datetime(frame.pop(f"{name}_utc"), utc=True, format="ISO8601")
        frame[f"{name}_unix"] = (times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    is_feedback = frame["label_source"] == FEEDBACK_LABELS
    return frame.assign(
        label=frame["label"].astype("Int8"),
        source=np.where(is_feedback, LIVE_SOURCE, _SHIPPED),
        severity=0.5,
        attack_step="",
        is_flood=False,
        is_reservoir=False,
    ).astype(dict.fromkeys((*FEATURE_NAMES, "weight"), float))
