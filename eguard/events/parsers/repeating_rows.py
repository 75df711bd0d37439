"""CSV logs of millions of rows, read fast because they repeat themselves.

What changes from row to row (the time) stands in the leading columns; the rest of a line, its tail, is one of a few
thousand texts. So a line is split at its first commas only, and each distinct tail is parsed and understood once:
590,000 alerts of the AIT data set have 773 tails.

Rows must be single lines and the leading columns unquoted; both hold for the formats read this way, and a row that is
otherwise is counted as bad.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

from eguard.errors import CorruptFileError, ParseError, UnknownFormatError
from eguard.events.columns import EventBatch
from eguard.events.parsers.lines import LineReader
from eguard.events.parsers.scalars import Memo

#: Lines that are worked on together. Few, so that they stay in the processor's cache.
_BLOCK_LINES: Final = 512
Columns = list[tuple[Any, ...]]


class RowReader(Protocol):
    """What knows one such format."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of all columns, in order."""

    @property
    def leading(self) -> int:
        """How many of them lead."""

    def understand(self, tail: list[str]) -> tuple[Any, ...]:
        """Return what the fields of a tail mean; raise `ParseError` with a ``reason`` if they are bad."""

    def lead_fault(self, lead: list[str]) -> str:
        """Name what is wrong with the leading fields of a row, empty if nothing."""

    def are_sound(self, leads: Columns) -> bool:
        """Tell whether `lead_fault` finds nothing in any row of these columns."""

    def batch(self, leads: Columns, meanings: Columns, sizes: list[int]) -> EventBatch:
        """Return sound rows as a batch, from columns of leading fields, of meanings, and characters of each row."""


class RepeatingRows:
    """Turns a file into batches of a few thousand events; bad rows are counted.

    Parameters
    ----------
    lines : LineReader
        The file.
    reader : RowReader
        The format.
    """

    def __init__(self, lines: LineReader, reader: RowReader) -> None:
        self._lines = lines
        self._report = lines.report
        self._reader = reader
        self._header = ",".join(reader.columns)
        self._tails = Memo(self._meaning)

    def batches(self) -> Iterator[EventBatch]:
        """Yield the rows of the file.

        Raises
        ------
        UnknownFormatError
            The file does not begin with the header.
        CorruptFileError
            The file is damaged; every row before the damage was yielded.
        """
        is_first = True
        for block in self._blocks():
            if is_first and block[0] != self._header:
                raise UnknownFormatError(
                    f"{self._lines.path} does not begin with the header {self._header!r}",
                    remedy="Name the format, or check that the file has its header line.",
                    path=str(self._lines.path),
                )
            rows = block[1:] if is_first else block
            is_first = False
            if self._header in rows:
                self._report.skip("repeated_header", rows.count(self._header))
                rows = [row for row in rows if row != self._header]
            if rows and (batch := self._batch(rows)):
                self._report.accept(len(batch))
                yield batch

    def _blocks(self) -> Iterator[list[str]]:
        """Yield lists of lines as text; what was gathered before damage is yielded before it."""
        gathered: list[str] = []
        try:
            for block in self._lines.blocks():
                gathered += self._text(block)
                if len(gathered) >= _BLOCK_LINES:
                    yield gathered
                    gathered = []
        except CorruptFileError:
            if gathered:
                yield gathered
            raise
        if gathered:
            yield gathered

    def _text(self, block: list[bytes]) -> list[str]:
        try:
            text = b"\n".join(block).decode()
        except UnicodeDecodeError:
            sound = []
            for line in block:
                try:
                    sound.append(line.decode())
                except UnicodeDecodeError:
                    self._report.reject("not_utf8")
            text = "\n".join(sound)
        rows = text.split("\n")
        if "\r" in text:
            rows = [row.removesuffix("\r") for row in rows]
        return list(filter(None, rows))

    def _batch(self, rows: list[str]) -> EventBatch | None:
        columns = self._columns(rows)
        if columns is None:
            sound = []
            for row in rows:
                if fault := self._fault(row):
                    self._report.reject(fault)
                else:
                    sound.append(row)
            rows, columns = sound, self._columns(sound) if sound else None
        if columns is None:
            return None
        leads, meanings = columns
        return self._reader.batch(leads, meanings, list(map(len, rows)))

    def _columns(self, rows: list[str]) -> tuple[Columns, Columns] | None:
        """Return leading fields and meanings by column; None if any row has a fault."""
        leading = self._reader.leading
        split = [row.split(",", leading) for row in rows]
        if min(map(len, split)) <= leading:
            return None
        *leads, tails = zip(*split, strict=True)
        meanings = list(map(self._tails.__getitem__, tails))
        if str in set(map(type, meanings)) or not self._reader.are_sound(leads):
            return None
        return leads, list(zip(*meanings, strict=True))

    def _fault(self, row: str) -> str:
        *lead, tail = row.split(",", self._reader.leading)
        if len(lead) < self._reader.leading:
            return "wrong_column_count"
        meaning = self._tails[tail]
        return meaning if isinstance(meaning, str) else self._reader.lead_fault(lead)

    def _meaning(self, tail: str) -> tuple[Any, ...] | str:
        """Return what a tail means, or its fault."""
        try:
            (fields,) = csv.reader([tail], strict=True)
        except (csv.Error, ValueError):
            return "bad_csv"
        if len(fields) != len(self._reader.columns) - self._reader.leading:
            return "wrong_column_count"
        try:
            return self._reader.understand(fields)
        except ParseError as error:
            return str(error.context["reason"])
