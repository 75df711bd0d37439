"""One statement, many rows: the driver's batch interface without the toolkit's work for every row."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

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

    def execute(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert `rows`, mappings that hold every column of the table."""
        dialect = connection.dialect
        if dialect.name not in self._compiled:
            self._compiled[dialect.name] = self._compile(dialect)
        text, columns = self._compiled[dialect.name]
        converted = []
        for name, process in columns:
            values = map(itemgetter(name), rows)
            converted.append(values if process is None else map(process, values))
        connection.exec_driver_sql(text, list(zip(*converted, strict=True)))

    def _compile(self, dialect: Dialect) -> tuple[str, list[tuple[str, Callable[[Any], Any] | None]]]:
        compiled = self._statement.compile(dialect=dialect)
        types = {column.name: column.type for column in self._statement.table.columns}
        text = str(compiled)
        names: list[str] = list(compiled.positiontup or ())
        if not names:  # parameters by name, which the driver can take by position too, and faster
            names = _NAMED_PARAMETER.findall(text)
            text = _NAMED_PARAMETER.sub("%s", text)
        return text, [(name, types[name].dialect_impl(dialect).bind_processor(dialect)) for name in names]
