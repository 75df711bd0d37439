"""One statement, many rows: the driver's batch interface without the toolkit's work for every row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Dialect

_NAMED_PARAMETER: Final = re.compile(r"%\((\w+)\)s")


class BulkInsert:
    """An INSERT of whole rows (with whatever clause for conflicts) that is compiled once a dialect.

    SQLAlchemy prepares the parameters of every row afresh, which costs more than storing them. Here the statement is
    compiled once and each column's values are converted by the column type's own processor.

    Parameters
    ----------
    statement : sqlalchemy.Insert
        Without values: it takes every column of its table.
    """

    def __init__(self, statement: sa.Insert) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, list[tuple[str, Callable[[Any], Any] | None]]]] = {}

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
        converted = [_converted(columns[name], process) for name, process in converters]
        # Constants have no end, so the shortest column decides.
        connection.exec_driver_sql(text, list(zip(*converted, strict=False)))

    def _compile(self, dialect: Dialect) -> tuple[str, list[tuple[str, Callable[[Any], Any] | None]]]:
        compiled = self._statement.compile(dialect=dialect)
        types = {column.name: column.type for column in self._statement.table.columns}
        text = str(compiled)
        names: list[str] = list(compiled.positiontup or ())
        if not names:  # parameters by name, which the driver can take by position too, and faster
            names = _NAMED_PARAMETER.findall(text)
            text = _NAMED_PARAMETER.sub("%s", text)
        return text, [(name, _processor(types[name], dialect)) for name in names]


def _processor(type_: sa.types.TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """Return what turns a value into what the driver takes; JSON goes straight to its writer."""
    return _json_text if isinstance(type_, sa.JSON) else type_.dialect_impl(dialect).bind_processor(dialect)


def _json_text(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _converted(values: Iterable[Any], process: Callable[[Any], Any] | None) -> Iterable[Any]:
    if process is None:
        return values
    if isinstance(values, repeat):
        return repeat(process(next(values)))
    return map(process, values)
