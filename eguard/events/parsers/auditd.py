"""Linux audit events: ``audit.log``, AUOMS records inside syslog JSON, and the CSV export of a log workspace."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from eguard.errors import CorruptFileError, ParseError
from eguard.events.model import Event, EventClass
from eguard.events.parsers.auditd_records import (
    AuditEvent,
    AuditRecord,
    arguments,
    from_hexadecimal,
    parse_line,
    parse_message_list,
)
from eguard.events.parsers.lines import LineReader, first_line
from eguard.events.parsers.rows import CsvTable, events_of, json_objects
from eguard.events.parsers.scalars import Fields, base_name, known, text_of, time_from_seconds, whole_number
from eguard.events.parsers.windows_kinds import EventKind

COLUMNS: Final = ("TimeGenerated", "Computer", "mssg_id", "AuditdMessage")
_EXEC: Final = EventKind("exec", EventClass.PROCESS_EXEC)
_EXIT: Final = EventKind("exit", EventClass.PROCESS_EXIT)
_FILE: Final = EventKind("file_open", EventClass.FILE_OPEN)
_NET: Final = EventKind("net", EventClass.NETWORK_CONNECT)
_LOGON: Final = EventKind("logon", EventClass.LOGIN)
_LOGOFF: Final = EventKind("logoff", EventClass.LOGIN)
_AUTHENTICATION: Final = EventKind("authentication")
#: System calls by number on x86-64 and by name.
_CALLS: Final[dict[str, EventKind]] = {
    **dict.fromkeys(("59", "322", "execve", "execveat"), _EXEC),
    **dict.fromkeys(("60", "231", "exit", "exit_group"), _EXIT),
    **dict.fromkeys(("2", "257", "437", "open", "openat", "openat2", "85", "creat"), _FILE),
    **dict.fromkeys(("42", "connect"), _NET),
}
_RECORDS: Final[dict[str, EventKind]] = {
    **dict.fromkeys(("LOGIN", "USER_LOGIN", "USER_START"), _LOGON),
    **dict.fromkeys(("USER_END", "USER_LOGOUT"), _LOGOFF),
    **dict.fromkeys(("USER_AUTH", "USER_ACCT", "CRED_ACQ", "CRED_DISP", "CRED_REFR"), _AUTHENTICATION),
    "USER_CMD": EventKind("sudo_command"),
}
_OTHER: Final = EventKind("other")


def read(lines: LineReader, group: str) -> Iterator[Event]:
    """Yield the events of a file; its first line tells which of the three forms it has."""
    head = first_line(lines.path)
    if head.startswith("{"):
        return events_of(json_objects(lines), lambda row: _from_syslog(row, group), lines.report)
    if "AuditdMessage" in head:
        rows = CsvTable(lines, COLUMNS).records()
        return events_of(rows, lambda row: _event(_exported(row), row["Computer"], group), lines.report)
    return events_of(_joined(lines), lambda event: _event(event, event.node or group, group), lines.report)


def _from_syslog(row: dict[str, Any], group: str) -> Event | str:
    message = row.get("SyslogMessage")
    if not isinstance(message, str) or "audit(" not in message[:80]:
        return "other_syslog"
    record = parse_line(message)
    host = text_of(row.get("HostName") or row.get("Computer")) or record.node
    return _event(AuditEvent(record.time_unix, record.node, {record.kind: record.pairs}), host, group)


def _exported(row: dict[str, str]) -> AuditEvent:
    time, _, _ = row["mssg_id"].partition(":")
    return AuditEvent(time_from_seconds(time), "", parse_message_list(row["AuditdMessage"]))


def _joined(lines: LineReader) -> Iterator[AuditEvent]:
    """Yield events from the lines of an ``audit.log``; neighbouring lines of one serial belong together."""
    last: AuditRecord | None = None
    records: dict[str, Fields] = {}
    try:
        for record in _records(lines):
            if last is not None and (record.serial, record.node) == (last.serial, last.node):
                lines.report.skip("continued_event")
            elif last is not None:
                yield AuditEvent(last.time_unix, last.node, records)
                records = {}
            records.setdefault(record.kind, record.pairs)
            last = record
    except CorruptFileError:
        if last is not None:
            yield AuditEvent(last.time_unix, last.node, records)
        raise
    if last is not None:
        yield AuditEvent(last.time_unix, last.node, records)


def _records(lines: LineReader) -> Iterator[AuditRecord]:
    for block in lines.blocks():
        for line in block:
            if not line.strip():
                continue
            try:
                record = parse_line(line.decode())
            except UnicodeDecodeError:
                lines.report.reject("not_utf8")
            except ParseError as error:
                lines.report.reject(error.context["reason"])
            else:
                if record.kind == "EOE":
                    lines.report.skip("end_of_event")
                else:
                    yield record


def _event(audit: AuditEvent, host: str, group: str) -> Event:
    if not host:
        raise ParseError("the record names no host", reason="no_host")
    if not audit.records:
        raise ParseError("the event has no records", reason="bad_record")
    data = audit.merged
    kind = _kind(audit, data)
    image = known(data.get("exe"))
    command_line = _command_line(audit, data)
    address, port = _destination(data.get("saddr", "")) if kind is _NET else ("", 0)
    return Event(
        time_unix=audit.time_unix,
        host_id=host.lower(),
        event_class=kind.event_class,
        comm=known(data.get("comm")) or base_name(image),
        source="auditd",
        event_type=kind.event_type,
        group=group,
        pid=whole_number(data.get("pid")),
        parent_pid=whole_number(data.get("ppid")),
        user=data.get("user") or data.get("acct") or data.get("uid", ""),
        is_elevated="0" in {data.get("euid"), data.get("uid")},
        image_path=image,
        command_line=command_line,
        target=known(data.get("name")) if kind is _FILE else "",
        destination_address=address,
        destination_port=port,
        event_bytes=sum(map(len, data.values())),
        fields=_sigma_fields(audit, data, kind, command_line) | {"Computer": host.lower()},
    )


def _kind(audit: AuditEvent, data: Fields) -> EventKind:
    """Return what the event is. A call that failed did nothing: its kind is told, its class is not counted."""
    for name in audit.records:
        if name in _RECORDS:
            return _RECORDS[name]
    kind = _CALLS.get(data.get("syscall", ""), _EXEC if "EXECVE" in audit.records else _OTHER)
    return EventKind(f"{kind.event_type}_failed") if data.get("success") == "no" else kind


def _command_line(audit: AuditEvent, data: Fields) -> str:
    if "cmdline" in data:
        return data["cmdline"]
    if "EXECVE" in audit.records:
        return " ".join(arguments(audit.records["EXECVE"]))
    if "cmd" in data:
        return from_hexadecimal(data["cmd"])
    return from_hexadecimal(data.get("proctitle", ""))


def _destination(socket_address: str) -> tuple[str, int]:
    """Return address and port of a hexadecimal ``sockaddr``, IPv4 or IPv6; empty for other families."""
    try:
        raw = bytes.fromhex(socket_address)
    except ValueError:
        return "", 0
    port = int.from_bytes(raw[2:4], "big")
    if raw[:2] == b"\x02\x00" and len(raw) >= 8:
        return str(IPv4Address(raw[4:8])), port
    if raw[:2] == b"\x0a\x00" and len(raw) >= 24:
        return str(IPv6Address(raw[8:24])), port
    return "", 0


def _sigma_fields(audit: AuditEvent, data: Fields, kind: EventKind, command_line: str) -> Fields:
    """Return the pairs under audit's names, with the type that says most, and a program's start under Sigma's."""
    fields = dict(data)
    if "EXECVE" in audit.records:
        fields |= {f"a{index}": text for index, text in enumerate(arguments(audit.records["EXECVE"]))}
    fields["type"] = "EXECVE" if "EXECVE" in audit.records else next(iter(audit.records))
    fields["Provider_Name"] = "auditd"
    if kind.event_type == "exec":
        aliases = {"Image": data.get("exe"), "CommandLine": command_line, "CurrentDirectory": data.get("cwd")}
        fields |= {name: value for name, value in aliases.items() if value}
        fields["User"] = data.get("user") or data.get("uid", "")
    return fields
