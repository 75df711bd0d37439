"""`features.parquet`: one row a scored event, the feature contract's columns behind the columns that say what it was.

Row groups are written one source and network at a time, so that a million rows never lie in memory twice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from eguard.detection.features import FEATURE_NAMES
from eguard.events import UNCOUNTED, EventClass

#: Attack steps that flood a network with alerts: scanners, which are most of the rows where they ran.
FLOOD_STEPS: Final = frozenset({"wpscan", "dirb"})
#: Label of a row that nobody has adjudicated.
UNRESOLVED: Final = -1
_ID_CHARACTERS: Final = 32
_CLASS_NAMES: Final = {UNCOUNTED: "uncounted"} | {member.value: member.name.lower() for member in EventClass}
_TEXT: Final = pa.dictionary(pa.int32(), pa.string())

SCHEMA: Final = pa.schema(
    [
        ("sample_id", pa.string()),
        ("observed_at_unix", pa.float64()),
        ("host_id", _TEXT),
        ("network", _TEXT),
        ("source", _TEXT),
        ("rule_id", _TEXT),
        ("event_class", _TEXT),
        ("attack_step", _TEXT),
        ("is_flood", pa.bool_()),
        ("is_reservoir", pa.bool_()),
        ("label", pa.int8()),
        ("label_source", _TEXT),
        ("severity", pa.float64()),
        *((name, pa.float64()) for name in FEATURE_NAMES),
    ]
)


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Rows of one source and network, in the order in which they are written.

    `label` is 1 for an attack, 0 for none, `UNRESOLVED` where nobody has said; `severity` lies in [0, 1]; `features`
    has shape (n, 43).
    """

    source: str
    observed_at_unix: NDArray[np.float64]
    host_id: Sequence[str]
    network: Sequence[str]
    rule_id: Sequence[str]
    event_class: NDArray[np.integer[Any]]
    attack_step: Sequence[str]
    is_reservoir: NDArray[np.bool_]
    label: NDArray[np.int8]
    label_source: Sequence[str]
    severity: NDArray[np.float64]
    features: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.host_id)

    @classmethod
    def concatenate(cls, source: str, parts: Sequence[ScoredRows]) -> ScoredRows:
        """Join rows of one source end to end."""
        columns: dict[str, Any] = {}
        for column in fields(cls):
            values = [getattr(part, column.name) for part in parts]
            if column.name == "source":
                columns["source"] = source
            elif column.name in _LISTS:
                columns[column.name] = [value for part in values for value in part]
            else:
                columns[column.name] = np.concatenate(values) if values else _EMPTY[column.name]
        return cls(**columns)


_LISTS: Final = frozenset({"host_id", "network", "rule_id", "attack_step", "label_source"})
_EMPTY: Final = {
    "observed_at_unix": np.empty(0),
    "event_class": np.empty(0, np.int8),
    "is_reservoir": np.empty(0, np.bool_),
    "label": np.empty(0, np.int8),
    "severity": np.empty(0),
    "features": np.empty((0, len(FEATURE_NAMES))),
}


class FeatureTableWriter:
    """Writes row groups of scored events; the same rows give the same bytes.

    Parameters
    ----------
    path : Path
        File to write; an existing one is replaced.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd", compression_level=3)
        self.rows_written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, rows: ScoredRows) -> None:
        """Append rows as one row group. All rows of one (source, network) have to come in one call."""
        if not len(rows):
            return
        columns: dict[str, pa.Array] = {
            "sample_id": pa.array(sample_ids(rows)),
            "observed_at_unix": pa.array(rows.observed_at_unix),
            "host_id": _text(rows.host_id),
            "network": _text(rows.network),
            "source": _text([rows.source] * len(rows)),
            "rule_id": _text(rows.rule_id),
            "event_class": _text([_CLASS_NAMES[value] for value in rows.event_class.tolist()]),
            "attack_step": _text(rows.attack_step),
            "is_flood": pa.array([step in FLOOD_STEPS for step in rows.attack_step]),
            "is_reservoir": pa.array(rows.is_reservoir),
            "label": pa.array(rows.label, mask=rows.label == UNRESOLVED),
            "label_source": _text(rows.label_source),
            "severity": pa.array(rows.severity),
        }
        columns |= {name: pa.array(rows.features[:, index]) for index, name in enumerate(FEATURE_NAMES)}
        self._writer.write_table(pa.table(columns, schema=SCHEMA), row_group_size=len(rows))
        self.rows_written += len(rows)


def sample_ids(rows: ScoredRows) -> list[str]:
    """Return an identifier for each row, made of what the event was; equal events are numbered.

    The identifier does not depend on the features, nor on which other rows were scored, so that it survives a change of
    the extractor.
    """
    seen: Counter[tuple[str, str, str]] = Counter()
    ids = []
    sha256 = hashlib.sha256
    for network, host, time, rule in zip(
        rows.network, rows.host_id, rows.observed_at_unix.tolist(), rows.rule_id, strict=True
    ):
        event = (host, repr(time), rule)
        text = f"{rows.source}\x1f{network}\x1f{host}\x1f{event[1]}\x1f{rule}\x1f{seen[event]}"
        seen[event] += 1
        ids.append(sha256(text.encode(errors="surrogatepass")).hexdigest()[:_ID_CHARACTERS])
    return ids


def _text(values: Sequence[str]) -> pa.Array:
    return pa.array(values, pa.string()).dictionary_encode()
