"""Zeek logs, TSV and JSON: connections, HTTP requests, TLS handshakes and DNS queries.

The endpoint is the originator. Names come with dots (Zeek's own) or underscores (some pipelines); TSV names its columns
in a header that may come again when files were joined. Other Zeek logs are counted and passed over.

References
----------
Zeek documentation, "Log Formats and Inspection".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from eguard.errors import ParseError
from eguard.events.model import Event, EventClass
from eguard.events.parsers.lines import LineReader
from eguard.events.parsers.scalars import (
    Fields,
    port_number,
    seconds_span,
    text_fields,
    time_from_iso,
    time_from_seconds,
    whole_number,
)

#: What labelled copies of Zeek's logs append to a record.
_LABEL_FIELDS: Final = ("label", "detailedlabel")
_DECODER: Final = msgspec.json.Decoder()
_UNSET: Final = frozenset({"", "-", "(empty)"})
_UNDERSCORED: Final = {f"id_{end}_{what}": f"id.{end}_{what}" for end in ("orig", "resp") for what in ("h", "p")}
#: Fields that tell the kind of log, for JSON that does not name it.
_TELLING_FIELDS: Final = (
    *(("query", "dns"), ("trans_id", "dns"), ("trans_depth", "http"), ("method", "http")),
    *(("server_name", "ssl"), ("cipher", "ssl"), ("established", "ssl"), ("conn_state", "conn"), ("duration", "conn")),
)
_KINDS: Final = frozenset({"conn", "dns", "http", "ssl"})
#: Sent, received and duration by kind of log.
_MEASURES: Final[dict[str, tuple[str, str, str]]] = {
    "conn": ("orig_bytes", "resp_bytes", "duration"),
    "http": ("request_body_len", "response_body_len", ""),
    "ssl": ("", "", ""),
    "dns": ("", "", "rtt"),
}
#: What is kept of a connection besides the columns: its identity and its kind. Connections come in millions.
_CONNECTION_FIELDS: Final[tuple[str, ...]] = ("uid", "id.orig_p", "proto", "service", "conn_state", "history")
_NAMES: Final = {"http": "host", "ssl": "server_name", "dns": "query"}


def read(lines: LineReader, group: str) -> Iterator[Event]:
    """Yield the events of a file."""
    header: list[str] = []
    kind = ""
    report = lines.report
    for block in lines.blocks():
        for line in block:
            if line.startswith(b"#"):
                if line.startswith(b"#fields"):
                    header = line.decode("utf-8", "replace").rstrip("\r").split("\t")[1:]
                elif line.startswith(b"#path"):
                    kind = line.decode("utf-8", "replace").split()[-1]
                continue
            if not line.strip():
                continue
            try:
                is_json = line.startswith(b"{")
                record = _json_record(line) if is_json else _tsv_record(line, header)
                record_kind = _kind_of(record) if is_json else kind
                event = _event(record, record_kind, group) if record_kind in _KINDS else None
            except ParseError as error:
                report.reject(error.context["reason"])
                continue
            if event is None:
                report.skip("other_log")
                continue
            report.accept()
            yield event


def _tsv_record(line: bytes, header: list[str]) -> Fields:
    if not header:
        raise ParseError("a row stands before the line that names the columns", reason="no_header")
    try:
        values = line.decode().rstrip("\r").split("\t")
    except UnicodeDecodeError as error:
        raise ParseError("the row is not UTF-8", reason="not_utf8") from error
    if len(values) == len(header) + 1 and not values[-1]:
        values.pop()  # some writers end every row with a tab
    if len(values) != len(header):
        raise ParseError(f"{len(values)} values for {len(header)} columns", reason="wrong_column_count")
    return {name: value for name, value in zip(header, values, strict=True) if value not in _UNSET}


def _json_record(line: bytes) -> Fields:
    try:
        value = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ParseError("the line is not JSON", reason="bad_json") from error
    return text_fields({_UNDERSCORED.get(name, name): content for name, content in value.items()})


def _kind_of(record: Fields) -> str:
    """Return the kind of log that a JSON record is from, as it says itself or as its fields tell."""
    if told := record.get("_path") or record.get("@stream"):
        return told
    for name, kind in _TELLING_FIELDS:
        if name in record:
            return kind
    return ""


def _event(record: Fields, kind: str, group: str) -> Event:
    host, stamp = record.get("id.orig_h"), record.get("ts", "")
    if not host:
        raise ParseError("the record names no originator", reason="no_host")
    sent, received, duration = _MEASURES[kind]
    kept = record
    if kind == "conn":
        kept = {name: record[name] for name in _CONNECTION_FIELDS if name in record}
    return Event(
        time_unix=time_from_iso(stamp) if "T" in stamp else time_from_seconds(stamp),
        host_id=host,
        event_class=EventClass.DNS_QUERY if kind == "dns" else EventClass.NETWORK_CONNECT,
        source="zeek",
        event_type=kind,
        group=group,
        target=record.get(_NAMES.get(kind, ""), "").lower(),
        destination_address=record.get("id.resp_h", ""),
        destination_port=port_number(record.get("id.resp_p")),
        sent_bytes=whole_number(record.get(sent)),
        received_bytes=whole_number(record.get(received)),
        duration_seconds=seconds_span(record.get(duration)),
        # Without the label columns of labelled logs: a size that counted them would tell the label.
        event_bytes=sum(map(len, record.values())) - sum(len(record.get(name, "")) for name in _LABEL_FIELDS),
        label=_label(record),
        fields=kept,
    )


def _label(record: Fields) -> str:
    """Return the label of a labelled log: its detail if it is malicious, else nothing."""
    if record.get("label", "").lower() != "malicious":
        return ""
    return record.get("detailedlabel") or "malicious"
