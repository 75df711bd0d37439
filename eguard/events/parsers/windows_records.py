"""One Windows record (Sysmon or Security log, however it was shipped) as an event.

The record's own fields are kept under their own names, which are those of the Sigma taxonomy. Security 4688 is also
given the names that Sigma's process creation rules use, as Sigma's own Windows pipelines do.

References
----------
SigmaHQ, Sigma specification, "Taxonomy"; pySigma-pipeline-windows, `windows_audit_pipeline`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from eguard.events.columns import EventBatch
from eguard.events.model import Event
from eguard.events.parsers.scalars import Fields, base_name, known, port_number, whole_number
from eguard.events.parsers.windows_kinds import event_kind

_SHA256: Final = re.compile(r"SHA256=([0-9A-Fa-f]{64})")
_NO_GUID: Final = "00000000-0000-0000-0000-000000000000"
_INTEGRITY_OF_LABEL: Final = {
    "S-1-16-4096": "Low",
    "S-1-16-8192": "Medium",
    "S-1-16-8448": "Medium",
    "S-1-16-12288": "High",
    "S-1-16-16384": "System",
}
_ELEVATED_INTEGRITY: Final = frozenset({"High", "System"})
_FULL_TOKEN: Final = "%%1937"  # noqa: S105 - the message id of "TokenElevationTypeFull"
_ELEVATED_LOGON: Final = "%%1842"
_SYSTEM_SID: Final = "S-1-5-18"
#: Event types whose subject is the account that logs on or off, not the one that asks for it.
_OF_TARGET_ACCOUNT: Final = frozenset({"logon", "logon_fail", "logoff"})

_IMAGE_FIELDS: Final = ("SourceImage", "Image", "NewProcessName", "ProcessName", "Application")
_PARENT_FIELDS: Final = ("ParentImage", "ParentProcessName")
_GUID_FIELDS: Final = ("ProcessGuid", "SourceProcessGUID", "SourceProcessGuid")
_TARGET_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "module_load": ("ImageLoaded",),
    "driver_load": ("ImageLoaded",),
    "remote_thread": ("TargetImage",),
    "proc_access": ("TargetImage",),
    "raw_read": ("Device",),
    "dns": ("QueryName",),
    "net": ("DestinationHostname",),
    "reg_key": ("TargetObject",),
    "reg_set": ("TargetObject", "ObjectName"),
    "reg_rename": ("TargetObject",),
    "pipe_create": ("PipeName",),
    "pipe_connect": ("PipeName",),
    "wmi": ("Name", "Consumer"),
    "handle_req": ("ObjectName",),
    "obj_access": ("ObjectName",),
    "sam_access": ("ObjectName",),
    "dir_access": ("ObjectName",),
    "perm_change": ("ObjectName",),
    "priv_use": ("PrivilegeList",),
    "svc_install": ("ServiceName",),
    "task_create": ("TaskName",),
    "task_delete": ("TaskName",),
    "task_update": ("TaskName",),
    "share": ("ShareName",),
}
_FILE_TARGET: Final = ("TargetFilename",)


@dataclass(slots=True)
class ProcessParents:
    """Remembers, for the processes whose start was seen, what started them; forgets the oldest beyond `capacity`.

    Only a start names the parent. Later events of the same process (known by its guid) are given that name too, so
    that they are counted under the same process key.
    """

    capacity: int = 1 << 16
    _parents: dict[tuple[str, str], str] = field(default_factory=dict)

    def started(self, host: str, guid: str, parent_comm: str) -> None:
        """Note a start."""
        if guid:
            self._parents.pop((host, guid), None)
            self._parents[host, guid] = parent_comm
            if len(self._parents) > self.capacity:
                del self._parents[next(iter(self._parents))]

    def parent_of(self, host: str, guid: str) -> str:
        """Return the parent's name, empty if the start was not seen."""
        return self._parents.get((host, guid), "")


def carry_parents(batch: EventBatch) -> EventBatch:
    """Return a batch in time order, in which processes whose start is in it carry their parent's name.

    A reader does this as it streams; but some logs are not in time order, and what stands before the start there does
    not know its parent yet.
    """
    ordered = batch.sorted_by_time()
    parents = ProcessParents()
    for index, guid in enumerate(ordered.process_guid):
        host = ordered.host_id[index]
        if ordered.event_type[index] == "exec":
            parents.started(host, guid, ordered.parent_comm[index])
        elif guid:
            ordered.parent_comm[index] = parents.parent_of(host, guid)
    return ordered


@dataclass(frozen=True, slots=True)
class WindowsRecord:
    """What every shipper of Windows logs says about a record, and the record's own fields."""

    source: str
    event_code: int
    host: str
    time_unix: float
    channel: str
    provider: str
    data: Fields


