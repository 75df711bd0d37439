"""The derived Sysmon and Security table (``events.csv.gz``): half a million rows, so whole columns at a time.

The table dropped most of the original's fields. `Event.fields` stays None, and the rules work with what the columns
tell. Where the original logs are at hand, `eguard.events.parsers.sysmon` tells more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from eguard.errors import ParseError
from eguard.events.columns import EventBatch
from eguard.events.model import UNCOUNTED
from eguard.events.parsers.lines import LineReader
from eguard.events.parsers.rows import Columns, CsvTable, translated
from eguard.events.parsers.scalars import Memo, port_number, time_from_iso, whole_number
from eguard.events.parsers.windows_kinds import CLASS_OF_EVENT_TYPE

COLUMNS: Final = ("capture", "host", "ts", "src", "eid", "event_type", "image", "parent", "target", "cmdline")
_LARGEST_EVENT_CODE: Final = 2**31 - 1
_BAD: Final = -1


def read_batches(lines: LineReader, group: str) -> Iterator[EventBatch]:
    """Yield the events in small batches. A given `group` stands for the capture."""
    table = CsvTable(lines, COLUMNS)
    translator = _Translator(table.positions(COLUMNS), group)
    yield from translated(table, translator, lines.report)


class _Translator:
    """Turns rows into columns and remembers the strings it has seen: the table repeats itself."""

    def __init__(self, order: Sequence[int], group: str) -> None:
        self._order = order
        self._group = group
        self._times, self._codes = Memo(_time_or_bad), Memo(_code_or_bad)
        self._hosts, self._text = Memo(str.lower), Memo(str)
        self._classes = Memo(lambda event_type: CLASS_OF_EVENT_TYPE.get(event_type, UNCOUNTED))

    def faults(self, columns: Columns) -> list[str]:
        """Name the fault of each row, empty for a sound one; nothing at all if every row is sound."""
        _, at_host, at_time, _, at_code, *_ = self._order
        times = list(map(self._times.__getitem__, columns[at_time]))
        codes = list(map(self._codes.__getitem__, columns[at_code]))
        hosts = columns[at_host]
        if min(times) >= 0.0 and min(codes) >= 0 and "" not in hosts:
            return []
        return [
            "bad_time" if time < 0.0 else "bad_number" if code < 0 else "" if host else "no_host"
            for time, code, host in zip(times, codes, hosts, strict=True)
        ]

    def batch(self, columns: Columns, sizes: list[int]) -> EventBatch:
        """Return sound rows as a batch."""
        capture, host, ts, src, eid, types, image, parent, target, cmdline = (columns[at] for at in self._order)
        one = self._text.__getitem__
        names, addresses, ports = list(map(one, target)), [""] * len(sizes), [0] * len(sizes)
        if "net" in types:
            for at, event_type in enumerate(types):
                if event_type == "net" and (destination := _destination(target[at])):
                    addresses[at], ports[at] = destination
                    names[at] = ""
        return EventBatch(
            time_unix=list(map(self._times.__getitem__, ts)),
            host_id=list(map(self._hosts.__getitem__, host)),
            event_class=list(map(self._classes.__getitem__, types)),
            comm=list(map(one, image)),
            parent_comm=list(map(one, parent)),
            source=list(map(one, src)),
            event_type=list(map(one, types)),
            event_code=list(map(self._codes.__getitem__, eid)),
            group=[self._group] * len(sizes) if self._group else list(map(one, capture)),
            command_line=list(map(one, cmdline)),
            target=names,
            destination_address=list(map(one, addresses)),
            destination_port=ports,
            event_bytes=sizes,
        )


def _destination(target: str) -> tuple[str, int] | None:
    """Split ``address:port/protocol``, whose address may be IPv6; None if it is something else."""
    address, _, port = target.partition("/")[0].rpartition(":")
    try:
        return (address, port_number(port)) if address else None
    except ParseError:
        return None


def _time_or_bad(text: str) -> float:
    try:
        return time_from_iso(text)
    except ParseError:
        return _BAD


def _code_or_bad(text: str) -> int:
    try:
        return whole_number(text, largest=_LARGEST_EVENT_CODE)
    except ParseError:
        return _BAD
