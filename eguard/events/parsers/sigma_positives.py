"""Windows events that a named Sigma rule must match: labelled positives, one JSON object a line.

`Event.rule_id` is the rule's id and `Event.label` is ``attack``; the source is ``sigma``, whatever log
the event is from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from eguard.errors import ParseError
from eguard.events.model import Event
from eguard.events.parsers.lines import LineReader
from eguard.events.parsers.rows import events_of, json_objects
from eguard.events.parsers.scalars import text_fields, time_from_iso, whole_number
from eguard.events.parsers.sysmon import source_of
from eguard.events.parsers.windows_records import ProcessParents, WindowsRecord, windows_event

_PROVIDERS: Final = {
    "sysmon": "Microsoft-Windows-Sysmon",
    "security": "Microsoft-Windows-Security-Auditing",
}


def read(lines: LineReader, group: str) -> Iterator[Event]:
    """Yield the events of a file. They are single events of many machines: no parent is carried from one to another."""

    def translate(row: dict[str, Any]) -> Event:
        channel, host, time, rule = (row.get(name) for name in ("channel", "computer", "time", "rule_id"))
        if not (isinstance(channel, str) and isinstance(host, str) and host and isinstance(time, str)):
            raise ParseError("the row names no channel, computer or time", reason="missing_field")
        if not (isinstance(rule, str) and rule):
            raise ParseError("the row names no rule", reason="no_rule")
        data = row.get("event_data") or {}
        if not isinstance(data, dict):
            raise ParseError("event_data is no object", reason="missing_field")
        source = source_of(channel)
        record = WindowsRecord(
            source=source,
            event_code=whole_number(row.get("event_id"), largest=65_535),
            host=host.lower(),
            time_unix=time_from_iso(time),
            channel=channel,
            provider=_PROVIDERS.get(source, channel.partition("/")[0]),
            data=text_fields(data),
        )
        event = windows_event(record, group, ProcessParents())
        return msgspec.structs.replace(event, source="sigma", label="attack", rule_id=rule)

    return events_of(json_objects(lines), translate, lines.report)