def windows_event(record: WindowsRecord, group: str, parents: ProcessParents) -> Event:
    """Return the event of a record.

    Raises
    ------
    ParseError
        A number is out of range; ``context["reason"]`` says which kind.
    """
    data = record.data
    kind = event_kind(record.source, record.event_code)
    image = _image(data)
    comm, parent_comm = base_name(image), base_name(first_of(data, _PARENT_FIELDS))
    if record.source != "linux-sysmon":
        comm, parent_comm = comm.lower(), parent_comm.lower()
    guid = _guid(first_of(data, _GUID_FIELDS))
    if kind.event_type == "exec":
        parents.started(record.host, guid, parent_comm)
    elif guid:
        parent_comm = parents.parent_of(record.host, guid)
    pid, parent_pid = _process_ids(record)
    user, is_elevated = _account(data, kind.event_type, record.event_code)
    return Event(
        time_unix=record.time_unix,
        host_id=record.host,
        event_class=kind.event_class,
        comm=comm,
        parent_comm=parent_comm,
        source=record.source,
        event_type=kind.event_type,
        event_code=record.event_code,
        group=group,
        pid=pid,
        parent_pid=parent_pid,
        process_guid=guid,
        parent_guid=_guid(data.get("ParentProcessGuid", "")),
        user=user,
        is_elevated=is_elevated,
        image_path=image,
        command_line=known(data.get("CommandLine")),
        target=_target(data, kind.event_type),
        destination_address=first_of(data, ("DestinationIp", "DestAddress")),
        destination_port=port_number(data.get("DestinationPort") or data.get("DestPort")),
        event_bytes=sum(map(len, data.values())),
        file_sha256=_sha256(data),
        fields=_sigma_fields(record),
    )


def first_of(data: Fields, names: tuple[str, ...]) -> str:
    """Return the first field that is there and says something."""
    for name in names:
        value = data.get(name)
        if value and value != "-":
            return value
    return ""


def _image(data: Fields) -> str:
    image = first_of(data, _IMAGE_FIELDS)
    # Sysmon for Linux spells it with blanks.
    return "<unknown process>" if image.strip("<> ") == "unknown process" else image


def _guid(text: str) -> str:
    """Return a guid in lower case without braces; the null guid is no guid."""
    guid = known(text).strip("{}").lower()
    return "" if guid == _NO_GUID else guid


def _process_ids(record: WindowsRecord) -> tuple[int, int]:
    data = record.data
    if "NewProcessId" in data:
        return whole_number(data["NewProcessId"]), whole_number(data.get("ProcessId"))
    pid = first_of(data, ("ProcessId", "SourceProcessId", "ProcessID"))
    return whole_number(pid), whole_number(data.get("ParentProcessId"))


def _account(data: Fields, event_type: str, event_code: int) -> tuple[str, bool]:
    """Return the account that acts, and whether it is known to act with elevated rights."""
    role = "Target" if event_type in _OF_TARGET_ACCOUNT else "Subject"
    user = first_of(data, ("User", "SourceUser"))
    if not user and (name := known(data.get(f"{role}UserName"))):
        domain = known(data.get(f"{role}DomainName"))
        user = f"{domain}\\{name}" if domain else name
    integrity = data.get("IntegrityLevel") or _INTEGRITY_OF_LABEL.get(data.get("MandatoryLabel", ""), "")
    is_elevated = (
        integrity in _ELEVATED_INTEGRITY
        or data.get("TokenElevationType") == _FULL_TOKEN
        or data.get("ElevatedToken") == _ELEVATED_LOGON
        or data.get(f"{role}UserSid") == _SYSTEM_SID
        or user.upper().endswith("\\SYSTEM")
        or user == "root"
        or event_code == 4672
    )
    return user, is_elevated


def _target(data: Fields, event_type: str) -> str:
    if event_type == "share_access":
        return "\\".join(filter(None, (known(data.get("ShareName")), known(data.get("RelativeTargetName")))))
    names = _FILE_TARGET if event_type.startswith("file_") else _TARGET_FIELDS.get(event_type, ())
    target = first_of(data, names)
    return target.lower() if event_type == "dns" else target


def _sha256(data: Fields) -> str:
    match = _SHA256.search(data.get("Hashes") or data.get("Hash") or "")
    return match[1].lower() if match else ""


def _sigma_fields(record: WindowsRecord) -> Fields:
    """Return the record's own fields, completed by the log's name and, for 4688, Sigma's names."""
    fields = dict(record.data)
    if record.source == "security" and record.event_code == 4688:
        aliases = {
            "Image": fields.get("NewProcessName"),
            "ParentImage": fields.get("ParentProcessName"),
            "LogonId": fields.get("SubjectLogonId"),
            "IntegrityLevel": _INTEGRITY_OF_LABEL.get(fields.get("MandatoryLabel", "")),
            "User": _account(fields, "exec", record.event_code)[0],
        }
        for name, value in aliases.items():
            if value:
                fields.setdefault(name, value)
    fields["EventID"] = str(record.event_code)
    fields["Channel"] = record.channel
    fields["Provider_Name"] = record.provider
    fields["Computer"] = record.host
    return fields
