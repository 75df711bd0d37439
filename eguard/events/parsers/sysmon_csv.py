"""The derived Sysmon and Security table (``events.csv.gz``): half a million rows, so whole columns at a time.

The table dropped most of the original's fields. `Event.fields` stays None, and the rules work with what the columns
tell. Where the original logs are at hand, `eguard.events.parsers.sysmon` tells more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from eguard.errors import ParseError
from eguard.events.columns import EventBatch
from eguard.events.model import UNCOUNTED
from eguard.events.parsers.lines import LineReader
from eguard.events.parsers.repeating_rows import Columns, RepeatingRows
from eguard.events.parsers.scalars import Memo, port_number, time_from_iso, whole_number
from eguard.events.parsers.windows_kinds import CLASS_OF_EVENT_TYPE

COLUMNS: Final = ("capture", "host", "ts", "src", "eid", "event_type", "image", "parent", "target", "cmdline")
_LARGEST_EVENT_CODE: Final = 2**31 - 1
_BAD: Final = -1.0


def read_batches(lines: LineReader, group: str) -> Iterator[EventBatch]:
    """Yield the events in small batches. A given `group` stands for the capture."""
    return RepeatingRows(lines, _SysmonRows(group)).batches()


class _SysmonRows:
    """Capture, host and time lead; the rest repeats."""

    columns = COLUMNS
    leading = 3

    def __init__(self, group: str) -> None:
        self._group = group
        self._times, self._hosts, self._text = Memo(_time_or_bad), Memo(str.lower), Memo(str)

    def understand(self, tail: list[str]) -> tuple[Any, ...]:
        """Return the values of an event's columns, in the order in which `batch` takes them."""
        src, eid, event_type, image, parent, target, cmdline = map(self._text.__getitem__, tail)
        address, port = _destination(target) if event_type == "net" else ("", 0)
        return (
            src,
            whole_number(eid, largest=_LARGEST_EVENT_CODE),
            event_type,
            CLASS_OF_EVENT_TYPE.get(event_type, UNCOUNTED),
            image,
            parent,
            "" if address else target,
            address,
            port,
            cmdline,
        )

    def lead_fault(self, lead: list[str]) -> str:
        """Name what is wrong with capture, host and time."""
        capture, host, time = lead
        if '"' in capture or '"' in host:
            return "bad_csv"
        return "no_host" if not host else "bad_time" if self._times[time] < 0.0 else ""

    def are_sound(self, leads: Columns) -> bool:
        """Tell whether all are sound."""
        captures, hosts, times = leads
        return not any(self.lead_fault([*pair, times[0]]) for pair in set(zip(captures, hosts, strict=True))) and (
            min(map(self._times.__getitem__, times)) >= 0.0
        )

    def batch(self, leads: Columns, meanings: Columns, sizes: list[int]) -> EventBatch:
        """Return sound rows as a batch."""
        captures, hosts, times = leads
        source, code, event_type, event_class, comm, parent, target, address, port, command_line = meanings
        return EventBatch(
            time_unix=list(map(self._times.__getitem__, times)),
            host_id=list(map(self._hosts.__getitem__, hosts)),
            event_class=event_class,
            comm=comm,
            parent_comm=parent,
            source=source,
            event_type=event_type,
            event_code=code,
            group=[self._group] * len(sizes) if self._group else list(map(self._text.__getitem__, captures)),
            command_line=command_line,
            target=target,
            destination_address=address,
            destination_port=port,
            event_bytes=sizes,
        )


def _destination(target: str) -> tuple[str, int]:
    """Split ``address:port/protocol``, whose address may be IPv6; empty if it is something else."""
    address, _, port = target.partition("/")[0].rpartition(":")
    try:
        return address, port_number(port)
    except ParseError:
        return "", 0


def _time_or_bad(text: str) -> float:
    try:
        return time_from_iso(text)
    except ParseError:
        return _BAD
