r"""Sigma's fields of an event: from the source's own record where there is one, else from eGuard's columns.

The one place where a column gets a name of the Sigma taxonomy. What a column holds is not always the whole field: a
base name is the end of a path, a registry hive its start (see `eguard.detection.sigma_view`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from eguard.detection.log_sources import LogSource
from eguard.detection.sigma_view import Knowledge, SigmaView
from eguard.events.columns import EventBatch

#: Names under which other sources record a field of the taxonomy, in order of preference.
_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "Image": ("NewProcessName", "Application", "exe"),
    "ParentImage": ("ParentProcessName",),
    "CommandLine": ("ProcessCommandLine", "Process Command Line", "cmdline"),
    "User": ("SubjectUserName",),
    "DestinationIp": ("DestAddress", "id.resp_h"),
    "DestinationPort": ("DestPort", "id.resp_p"),
    "SourceIp": ("SourceAddress", "id.orig_h"),
    "SourcePort": ("id.orig_p",),
    "QueryName": ("query",),
    "dst_ip": ("id.resp_h",),
    "src_ip": ("id.orig_h",),
    "record_type": ("qtype_name",),
    "answer": ("answers",),
    "c-uri": ("uri",),
    "cs-uri": ("uri",),
    "cs-uri-query": ("uri",),
    "cs-uri-stem": ("uri",),
    "cs-method": ("method",),
    "cs-host": ("host",),
    "cs-referer": ("referrer",),
    "c-useragent": ("user_agent",),
    "cs-user-agent": ("user_agent",),
    "sc-status": ("status_code",),
    # Defender's own log writes its field names with blanks.
    "ProcessName": ("Process Name",),
    "SourceName": ("Source Name",),
    "ThreatName": ("Threat Name",),
}
#: The field that names the acting process differs where one process acts on another.
_ACTOR_FIELD: Final = {"process_access": "SourceImage", "create_remote_thread": "SourceImage"}
#: The field that an event's coarse object fills, and what is known of it when no separator shows a whole path.
_TARGET_FIELD: Final[dict[str, tuple[str, Knowledge]]] = {
    "create_remote_thread": ("TargetImage", Knowledge.END),
    "dns": ("query", Knowledge.WHOLE),
    "dns_query": ("QueryName", Knowledge.WHOLE),
    "driver_load": ("ImageLoaded", Knowledge.END),
    "file_change": ("TargetFilename", Knowledge.END),
    "file_delete": ("TargetFilename", Knowledge.END),
    "file_event": ("TargetFilename", Knowledge.END),
    "file_executable_detected": ("TargetFilename", Knowledge.END),
    "file_rename": ("TargetFilename", Knowledge.END),
    "image_load": ("ImageLoaded", Knowledge.END),
    "process_access": ("TargetImage", Knowledge.END),
    "registry_event": ("TargetObject", Knowledge.START),
}
#: Event types whose connection was opened by this host: what rules call ``Initiated: 'true'``.
_OUTBOUND_TYPES: Final = frozenset({"connect", "tcp_connect", "udp_connect"})


class ColumnValues(NamedTuple):
    """The columns of one event that rules can read; the first four say where it comes from."""

    source: str
    event_code: int
    event_type: str
    event_class: int
    comm: str
    parent_comm: str
    image_path: str
    command_line: str
    target: str
    destination_address: str
    destination_port: int
    user: str
    file_sha256: str


def columns_of(batch: EventBatch) -> Iterator[tuple[Any, ...]]:
    """Iterate over the values of `ColumnValues`, as plain tuples, of each event of a batch."""
    columns = (getattr(batch, name) for name in ColumnValues._fields)
    return zip(*(column if isinstance(column, list) else column.tolist() for column in columns), strict=True)


def aliases_of(fields: Iterable[str]) -> set[str]:
    """Return every other name under which a record may hold one of `fields`.

    Examples
    --------
    >>> sorted(aliases_of(["Image", "CommandLine"]))[:2]
    ['Application', 'NewProcessName']
    """
    return {alias for field in fields for alias in _ALIASES.get(field, ())}


def view_of_record(
    fields: Mapping[str, str], columns: ColumnValues, log_source: LogSource, wanted: Iterable[str]
) -> SigmaView:
    """Return the view of an event that carries its source's own fields: complete by definition.

    A wanted field that the record has under another name is found by that name; one that it lacks is taken from the
    columns if they hold it whole.
    """
    values = {name: value for name, value in fields.items() if value is not None}
    missing = [name for name in wanted if name and name not in values]
    if missing:
        told = view_of_columns(columns, log_source)
        for name in missing:
            alias = next((other for other in _ALIASES.get(name, ()) if other in values), None)
            if alias is not None:
                values[name] = values[alias]
            elif name in told.values and name not in told.partial:
                values[name] = told.values[name]
    return SigmaView(values)


def view_of_columns(event: ColumnValues, log_source: LogSource) -> SigmaView:
    r"""Return what the columns of an event tell, with every field marked that is known only in part.

    Examples
    --------
    >>> from eguard.detection.log_sources import log_source_of
    >>> batch = EventBatch(time_unix=[0.0], source=["sysmon"], comm=["cmd.exe"], command_line=["cmd /c dir"])
    >>> (columns,) = map(ColumnValues._make, columns_of(batch))
    >>> view = view_of_columns(columns, log_source_of("sysmon", 1, "exec", 0))
    >>> view.values["Image"], view.knowledge("Image").name, view.knowledge("CommandLine").name
    ('\\cmd.exe', 'END', 'WHOLE')
    """
    values: dict[str, str] = {}
    partial: dict[str, Knowledge] = {}
    categories = log_source.categories
    separator = "/" if log_source.product == "linux" else "\\"
    if event.event_code:
        values["EventID"] = str(event.event_code)
    actor = next((_ACTOR_FIELD[name] for name in sorted(categories) if name in _ACTOR_FIELD), "Image")
    for field, path, comm in ((actor, event.image_path, event.comm), ("ParentImage", "", event.parent_comm)):
        if path and separator in path:
            values[field] = path
        elif path or comm:
            values[field], partial[field] = f"{separator}{path or comm}", Knowledge.END
    if event.command_line:
        values["CommandLine"] = event.command_line
    if event.user:
        values["User"] = event.user
    if event.file_sha256:
        values["Hashes"], partial["Hashes"] = f"SHA256={event.file_sha256.upper()}", Knowledge.FRAGMENT
    if "network_connection" in categories or "firewall" in categories:
        _put_connection(values, partial, event)
    elif event.target:
        _put_target(values, partial, event.target, categories, separator)
    return SigmaView(values, partial, is_complete=False)


def _put_connection(values: dict[str, str], partial: dict[str, Knowledge], event: ColumnValues) -> None:
    """Fill the fields of a connection."""
    if event.destination_address:
        values["DestinationIp"] = values["dst_ip"] = event.destination_address
    if event.destination_port:
        values["DestinationPort"] = str(event.destination_port)
    if event.target and not event.target.startswith(event.destination_address or "\0"):
        values["DestinationHostname"], partial["DestinationHostname"] = event.target, Knowledge.FRAGMENT
    if event.event_type in _OUTBOUND_TYPES:
        values["Initiated"] = "true"


def _put_target(
    values: dict[str, str],
    partial: dict[str, Knowledge],
    target: str,
    categories: frozenset[str],
    separator: str,
) -> None:
    """Fill the field of an event's object; a target with a separator inside is taken for a whole path."""
    if "pipe_created" in categories:
        values["PipeName"] = target if target.startswith("\\") else f"\\{target}"
        return
    for category in sorted(categories & _TARGET_FIELD.keys()):
        field, knowledge = _TARGET_FIELD[category]
        if knowledge is Knowledge.WHOLE or separator in target:
            values[field] = target
        elif knowledge is Knowledge.START:
            values[field], partial[field] = f"{target}{separator}", knowledge
        else:
            # A bare extension is the end of a name, a bare name the last part of a path.
            values[field] = target if target.startswith(".") else f"{separator}{target}"
            partial[field] = knowledge
