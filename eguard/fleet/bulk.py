"""One statement, many rows: the driver's batch interface without the toolkit's work for every row.

SQLite's driver has no such interface but a loop: it runs the statement once a row, and gives Python's lock away and
waits to have it back each time. There the rows themselves go into one statement. For NULL the driver looks for adapters
first, which takes as long as four texts: a column of nothing else is written into the statement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain, repeat
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from eguard.fleet.tables.columns import UtcTime

T = TypeVar("T")

#: Rows in one statement at most; SQLite takes 32,766 values.
MAX_PIECE_ROWS: Final = 1024

_DATE_CHARACTERS: Final = len("2026-02-25")
_ENCODER: Final = msgspec.json.Encoder()
_NAMED_PARAMETER: Final = re.compile(r"%\((\w+)\)s")

#: Turns the values of a column into what the driver takes.
_Converter = Callable[[Iterable[Any]], Iterable[Any]]


class _Parameter(NamedTuple):
    name: str
    convert: _Converter
    is_nullable: bool


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
        self._compiled: dict[str, tuple[str, list[_Parameter]]] = {}

    def execute(self, connection: sa.Connection, columns: Mapping[str, Iterable[Any]]) -> int:
        """Insert rows and return how many were inserted or changed; on servers that number means something else.

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
        text, parameters = self._compiled[dialect.name]
        is_null = [
            dialect.name == "sqlite" and parameter.is_nullable and _has_nothing(columns[parameter.name])
            for parameter in parameters
        ]
        converted = [
            _converted(columns[parameter.name], parameter.convert)
            for parameter, null in zip(parameters, is_null, strict=True)
            if not null
        ]
        # Constants have no end, so the shortest column decides.
        rows = list(zip(*converted, strict=False))
        if dialect.name != "sqlite":
            return connection.exec_driver_sql(text, rows).rowcount
        return sum(
            connection.exec_driver_sql(
                _with_rows(text, tuple(is_null), len(piece)), tuple(chain.from_iterable(piece))
            ).rowcount
            for piece in pieces(rows)
        )

    def _compile(self, dialect: Dialect) -> tuple[str, list[_Parameter]]:
        compiled = self._statement.compile(dialect=dialect)
        table: sa.FromClause = self._statement.table
        text = str(compiled)
        names: list[str] = list(compiled.positiontup or ())
        if not names:  # parameters by name, which the driver can take by position too, and faster
            names = _NAMED_PARAMETER.findall(text)
            text = _NAMED_PARAMETER.sub("%s", text)
        columns = [table.columns[name] for name in names]
        return text, [_Parameter(each.name, _converter(each.type, dialect), bool(each.nullable)) for each in columns]


@lru_cache(maxsize=256)
def _with_rows(text: str, is_null: tuple[bool, ...], rows: int) -> str:
    """Return an INSERT of one row as one of many, in which some columns are NULL."""
    head, _, tail = text.partition(f"VALUES ({', '.join(['?'] * len(is_null))})")
    row = f"({', '.join(['NULL' if null else '?' for null in is_null])})"
    return f"{head}VALUES {', '.join([row] * rows)}{tail}"


def _has_nothing(values: Iterable[Any]) -> bool:
    return isinstance(values, list) and values.count(None) == len(values)


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
    r"""Return each value's JSON, none of None; one call writes them all, a line each.

    Examples
    --------
    >>> _json_texts([{"alert": 1.0}, None, "two\nlines"])
    ['{"alert":1.0}', None, '"two\\nlines"']
    """
    values = list(values)
    texts: list[str | None] = _ENCODER.encode_lines(values).decode().split("\n")[:-1]  # type: ignore[assignment]
    for place, value in enumerate(values):
        if value is None:
            texts[place] = None
    return texts


def _sqlite_times(seconds: Iterable[float]) -> list[str]:
    """Return times as SQLite's column keeps them.

    Examples
    --------
    >>> _sqlite_times([0.0, 1772000000.25])
    ['1970-01-01 00:00:00.000000', '2026-02-25 06:13:20.250000']
    """
    microseconds = np.rint(np.array(list(seconds), np.float64) * 1e6).astype("datetime64[us]")
    texts = np.datetime_as_string(microseconds)
    texts.view(np.uint32).reshape(len(texts), texts.itemsize // 4)[:, _DATE_CHARACTERS] = ord(" ")  # instead of the T
    stored: list[str] = texts.tolist()
    return stored
