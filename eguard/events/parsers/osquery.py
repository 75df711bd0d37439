"""Differential results of osquery, one JSON object a line.

Packs name their queries as they like, so the columns tell what a row is about: processes, sockets, listening ports,
file changes, log-ons, shell history. "Added" is the start of something, "removed" its end. Results on other tables
(disk, hardware, osquery itself) are counted and passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from eguard.errors import ParseError
from eguard.events.model import UNCOUNTED, Event, EventClass
from eguard.events.parsers.lines import LineReader
from eguard.events.parsers.rows import events_of, json_objects
from eguard.events.parsers.scalars import (
    Fields,
    base_name,
    port_number,
    text_fields,
    text_of,
    time_from_seconds,
    whole_number,
)

_FILE_EVENT_TYPES: Final = {"CREATED": "file_create", "DELETED": "file_delete"}


def read(lines: LineReader, group: str) -> Iterator[Event]:
    """Yield the events of a file."""

    def translate(row: dict[str, Any]) -> Event | str:
        columns, action = row.get("columns"), row.get("action")
        if not isinstance(columns, dict) or action not in ("added", "removed"):
            return "not_differential"
        host = row.get("hostIdentifier")
        if not (isinstance(host, str) and host):
            raise ParseError("the row names no host", reason="no_host")
        data = text_fields(columns)
        describe = next((describe for telling, describe in _TABLES if telling <= data.keys()), None)
        if describe is None:
            return "other_query"
        described = describe(data, action == "added")
        if described is None:
            return "other_query"
        happened = data.get("time", "0") if "target_path" in data else "0"
        return Event(
            time_unix=time_from_seconds(happened if whole_number(happened) else row.get("unixTime")),
            host_id=host.lower(),
            source="osquery",
            group=group,
            user=data.get("username") or data.get("user", ""),
            is_elevated="0" in {data.get("euid"), data.get("uid")},
            event_bytes=sum(map(len, data.values())),
            fields=_sigma_fields(data, described, text_of(row.get("name")), host.lower()),
            **described,
        )

    return events_of(json_objects(lines), translate, lines.report)


def _process(data: Fields, is_added: bool) -> dict[str, Any]:
    return {
        "event_class": EventClass.PROCESS_EXEC if is_added else EventClass.PROCESS_EXIT,
        "event_type": "exec" if is_added else "exit",
        "comm": data.get("name") or base_name(data.get("path", "")),
        "parent_comm": _program(data.get("pcmdline", "")),
        "pid": _pid(data.get("pid")),
        "parent_pid": _pid(data.get("parent")),
        "image_path": data.get("path", ""),
        "command_line": data.get("cmdline", ""),
    }


def _file(data: Fields, is_added: bool) -> dict[str, Any] | None:
    if not is_added:
        return None
    return {
        "event_class": EventClass.FILE_OPEN,
        "event_type": _FILE_EVENT_TYPES.get(data.get("action", ""), "file_change"),
        "target": data["target_path"],
        "file_sha256": data.get("sha256", ""),
    }


def _socket(data: Fields, is_added: bool) -> dict[str, Any] | None:
    if not data["remote_address"]:
        return None  # a socket between processes of the host
    return {
        "event_class": EventClass.NETWORK_CONNECT if is_added else UNCOUNTED,
        "event_type": "net" if is_added else "net_close",
        "pid": _pid(data.get("pid")),
        "destination_address": data["remote_address"],
        "destination_port": port_number(data["remote_port"]),
    }


def _listener(data: Fields, is_added: bool) -> dict[str, Any] | None:
    if not is_added or data["port"] == "0":
        return None
    return {
        "event_class": UNCOUNTED,
        "event_type": "net_listen",
        "pid": _pid(data.get("pid")),
        "target": f"{data['address']}:{port_number(data['port'])}",
    }


def _log_on(data: Fields, is_added: bool) -> dict[str, Any] | None:
    kind = data.get("type_name") or data.get("type", "user")
    if kind not in {"user", "user-process", "dead-process"}:
        return None  # boots and run levels share the table
    return {
        "event_class": EventClass.LOGIN,
        "event_type": "logon" if is_added and kind != "dead-process" else "logoff",
        "comm": data.get("name", ""),
        "pid": _pid(data.get("pid")),
        "target": data.get("host", ""),
    }


def _history(data: Fields, is_added: bool) -> dict[str, Any] | None:
    if not is_added:
        return None
    return {
        "event_class": UNCOUNTED,
        "event_type": "shell_command",
        "comm": base_name(data.get("shell", "")),
        "command_line": data["command"],
    }


#: Columns that tell a table, and what makes an event of its rows; the first that fits is taken.
_TABLES: Final[tuple[tuple[frozenset[str], Callable[[Fields, bool], dict[str, Any] | None]], ...]] = (
    (frozenset({"cmdline", "pid", "parent"}), _process),
    (frozenset({"target_path", "action"}), _file),
    (frozenset({"remote_address", "remote_port"}), _socket),
    (frozenset({"address", "port", "protocol"}), _listener),
    (frozenset({"tty", "host", "pid"}), _log_on),
    (frozenset({"history_file", "command"}), _history),
)


def _sigma_fields(data: Fields, described: dict[str, Any], query: str, host: str) -> Fields:
    """Return the columns under osquery's names, and the process under Sigma's."""
    aliases = {
        "Image": described.get("image_path"),
        "CommandLine": described.get("command_line"),
        "ParentCommandLine": data.get("pcmdline"),
        "User": data.get("username"),
        "TargetFilename": data.get("target_path"),
        "DestinationIp": data.get("remote_address"),
        "DestinationPort": data.get("remote_port"),
    }
    fields = data | {name: value for name, value in aliases.items() if value}
    return fields | {"Provider_Name": "osquery", "query_name": query, "Computer": host}


def _program(command_line: str) -> str:
    """Return the base name of what a command line starts, as far as its first blank."""
    return base_name(command_line.split(" ", 1)[0])


def _pid(text: str | None) -> int:
    """Return a pid; osquery writes -1 where it knows none."""
    return 0 if text == "-1" else whole_number(text)
