"""One statement, many rows: the driver's batch interface without the toolkit's work for every row.

SQLite's driver has no such interface but a loop: it runs the statement once a row, and gives Python's lock away and
waits to have it back each time. There the rows themselves go into one statement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain, repeat
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from eguard.fleet.tables.columns import UtcTime

T = TypeVar("T")

#: Rows in one statement at most; SQLite takes 32,766 values.
MAX_PIECE_ROWS: Final = 1024

_ENCODER: Final = msgspec.json.Encoder()
_NAMED_PARAMETER: Final = re.compile(r"%\((\w+)\)s")

#: Turns the values of a column into what the driver takes.
_Converter = Callable[[Iterable[Any]], Iterable[Any]]


def pieces(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut rows into powers of two, so that a handful of statements, prepared once, serve every number of rows.

    Examples
    --------
    >>> [len(piece) for piece in pieces(range(2500))]
    [1024, 1024, 256, 128, 64, 4]
    """
    start, size = 0, MAX_PIECE_ROWS
    while start < len(rows):
        while size > len(rows) - start:
            size //= 2
        yield rows[start : start + size]
        start += size


class BulkInsert:
    """An INSERT of whole rows (with whatever clause for conflicts) that is compiled once a dialect.

    SQLAlchemy prepares the parameters of every row afresh, which costs more than storing them. Here the statement is
    compiled once, and columns are converted as columns.

    Parameters
    ----------
    statement : sqlalchemy.Insert
        Without values: it takes every column of its table.
    """

    def __init__(self, statement: sa.Insert) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, list[tuple[str, _Converter]]]] = {}

    def execute(self, connection: sa.Connection, columns: Mapping[str, Iterable[Any]]) -> None:
        """Insert rows.

        Parameters
        ----------
        connection : sqlalchemy.Connection
        columns : mapping of str to iterable
            The values of every column of the table. A constant is `itertools.repeat` of it; at least one column must
            come to an end.
        """
        dialect = connection.dialect
        if dialect.name not in self._compiled:
            self._compiled[dialect.name] = self._compile(dialect)
        text, converters = self._compiled[dialect.name]
        converted = [_converted(columns[name], convert) for name, convert in converters]
        # Constants have no end, so the shortest column decides.
        rows = list(zip(*converted, strict=False))
        if dialect.name != "sqlite":
            connection.exec_driver_sql(text, rows)
            return
        for piece in pieces(rows):
            connection.exec_driver_sql(_with_rows(text, len(converters), len(piece)), tuple(chain.from_iterable(piece)))

    def _compile(self, dialect: Dialect) -> tuple[str, list[tuple[str, _Converter]]]:
        compiled = self._statement.compile(dialect=dialect)
        types = {column.name: column.type for column in self._statement.table.columns}
        text = str(compiled)
        names: list[str] = list(compiled.positiontup or ())
        if not names:  # parameters by name, which the driver can take by position too, and faster
            names = _NAMED_PARAMETER.findall(text)
            text = _NAMED_PARAMETER.sub("%s", text)
        return text, [(name, _converter(types[name], dialect)) for name in names]


@lru_cache(maxsize=256)
def _with_rows(text: str, columns: int, rows: int) -> str:
    """Return an INSERT of one row as one of many."""
    row = f"({', '.join(['?'] * columns)})"
    head, values, tail = text.partition(f"VALUES {row}")
    return f"{head}{values}{f', {row}' * (rows - 1)}{tail}"


def _converted(values: Iterable[Any], convert: _Converter) -> Iterable[Any]:
    if isinstance(values, repeat):
        return repeat(next(iter(convert([next(values)]))))
    return convert(values)


def _converter(type_: sa.types.TypeEngine[Any], dialect: Dialect) -> _Converter:
    """Return the quickest way that gives what the column's own type would give."""
    if isinstance(type_, sa.JSON):
        return _json_texts
    if isinstance(type_, UtcTime) and dialect.name == "sqlite":
        return _sqlite_times
    if isinstance(type_, sa.LargeBinary) and dialect.name == "sqlite":
        # The driver binds this type as it is; for bytes and for the toolkit's views it looks for adapters first.
        return partial(map, bytearray)
    process = type_.dialect_impl(dialect).bind_processor(dialect)
    return iter if process is None else partial(map, process)


def _json_texts(values: Iterable[Any]) -> list[str | None]:
    encode = _ENCODER.encode
    return [None if value is None else encode(value).decode() for value in values]


def _sqlite_times(seconds: Iterable[float]) -> list[str]:
    """Return times as SQLite's column keeps them.

    Examples
    --------
    >>> _sqlite_times([0.0, 1772000000.25])
    ['1970-01-01 00:00:00.000000', '2026-02-25 06:13:20.250000']
    """
    microseconds = np.rint(np.array(list(seconds), np.float64) * 1e6).astype("datetime64[us]")
    return [text.replace("T", " ") for text in np.datetime_as_string(microseconds).tolist()]
