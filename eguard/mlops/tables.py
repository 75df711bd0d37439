"""Events as Parquet: columns that vary are stored, columns that do not stand once in the file's metadata.

The same batch gives the same bytes: fixed compression and row groups, dictionaries in order of appearance, no time
stamps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from eguard.errors import ConfigError
from eguard.events.columns import LIST_COLUMNS, NUMERIC_COLUMNS, EventBatch

#: Every column of `eguard.events.Event`, in the order in which tables carry them.
EVENT_COLUMNS: Final = (*NUMERIC_COLUMNS, *LIST_COLUMNS)
_CONSTANTS: Final = b"eguard.constants"
_ROW_GROUP_ROWS: Final = 1 << 17
_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
_FIELDS_DECODER: Final = msgspec.json.Decoder(dict[str, str])


def to_table(batch: EventBatch) -> pa.Table:
    """Return a batch as an Arrow table with all columns; text is dictionary-encoded, `fields` is JSON text."""
    return pa.table({name: _to_arrow(name, getattr(batch, name)) for name in EVENT_COLUMNS})


def write_events(path: Path, batch: EventBatch) -> None:
    """Write a batch to a Parquet file; `write_table` says how."""
    write_table(path, to_table(batch))


def write_table(path: Path, table: pa.Table, order: NDArray[np.intp] | None = None) -> None:
    """Write a table as `to_table` builds it. Columns of one value go to the metadata.

    Parameters
    ----------
    path : Path
        The file; its folder is made.
    table : pyarrow.Table
        Columns named in `EVENT_COLUMNS`.
    order : ndarray of shape (n_rows,), optional
        Positions of the rows in the order wanted.

    Notes
    -----
    The bytes depend on the table and on the version of Arrow alone.
    """
    table = table.unify_dictionaries().combine_chunks()
    constants = {name: _only_value(table[name]) for name in table.column_names if _is_constant(table[name])}
    stored = table.select([name for name in table.column_names if name not in constants])
    if not stored.column_names:  # the number of rows must survive
        stored = table.select(["time_unix"])
        constants.pop("time_unix", None)
    if order is not None:
        stored = stored.take(pa.array(order))
    text = json.dumps(constants, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        stored.replace_schema_metadata({_CONSTANTS: text.encode()}),
        path,
        compression="zstd",
        compression_level=3,
        use_dictionary=[name for name in stored.column_names if name not in NUMERIC_COLUMNS],
        row_group_size=_ROW_GROUP_ROWS,
    )


def read_events_table(path: Path, columns: Iterable[str] | None = None) -> EventBatch:
    """Read events back.

    Parameters
    ----------
    path : Path
        A file that `write_events` or the ingest stage wrote.
    columns : iterable of str, optional
        Columns wanted; the others hold their defaults and cost nothing. All if not given.

    Raises
    ------
    ConfigError
        A column is unknown, or the file is missing or is no such table.
    """
    wanted = set(EVENT_COLUMNS if columns is None else columns)
    table, constants = _read(path, wanted)
    values: dict[str, Any] = {"time_unix": np.zeros(table.num_rows)}
    values.update({name: _from_arrow(name, table[name]) for name in table.column_names})
    if table.num_rows:
        values.update({name: _repeated(name, value, table.num_rows) for name, value in constants.items()})
    return EventBatch(**values)


def read_coded_columns(
    path: Path, columns: Iterable[str]
) -> tuple[NDArray[np.float64], dict[str, tuple[NDArray[np.int32], list[str]]]]:
    """Read times, and text columns as indices into their distinct texts: a fraction of the time and memory of lists.

    Parameters
    ----------
    path : Path
        A file that `write_events` or the ingest stage wrote.
    columns : iterable of str
        Text columns wanted.

    Raises
    ------
    ConfigError
        As `read_events_table`.
    """
    wanted = set(columns)
    table, constants = _read(path, wanted | {"time_unix"})
    coded: dict[str, tuple[NDArray[np.int32], list[str]]] = {}
    unified = table.unify_dictionaries().combine_chunks()
    for name in sorted(wanted):
        if name not in unified.column_names:
            coded[name] = np.zeros(table.num_rows, np.int32), [constants.get(name) or ""]
            continue
        column = pc.fill_null(unified[name].dictionary_encode(), "").combine_chunks()
        coded[name] = column.indices.to_numpy().astype(np.int32), column.dictionary.to_pylist()
    times: NDArray[np.float64] = (
        table["time_unix"].to_numpy()
        if "time_unix" in table.column_names
        else np.full(table.num_rows, constants.get("time_unix", 0.0))
    )
    return times, coded


def _read(path: Path, wanted: set[str]) -> tuple[pa.Table, dict[str, Any]]:
    """Return the columns of those wanted that a file stores, and the values of those that never vary."""
    if unknown := wanted - set(EVENT_COLUMNS):
        raise ConfigError(f"events have no column {', '.join(sorted(unknown))}", columns=sorted(unknown))
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigError(
            f"cannot read the events in {path}: {error}", remedy="Run the ingest stage.", path=str(path)
        ) from error
    with file:
        metadata = file.schema_arrow.metadata or {}
        constants: dict[str, Any] = json.loads(metadata.get(_CONSTANTS, b"{}"))
        stored = [name for name in file.schema_arrow.names if name in wanted | {"time_unix"}]
        return file.read(columns=stored), {name: constants[name] for name in wanted & constants.keys()}


def _to_arrow(name: str, column: Any) -> pa.Array:
    if name in NUMERIC_COLUMNS:
        return pa.array(column)
    if name == "fields":
        column = [None if value is None else msgspec.json.encode(value).decode() for value in column]
    if column and column.count(column[0]) == len(column):  # much faster than encoding it
        only, codes = pa.array(column[:1], pa.string()), np.zeros(len(column), np.int32)
        return pa.DictionaryArray.from_arrays(codes, only) if column[0] is not None else pa.nulls(len(column), _TEXT)
    return pa.array(column, pa.string()).dictionary_encode()


def _from_arrow(name: str, column: pa.ChunkedArray) -> Any:
    if name in NUMERIC_COLUMNS:
        return column.to_numpy()
    values: list[Any] = []
    for chunk in column.chunks:
        texts = chunk.dictionary.to_pylist()
        known = [_FIELDS_DECODER.decode(text) for text in texts] if name == "fields" else texts
        known.append(None)  # what a null's index of -1 points at
        choices = np.empty(len(known), object)
        choices[:] = known
        values.extend(choices[chunk.indices.fill_null(-1).to_numpy()].tolist())
    return values


def _is_constant(column: pa.ChunkedArray) -> bool:
    if column.null_count:
        return bool(column.null_count == len(column))
    return len(column.unique()) <= 1


def _only_value(column: pa.ChunkedArray) -> Any:
    return column[0].as_py() if len(column) else None


def _repeated(name: str, value: Any, rows: int) -> Any:
    if name in NUMERIC_COLUMNS:
        return np.full(rows, value, NUMERIC_COLUMNS[name])
    if name == "fields" and value is not None:
        value = _FIELDS_DECODER.decode(value)
    return [value] * rows
