"""Stage `ingest`: raw logs of every format become three tables of events.

``data/interim/events.parquet`` (endpoints), ``alerts.parquet`` (other engines' alerts) and ``connections.parquet``
(network logs), each sorted by group and time. ``reports/ingest.json`` says for every file what became of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from eguard.errors import CorruptFileError, GateFailedError
from eguard.events import UNCOUNTED, EventBatch, EventClass
from eguard.events.parsers import ParseReport, carry_parents, read_batches
from eguard.mlops.ingest_sources import SHIPPED_SOURCES, IngestSource, TableName
from eguard.mlops.tables import EVENT_COLUMNS, to_table, write_table
from eguard.mlops.workspace import Workspace, write_report

Progress = Callable[[str, int, int], None]
TABLES: Final[tuple[TableName, ...]] = get_args(TableName)
#: Formats whose rows are a reduced copy of original logs.
DERIVED_FORMATS: Final = frozenset({"sysmon-csv"})
#: The logs that they are copies of. A capture read from these replaces its rows in the copy.
ORIGINAL_FORMAT: Final = "sysmon"
_CLASS_NAMES: Final = {UNCOUNTED: "uncounted"} | {member.value: member.name.lower() for member in EventClass}


class IngestParams(BaseModel):
    """What the stage reads and how much bad data it bears."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: tuple[IngestSource, ...] = Field(default=SHIPPED_SOURCES, description="files to read, in this order")
    max_rows: int | None = Field(default=None, ge=1, description="most events of one file; null for all")
    max_rejected_fraction: float = Field(
        default=0.01, ge=0.0, le=1.0, description="share of bad rows of one file above which the stage fails"
    )


@dataclass(slots=True)
class _Intake:
    """What came of one source."""

    source: IngestSource
    report: ParseReport = field(default_factory=ParseReport)
    parts: list[pa.Table] = field(default_factory=list)
    superseded: int = 0
    duplicates: int = 0

    @property
    def events(self) -> int:
        return sum(part.num_rows for part in self.parts)

    def summary(self) -> dict[str, Any]:
        """Return the report of this source."""
        counts = self.report.to_dict()
        return counts | {
            "path": self.source.path,
            "format": self.source.format,
            "table": self.source.table,
            "superseded_by_original": self.superseded,
            "duplicates": self.duplicates,
            "events": self.events,
            "is_known_damaged": self.source.is_known_damaged,
        }


def run(params: IngestParams, *, seed: int, workspace: Workspace, progress: Progress | None = None) -> dict[str, Any]:
    """Parse the sources, write the three tables and the report.

    Parameters
    ----------
    params : IngestParams
        Sources and limits.
    seed : int
        Not used: nothing here is random.
    workspace : Workspace
        Where raw data lie and tables go.
    progress : callable, optional
        Told the source, how many are done, and of how many.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    GateFailedError
        A file is damaged that is not known to be, or holds too many bad rows. Tables and report were written.
    ParseError
        A file is missing or in another format than named.
    """
    del seed
    sources = [source for source in params.sources if source.enabled]
    originals = frozenset(s.group for s in sources if s.group and s.table == "events" and s.format == ORIGINAL_FORMAT)
    intakes = []
    seen: set[tuple[Any, ...]] = set()
    for done, source in enumerate(sources):
        if progress:
            progress(source.path, done, len(sources))
        intakes.append(_take_in(source, workspace, originals, seen, params.max_rows))
    failures = [fault for intake in intakes for fault in _faults(intake, params)]
    report = {
        "sources": [intake.summary() for intake in intakes],
        "tables": {name: _write_sorted(name, intakes, workspace) for name in TABLES},
        "passed": not failures,
        "failures": failures,
    }
    write_report(workspace.reports / "ingest.json", report)
    if failures:
        raise GateFailedError(
            f"the raw data are not sound: {failures[0]}",
            report=report,
            remedy="reports/ingest.json names every file; fetch it again or disable it in params.yaml.",
        )
    return report


