"""Reading a file: find its format, stream its events, keep its counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from eguard.errors import CorruptFileError, UnknownFormatError
from eguard.events.columns import EventBatch
from eguard.events.model import Event
from eguard.events.parsers.formats import FORMATS, Format
from eguard.events.parsers.lines import LineReader, first_line
from eguard.events.parsers.report import ParseReport
from eguard.events.parsers.rows import BLOCK_ROWS

#: Rows that travel together where a reader asks for nothing else.
DEFAULT_BATCH_ROWS: Final = 65_536


def read_events(
    path: Path | str,
    format: str | None = None,  # noqa: A002 - the word users write on the command line
    report: ParseReport | None = None,
    group: str = "",
) -> Iterator[Event]:
    """Stream the events of a file.

    Parameters
    ----------
    path : Path or str
        A log; gzip, xz, zip and tar are recognised by content.
    format : str, optional
        A key of `FORMATS`; recognised from the first line if not given.
    report : ParseReport, optional
        Counts rows as they pass.
    group : str
        Capture, site or network the events belong to; empty leaves it to the file.

    Yields
    ------
    Event
        In the order of the file.

    Raises
    ------
    UnknownFormatError
        No parser claims the file, it lacks the columns of the named format, or none of its rows is sound.
    CorruptFileError
        The file is damaged. Every row before the damage was yielded; ``report.damage`` says where it is.
    ParseError
        The file cannot be read at all.
    """
    with _opened(Path(path), format, report) as (lines, chosen):
        if chosen.read is not None:
            yield from chosen.read(lines, group)
        elif chosen.read_batches is not None:
            for batch in chosen.read_batches(lines, group):
                yield from batch.rows()


def read_batches(
    path: Path | str,
    format: str | None = None,  # noqa: A002 - the word users write on the command line
    report: ParseReport | None = None,
    group: str = "",
    batch_size: int = DEFAULT_BATCH_ROWS,
) -> Iterator[EventBatch]:
    """Stream the events of a file as columns. Same events, order and errors as `read_events`, but much faster.

    Parameters
    ----------
    batch_size : int
        Most events of one batch; the others are those of `read_events`.
    """
    with _opened(Path(path), format, report) as (lines, chosen):
        if chosen.read_batches is not None:
            yield from _gathered(chosen.read_batches(lines, group), batch_size)
        elif chosen.read is not None:
            yield from _gathered(_batched(chosen.read(lines, group)), batch_size)


def detect_format(path: Path | str) -> str:
    """Return the name of the format a file is in, judged by its first line.

    Raises
    ------
    UnknownFormatError
        No parser claims it, or it is empty.
    """
    path = Path(path)
    head = first_line(path)
    for name, candidate in FORMATS.items():
        if candidate.claims(head):
            return name
    raise UnknownFormatError(
        f"{path} is empty" if not head else f"no parser claims {path}; it begins with {head[:60]!r}",
        remedy=f"Name the format: {', '.join(FORMATS)}.",
        path=str(path),
    )


@contextmanager
def _opened(path: Path, name: str | None, report: ParseReport | None) -> Iterator[tuple[LineReader, Format]]:
    """Open a file in its format. One whose rows are all bad is in another format, and that is said at its end."""
    chosen = FORMATS.get(name or detect_format(path))
    if chosen is None:
        raise UnknownFormatError(
            f"there is no format {name!r}", remedy=f"Choose one of: {', '.join(FORMATS)}.", format=name
        )
    counts = ParseReport() if report is None else report
    accepted, skipped, rejected = counts.accepted, counts.skipped.total(), counts.rejected.total()
    yield LineReader(path, counts), chosen
    bad = counts.rejected.total() - rejected
    if bad and counts.accepted == accepted and counts.skipped.total() == skipped:
        raise UnknownFormatError(
            f"{path} is not {chosen.name}: all of its {bad} rows are bad",
            remedy=f"Name the format: {', '.join(FORMATS)}.",
            path=str(path),
            rejected=dict(counts.rejected),
        )


def _batched(events: Iterable[Event]) -> Iterator[EventBatch]:
    """Collect events into small batches; what was collected before an error is delivered before it."""
    rows: list[Event] = []
    try:
        for event in events:
            rows.append(event)
            if len(rows) >= BLOCK_ROWS:
                yield EventBatch.from_events(rows)
                rows = []
    except CorruptFileError:
        yield EventBatch.from_events(rows)
        raise
    yield EventBatch.from_events(rows)


def _gathered(batches: Iterable[EventBatch], size: int) -> Iterator[EventBatch]:
    """Join small batches into larger ones of at most `size`; nothing is lost before an error."""
    parts: list[EventBatch] = []
    rows = 0
    try:
        for batch in batches:
            for part in (batch,) if len(batch) <= size else batch.chunks(size):
                if rows + len(part) > size:
                    yield _joined(parts)
                    parts, rows = [], 0
                parts.append(part)
                rows += len(part)
    except CorruptFileError:
        if rows:
            yield _joined(parts)
        raise
    if rows:
        yield _joined(parts)


def _joined(parts: list[EventBatch]) -> EventBatch:
    """Join batches; one alone is not copied."""
    return parts[0] if len(parts) == 1 else EventBatch.concatenate(parts)
