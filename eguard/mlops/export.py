"""Freeze the fleet's adjudicated alerts for one run of the pipeline: Parquet for the stages, NDJSON for people.

What is frozen is all that a run knows of the database: the run can be made again from its folder when the database has
gone on. Live rows and the shipped corpus share one table, ``data/interim/features.parquet``, as the replay stage
writes it; verdicts lie beside it, every one of them, and the corpus stage takes the latest of each event.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.errors import ConfigError
from eguard.events.model import EventClass
from eguard.fleet.calibration import BenignSamples
from eguard.mlops.adjudications import join_verdicts, verdict_table
from eguard.mlops.corpus import SIGNAL_COLUMNS
from eguard.mlops.corpus_rows import write_ndjson
from eguard.mlops.corpus_selection import LIVE_SOURCE
from eguard.mlops.live_events import NO_GROUP, LiveEvents, Progress
from eguard.mlops.workspace import Workspace

FEEDBACK_LABELS: Final = "analyst_feedback"
RESERVOIR_LABELS: Final = "reservoir_assumed_benign"
#: Rule of a calibration sample whose agent named none.
RESERVOIR_RULE: Final = ":reservoir"
ADJUDICATIONS: Final = Path("data/interim/adjudications.ndjson")
_TEXT: Final = ("host_id", "network", "source", "rule_id", "event_class", "attack_step", "label_source")


def live_table(live: LiveEvents, samples: BenignSamples | None = None) -> pd.DataFrame:
    """Return live rows as the replay stage writes its rows, with the score that the agent's model gave.

    Labels are empty here: they come from the verdicts. Calibration samples are a uniform sample of what agents scored,
    nearly all of it ordinary, and count as no attack, as the shipped reservoir does.
    """
    events = pd.DataFrame(live.columns).assign(
        is_reservoir=False, label=pd.array([pd.NA] * len(live), dtype="Int8"), label_source=FEEDBACK_LABELS
    )
    features = np.array(live.features).reshape(len(live), len(FEATURE_NAMES))
    if samples is not None and len(samples):
        reservoir = pd.DataFrame(
            {
                "sample_id": samples.sample_ids,
                "observed_at_unix": samples.observed_at,
                "host_id": samples.hosts,
                "network": [group or NO_GROUP for group in samples.groups],
                "event_class": [_class_name(value) for value in samples.rows.event_class.tolist()],
                "rule_id": [signal or RESERVOIR_RULE for signal in samples.rows.signals],
            }
        ).assign(
            severity=0.0,
            model_score=np.nan,
            is_reservoir=True,
            label=pd.array([0] * len(samples), dtype="Int8"),
            label_source=RESERVOIR_LABELS,
        )
        events = pd.concat([events, reservoir], ignore_index=True) if len(events) else reservoir
        features = np.concatenate([features, samples.rows.features])
    table = events.assign(source=LIVE_SOURCE, attack_step="", is_flood=False, weight=1.0)
    table["model_score"] = table["model_score"].astype(np.float64)
    return pd.concat([table, pd.DataFrame(features, columns=list(FEATURE_NAMES))], axis=1)


def _class_name(event_class: int) -> str:
    return EventClass(event_class).name.lower() if event_class >= 0 else "uncounted"


def read_shipped(path: Path) -> pd.DataFrame:
    """Read the corpus that the shipped data gave, in the form of `live_table`; its rows keep their weights.

    Raises
    ------
    ConfigError
        The file cannot be read, or is of another feature contract.
    """
    try:
        shipped = pq.read_table(path).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(
            f"the shipped corpus {path} cannot be read: {error}", remedy="Make it again: dvc repro corpus"
        ) from error
    names = [*SIGNAL_COLUMNS, "model_score", "weight", *FEATURE_NAMES]
    missing = [name for name in names if name not in shipped.columns]
    if missing:
        raise ConfigError(f"the shipped corpus {path} lacks {missing[0]}", remedy="Make it again: dvc repro corpus")
    rows: pd.DataFrame = shipped.loc[shipped["source"].astype(str) != LIVE_SOURCE, names]
    return rows.reset_index(drop=True)


def freeze(live: pd.DataFrame, shipped: pd.DataFrame | None, verdicts: Sequence[dict[str, Any]], to: Workspace) -> None:
    """Write the feature table and the verdicts into a run's workspace; live rows bear their labels (`join_live`)."""
    parts = [live] if shipped is None else [live, shipped]
    parts = [part.astype(dict.fromkeys(_TEXT, str)) for part in parts if len(part)]
    names = [*SIGNAL_COLUMNS, "model_score", "weight", *FEATURE_NAMES]
    table = pd.concat(parts, ignore_index=True)[names]
    table["label"] = table["label"].astype("Int8")
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    for name in _TEXT:
        place = arrow.column_names.index(name)
        arrow = arrow.set_column(place, name, arrow[name].cast(pa.string()).dictionary_encode())
    to.interim.mkdir(parents=True, exist_ok=True)
    pq.write_table(arrow, to.interim / "features.parquet", compression="zstd")
    write_verdicts(to.root / ADJUDICATIONS, verdicts)


def write_verdicts(path: Path, verdicts: Sequence[dict[str, Any]]) -> None:
    """Write verdicts as the corpus stage reads them."""
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        file.writelines(encoder.encode(verdict) + b"\n" for verdict in verdicts)


def describe(live: LiveEvents, joined: pd.DataFrame) -> dict[str, Any]:
    """Return what a report says of the adjudicated events."""
    events = joined[~joined["is_reservoir"]]
    return {
        "events_in_window": live.n_window,
        "adjudicated": live.n_adjudicated,
        "rows": len(events),
        "left_out": dict(sorted(live.left_out.items())),
        "verdicts": len(live.verdicts),
        "attacks": int((events["label"] == 1).sum()),
        "not_attacks": int((events["label"] == 0).sum()),
        "contested": int(events["is_contested"].sum()),
        "analysts": int(events["analyst"].nunique()),
        "hosts": int(events["host_id"].nunique()),
        "networks": int(events["network"].nunique()),
    }


def join_live(table: pd.DataFrame, verdicts: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return live rows with the label that counts, when it was given and by whom."""
    return join_verdicts(table, verdict_table(verdicts), shipped_delay_seconds=0.0)


def export_labels(live: LiveEvents, out: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Write adjudicated events as NDJSON rows of the corpus (operations manual 5.2), and return what they are."""
    joined = join_live(live_table(live), live.verdicts)
    write_ndjson(out, joined, joined[list(FEATURE_NAMES)].to_numpy(np.float64), progress)
    return describe(live, joined)
