"""Sysmon and Security logs as JSON lines: Windows records of several shippers, and Sysmon for Linux inside syslog.

Shippers add names of their own to the record; those are dropped, and what they overwrite is repaired where the record
still tells it (NXLog puts its severity into ``EventType``, the name of a Sysmon field). Channels other than Sysmon and
Security are counted and passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from eguard.errors import ParseError
from eguard.events.model import Event
from eguard.events.parsers.event_xml import EventXml
from eguard.events.parsers.lines import LineReader
from eguard.events.parsers.report import ParseReport
from eguard.events.parsers.rows import events_of, json_objects
from eguard.events.parsers.scalars import Fields, text_fields, text_of, time_from_iso, whole_number
from eguard.events.parsers.windows_records import ProcessParents, WindowsRecord, windows_event

#: Names that belong to the log or its shipper, not to the record.
_ENVELOPE: Final = frozenset(
    {
        *("@timestamp", "@version", "host", "port", "tags", "type"),
        *("Channel", "EventID", "EventRecordID", "EventTime", "EventTypeOrignal", "Hostname", "Keywords", "Level"),
        *("Message", "Opcode", "OpcodeValue", "ProviderGuid", "RecordNumber", "SourceName", "Task", "TimeCreated"),
        *("EventReceivedTime", "Severity", "SeverityValue", "SourceModuleName", "SourceModuleType"),
        *("ThreadID", "Version"),
    }
)
#: Names that NXLog uses besides: the account, process and category of the log's writer.
_NXLOG: Final = _ENVELOPE | {"AccountName", "AccountType", "Category", "Domain", "ExecutionProcessID", "UserID"}
_NXLOG_SEVERITIES: Final = frozenset({"INFO", "WARNING", "ERROR", "AUDIT_SUCCESS", "AUDIT_FAILURE"})
_EVENT_TYPE_IN_MESSAGE: Final = re.compile(r"^EventType: (\w+)", re.MULTILINE)
#: Where a Sysmon event id admits one ``EventType`` only.
_ONLY_EVENT_TYPE: Final = {13: "SetValue", 14: "RenameKey", 17: "CreatePipe", 18: "ConnectPipe"}


def read(lines: LineReader, group: str) -> Iterator[Event]:
    """Yield the events of a file."""
    parents = ProcessParents()

    def translate(row: dict[str, Any]) -> Event | str:
        if isinstance(row.get("SyslogMessage"), str):
            return _from_syslog(row, group, parents, lines.report)
        return _from_record(row, group, parents)

    return events_of(json_objects(lines), translate, lines.report)


def source_of(channel: str) -> str:
    """Return the source name of a log channel, empty for one that is not read. Channels ignore case.

    Examples
    --------
    >>> source_of("security"), source_of("Microsoft-Windows-Sysmon/Operational"), source_of("System")
    ('security', 'sysmon', '')
    """
    name = channel.lower()
    if name == "security":
        return "security"
    if name == "microsoft-windows-sysmon/operational":
        return "sysmon"
    return "linux-sysmon" if name == "linux-sysmon/operational" else ""


def _from_record(row: dict[str, Any], group: str, parents: ProcessParents) -> Event | str:
    channel = row.get("Channel")
    if not isinstance(channel, str):
        raise ParseError("the record names no channel", reason="no_channel")
    source = source_of(channel)
    if not source:
        return "other_channel"
    host, stamp = row.get("Hostname") or row.get("Computer"), row.get("@timestamp") or row.get("TimeCreated")
    if not (isinstance(host, str) and host):
        raise ParseError("the record names no host", reason="no_host")
    event_code = _event_code(row.get("EventID"))
    record = WindowsRecord(
        source=source,
        event_code=event_code,
        host=host.lower(),
        time_unix=time_from_iso(stamp if isinstance(stamp, str) else ""),
        channel=channel,
        provider=text_of(row.get("SourceName")),
        data=_own_fields(row, source, event_code),
    )
    return windows_event(record, group, parents)


def _event_code(value: Any) -> int:
    if value is None:
        raise ParseError("the record has no event id", reason="missing_field")
    return whole_number(value, largest=65_535)


def _own_fields(row: dict[str, Any], source: str, event_code: int) -> Fields:
    """Return the record's own fields as text."""
    is_nxlog = "SourceModuleType" in row
    dropped = _NXLOG if is_nxlog else _ENVELOPE
    data = text_fields({name: value for name, value in row.items() if name not in dropped})
    if is_nxlog and isinstance(row.get("ProcessID"), int):
        del data["ProcessID"]
    if data.get("EventType") in _NXLOG_SEVERITIES:
        del data["EventType"]
    if source == "sysmon" and "EventType" not in data:
        told = _EVENT_TYPE_IN_MESSAGE.search(text_of(row.get("Message")))
        event_type = told[1] if told else _ONLY_EVENT_TYPE.get(event_code)
        if event_type:
            data["EventType"] = event_type
    return data


def _from_syslog(row: dict[str, Any], group: str, parents: ProcessParents, report: ParseReport) -> Event | str:
    text = row["SyslogMessage"].lstrip()
    if not text.startswith("<Event"):
        return "other_syslog"
    event = EventXml(text)
    source = source_of(event.system.get("Channel", ""))
    if not source:
        return "other_channel"
    host = event.system.get("Computer") or text_of(row.get("HostName") or row.get("Computer"))
    if not host:
        raise ParseError("the record names no host", reason="no_host")
    record = WindowsRecord(
        source=source,
        event_code=_event_code(event.system.get("EventID")),
        host=host.lower(),
        time_unix=time_from_iso(event.system.get("TimeCreated.SystemTime", "")),
        channel=event.system["Channel"],
        provider=event.system.get("Provider.Name", ""),
        data=event.data,
    )
    result = windows_event(record, group, parents)
    for repair in event.repairs:
        report.repair(repair)
    return result
