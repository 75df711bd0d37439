"""eGuard's own recording: one JSON object an event, as `eguard sensor watch --json` prints them.

A recording comes in millions of rows, so rows go from text straight into columns and no `Event` is built. One typed
decoder understands a line; a line that it refuses is looked at again by a slower reader, which says what is wrong, or
takes what is unusual but sound (a lone surrogate in a name, a field of a later version). A bad line costs that line.
"""

from __future__ import annotations

import json
import re
import sys
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from eguard.errors import CorruptFileError
from eguard.events.columns import BATCH_EVENTS, EventBatch
from eguard.events.model import UNCOUNTED, Event, EventClass
from eguard.events.parsers.lines import LineReader
from eguard.events.parsers.report import ParseReport
from eguard.events.parsers.scalars import END_OF_TIME_UNIX

_CODES: Final[dict[str, int]] = {each.name.lower(): int(each) for each in EventClass} | {"uncounted": UNCOUNTED}
_NAMES: Final[dict[int, str]] = {code: name for name, code in _CODES.items()}
#: In the order of a line: the decoder then finds every field at once.
_FIELDS: Final = Event.__struct_fields__
_REQUIRED: Final = ("time_unix", "host_id", "event_class")
_DEFAULTS: Final[dict[str, Any]] = dict(zip(_FIELDS[len(_REQUIRED) :], Event.__struct_defaults__, strict=True))
_LARGEST: Final = 2**63 - 1
_WHOLE_NUMBERS: Final[dict[str, int]] = {
    "event_code": 2**31 - 1,
    "pid": _LARGEST,
    "parent_pid": _LARGEST,
    "destination_port": 65_535,
    "sent_bytes": _LARGEST,
    "received_bytes": _LARGEST,
    "event_bytes": _LARGEST,
}
_TYPES: Final[dict[str, Any]] = {
    "time_unix": Annotated[float, Meta(ge=0.0, lt=END_OF_TIME_UNIX)],
    "host_id": Annotated[str, Meta(min_length=1)],
    "event_class": Literal[tuple(_CODES)],
    "is_elevated": bool,
    "duration_seconds": Annotated[float, Meta(ge=0.0, le=sys.float_info.max)],
    "fields": dict[str, str] | None,
} | {name: Annotated[int, Meta(ge=0, le=largest)] for name, largest in _WHOLE_NUMBERS.items()}
_Row: Final = msgspec.defstruct(
    "_Row",
    [(name, _TYPES.get(name, str)) for name in _REQUIRED]
    + [(name, _TYPES.get(name, str), default) for name, default in _DEFAULTS.items()],
    frozen=True,
    forbid_unknown_fields=True,
    gc=False,
)
_decode: Final = msgspec.json.Decoder(_Row).decode
#: Why a row is bad, by the field that the decoder's message names.
_REASONS: Final = {
    "time_unix": "bad_time",
    "host_id": "no_host",
    "event_class": "unknown_class",
    "duration_seconds": "bad_number",
} | dict.fromkeys(_WHOLE_NUMBERS, "bad_number")
_NAMED_FIELD: Final = re.compile(r"at `\$\.(\w+)")


def encode_event(event: Event) -> str:
    r"""Return an event as one line of a recording, without its line feed.

    Only the fields that say something are written; the class by name. Text is escaped to ASCII, so that names of any
    bytes, lone surrogates among them, survive.

    Examples
    --------
    >>> encode_event(Event(time_unix=1.5, host_id="web", event_class=EventClass.PROCESS_EXEC, comm="l\udcffs"))
    '{"time_unix":1.5,"host_id":"web","event_class":"process_exec","comm":"l\\udcffs"}'
    """
    fields = {name: getattr(event, name) for name in _FIELDS}
    said = {name: value for name, value in fields.items() if value or name in _REQUIRED}
    said["event_class"] = _NAMES[event.event_class]
    return json.dumps(said, separators=(",", ":"))


def is_recording(head: str) -> bool:
    """Tell whether a first line is that of a recording; one of a quiet minute holds the counts alone."""
    return head.startswith("{") and ('"event_class":' in head or head.startswith('{"counters":'))


def read_batches(lines: LineReader, group: str) -> Iterator[EventBatch]:
    """Yield the events in batches of `BATCH_EVENTS`. A `group` that is given replaces the recorded one."""
    rows: list[Any] = []
    try:
        for block in lines.blocks():
            _append_rows(rows, block, lines.report)
            while len(rows) >= BATCH_EVENTS:
                yield _batch(rows[:BATCH_EVENTS], group, lines.report)
                del rows[:BATCH_EVENTS]
    except CorruptFileError:
        if rows:
            yield _batch(rows, group, lines.report)
        raise
    if rows:
        yield _batch(rows, group, lines.report)


def _append_rows(rows: list[Any], block: list[bytes], report: ParseReport) -> None:
    """Append the rows of a block of lines; what is none is counted."""
    remaining, at = iter(block), 0
    while at < len(block):
        before = len(rows)
        try:
            # extend() keeps what it took before an error, and the iterator then stands behind the line that made it.
            rows.extend(map(_decode, remaining))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            at += len(rows) - before
            row = _unusual_row(block[at], report)
            at += 1
            if row is not None:
                rows.append(row)
        else:
            return


def _batch(rows: list[Any], group: str, report: ParseReport) -> EventBatch:
    """Return rows as columns; a field that no row has is left to its default."""
    report.accept(len(rows))
    values: list[Any] = []  # row after row; a column is every 29th of them
    deque(map(values.extend, map(msgspec.structs.astuple, rows)), maxlen=0)
    columns: dict[str, Any] = {}
    for at, name in enumerate(_FIELDS):
        column = values[at :: len(_FIELDS)]
        if name in _REQUIRED or any(column):  # every default is false
            columns[name] = column
    columns["event_class"] = np.fromiter(map(_CODES.__getitem__, columns["event_class"]), np.int8, len(rows))
    if group:
        columns["group"] = [group] * len(rows)
    return EventBatch(**columns)


def _unusual_row(line: bytes, report: ParseReport) -> msgspec.Struct | None:
    """Return the row of a line that the typed decoder refused, or count why it is none."""
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        if line.strip():
            report.reject("bad_json")
        return None
    if not isinstance(record, dict):
        report.reject("not_an_object")
        return None
    if "counters" in record and "event_class" not in record:
        report.skip("watch_counters")
        return None
    known = {name: value for name, value in record.items() if name in _FIELDS}
    try:
        row = msgspec.convert(known, _Row)
    except msgspec.ValidationError as error:
        named = _NAMED_FIELD.search(str(error))  # none where a field is absent
        report.reject("missing_field" if named is None else _REASONS.get(named[1], "wrong_type"))
        return None
    except UnicodeEncodeError:  # only the name of the class is looked up as bytes
        report.reject("unknown_class")
        return None
    if len(known) < len(record):
        report.repair("unknown_field")
    return row
