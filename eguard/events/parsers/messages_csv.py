"""Messages inside long connections, cut from packet captures: ts, orig_h, resp_h, resp_p, proto, orig_bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from eguard.errors import ParseError
from eguard.events.model import Event, EventClass
from eguard.events.parsers.lines import LineReader
from eguard.events.parsers.rows import CsvTable, events_of
from eguard.events.parsers.scalars import port_number, time_from_seconds, whole_number

COLUMNS: Final = ("ts", "orig_h", "resp_h", "resp_p", "proto", "orig_bytes")


def read(lines: LineReader, group: str) -> Iterator[Event]:
    """Yield the messages of a file as connections of their own."""

    def translate(row: dict[str, str]) -> Event:
        if not row["orig_h"]:
            raise ParseError("the row names no host", reason="no_host")
        return Event(
            time_unix=time_from_seconds(row["ts"]),
            host_id=row["orig_h"],
            event_class=EventClass.NETWORK_CONNECT,
            source="messages",
            event_type="message",
            group=group,
            destination_address=row["resp_h"],
            destination_port=port_number(row["resp_p"]),
            sent_bytes=whole_number(row["orig_bytes"]),
            event_bytes=len(",".join(row.values())),
        )

    return events_of(CsvTable(lines, COLUMNS).records(), translate, lines.report)