def _take_in(
    source: IngestSource,
    workspace: Workspace,
    originals: frozenset[str],
    seen: set[tuple[Any, ...]],
    most: int | None,
) -> _Intake:
    """Parse one source; `seen` holds the records of earlier ones, for logs that overlap."""
    intake = _Intake(source)
    is_derived, is_original = source.format in DERIVED_FORMATS, source.format == ORIGINAL_FORMAT
    batches: list[EventBatch] = []
    for batch in _batches(source, workspace, intake.report, most):
        kept = batch
        if is_derived and originals:
            kept = _where(kept, [group not in originals for group in kept.group])
            intake.superseded += len(batch) - len(kept)
        if source.deduplicate:
            before = len(kept)
            kept = _first_of_each(kept, seen)
            intake.duplicates += before - len(kept)
        if is_original:
            batches.append(kept)
        elif len(kept):
            intake.parts.append(to_table(kept))
    if batches:
        intake.parts.append(to_table(carry_parents(EventBatch.concatenate(batches))))
    return intake


def _batches(source: IngestSource, workspace: Workspace, report: ParseReport, most: int | None) -> Iterator[EventBatch]:
    """Yield the batches of a file up to the damage, if any, which the report keeps."""
    left = most
    try:
        for batch in read_batches(workspace.raw / source.path, source.format, report, source.group):
            yield batch if left is None or len(batch) <= left else batch.slice(0, left)
            if left is not None:
                left -= len(batch)
                if left <= 0:
                    return
    except CorruptFileError:
        report.damage = report.damage.replace(f"{workspace.raw}/", "")  # a report names no folder of this machine


def _where(batch: EventBatch, keep: list[bool]) -> EventBatch:
    return batch if all(keep) else batch.take(np.flatnonzero(keep))


def _first_of_each(batch: EventBatch, seen: set[tuple[Any, ...]]) -> EventBatch:
    """Return the rows that were not seen before, and remember them."""
    columns = [getattr(batch, name) for name in EVENT_COLUMNS if name != "fields"]
    texts = [None if fields is None else tuple(fields.items()) for fields in batch.fields]
    keep = []
    for row in zip(*(c.tolist() if isinstance(c, np.ndarray) else c for c in columns), texts, strict=True):
        keep.append(row not in seen)
        seen.add(row)
    return _where(batch, keep)


def _write_sorted(name: TableName, intakes: list[_Intake], workspace: Workspace) -> dict[str, Any]:
    """Write one table from all sources that go to it; return what it holds."""
    parts = [part for intake in intakes if intake.source.table == name for part in intake.parts]
    table = pa.concat_tables(parts) if parts else to_table(EventBatch())
    write_table(workspace.interim / f"{name}.parquet", table, _order(table))
    return _table_summary(table)


def _order(table: pa.Table) -> NDArray[np.intp]:
    """Return the order by group and time; rows of one instant keep the order of their files."""
    groups = table["group"].unify_dictionaries().combine_chunks()
    if not len(groups):
        return np.array([], np.intp)
    names = np.array(groups.dictionary.to_pylist(), object)
    rank = np.argsort(np.argsort(names))
    return np.lexsort((table["time_unix"].to_numpy(), rank[groups.indices.to_numpy()]))


def _table_summary(table: pa.Table) -> dict[str, Any]:
    """Return what a table holds."""
    if not table.num_rows:
        return {"rows": 0}
    times = pc.min_max(table["time_unix"]).as_py()
    classes = _counts(table["event_class"])
    return {
        "rows": table.num_rows,
        "first_time_unix": times["min"],
        "last_time_unix": times["max"],
        "groups": len(_counts(table["group"])),
        "hosts": len(_counts(table["host_id"])),
        "rules": len(_counts(table["rule_id"]).keys() - {""}),
        "labelled_rows": table.num_rows - _counts(table["label"]).get("", 0),
        "rows_by_class": {_CLASS_NAMES[code]: count for code, count in sorted(classes.items())},
        "rows_by_source": dict(sorted(_counts(table["source"]).items())),
        "rows_with_fields": table.num_rows - table["fields"].null_count,
    }


def _counts(column: pa.ChunkedArray) -> dict[Any, int]:
    counted = pc.value_counts(column)
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def _faults(intake: _Intake, params: IngestParams) -> list[str]:
    """Name what is wrong with a source."""
    report, path = intake.report, intake.source.path
    faults = []
    if report.damage and not intake.source.is_known_damaged:
        faults.append(report.damage)
    rejected = report.rejected.total()
    if rejected > params.max_rejected_fraction * report.rows_read:
        faults.append(f"{path}: {rejected} of {report.rows_read} rows are bad")
    return faults
