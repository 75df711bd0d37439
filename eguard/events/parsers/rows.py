"""The two shapes most logs have: one JSON object a line, and CSV with a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Final, TypeVar

import msgspec

from eguard.errors import CorruptFileError, ParseError, UnknownFormatError
from eguard.events.model import Event
from eguard.events.parsers.lines import LineReader
from eguard.events.parsers.report import ParseReport

_R = TypeVar("_R")
#: Rows that are worked on together. Small, because the collector walks over every list that is alive.
BLOCK_ROWS: Final = 512
_DECODER: Final = msgspec.json.Decoder()


def json_objects(lines: LineReader) -> Iterator[dict[str, Any]]:
    """Yield the object of every line; what is not a JSON object is counted. Blank lines are no rows."""
    report = lines.report
    for block in lines.blocks():
        for line in block:
            try:
                value = _DECODER.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                if line.strip():
                    report.reject("bad_json")
                continue
            if isinstance(value, dict):
                yield value
            else:
                report.reject("not_an_object")


def events_of(records: Iterable[_R], translate: Callable[[_R], Event | str], report: ParseReport) -> Iterator[Event]:
    """Translate records one by one.

    `translate` returns the event, or the reason why a sound record is skipped, or raises `ParseError` with a
    ``reason`` for a bad one. Each is counted.
    """
    for record in records:
        try:
            outcome = translate(record)
        except ParseError as error:
            report.reject(error.context.get("reason", "bad_row"))
            continue
        if isinstance(outcome, str):
            report.skip(outcome)
        else:
            report.accept()
            yield outcome


class CsvTable:
    """Rows of a CSV file below its header.

    Parameters
    ----------
    lines : LineReader
        The file.
    required : sequence of str
        Columns that must be there.

    Attributes
    ----------
    header : list of str
        Names of the columns; empty for an empty file.

    Raises
    ------
    UnknownFormatError
        A required column is missing.
    """

    def __init__(self, lines: LineReader, required: Sequence[str]) -> None:
        self._lines = lines
        self._has_bad_text = False
        self._parser = csv.reader(chain.from_iterable(self._text()))
        try:
            self.header: list[str] = next(self._parser, [])
        except csv.Error as error:
            raise self._other_format(f"its first line is no header ({error})") from error
        missing = [name for name in required if name not in self.header]
        if self.header and missing:
            raise self._other_format(f"column {missing[0]!r} is missing")

    def positions(self, names: Sequence[str]) -> list[int]:
        """Return where columns stand."""
        return [self.header.index(name) for name in names] if self.header else []

    def records(self) -> Iterator[dict[str, str]]:
        """Yield rows as dictionaries, for formats with few rows."""
        for rows in self.blocks():
            for row in rows:
                yield dict(zip(self.header, row, strict=True))

    def blocks(self) -> Iterator[list[list[str]]]:
        """Yield lists of at most `BLOCK_ROWS` rows, each as long as the header; others are counted."""
        is_over = False
        while not is_over:
            rows: list[list[str]] = []
            try:
                # extend() keeps what it took before an error.
                rows.extend(islice(self._parser, BLOCK_ROWS))
                is_over = not rows
            except csv.Error:
                self._lines.report.reject("bad_csv")
            except CorruptFileError:
                yield self._sound(rows)
                raise
            if rows := self._sound(rows):
                yield rows

    def _text(self) -> Iterator[io.StringIO]:
        for block in self._lines.blocks():
            data = b"\n".join(block)
            try:
                text = data.decode()
            except UnicodeDecodeError:
                self._has_bad_text = True
                text = data.decode(errors="surrogateescape")
            yield io.StringIO(text + "\n", newline="\n")

    def _other_format(self, why: str) -> UnknownFormatError:
        return UnknownFormatError(
            f"{self._lines.path} is not what it was taken for: {why}",
            remedy="Name the format, or check that the file has its header line.",
            path=str(self._lines.path),
        )

    def _sound(self, rows: list[list[str]]) -> list[list[str]]:
        width = len(self.header)
        report = self._lines.report
        if self._has_bad_text or set(map(len, rows)) != {width}:
            kept = []
            for row in rows:
                if not row:
                    continue
                if len(row) != width:
                    report.reject("wrong_column_count")
                elif self._has_bad_text and not _is_text(row):
                    report.reject("not_utf8")
                else:
                    kept.append(row)
            rows = kept
        if self.header in rows:
            kept = [row for row in rows if row != self.header]
            report.skip("repeated_header", len(rows) - len(kept))
            rows = kept
        return rows


def _is_text(row: list[str]) -> bool:
    """Tell whether a row came from sound UTF-8."""
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return False
    return True
