"""Process creations of Microsoft Defender for Endpoint as a CSV export."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from eguard.errors import ParseError
from eguard.events.model import Event, EventClass
from eguard.events.parsers.lines import LineReader
from eguard.events.parsers.rows import CsvTable, events_of
from eguard.events.parsers.scalars import base_name, time_from_iso, whole_number

#: What the export calls a field, and what Sigma calls it.
SIGMA_NAMES: Final[dict[str, str]] = {
    "CreatedProcessFilePath": "Image",
    "CreatedProcessCommandLine": "CommandLine",
    "CreatedProcessParentName": "ParentImage",
    "Process_CommandLine": "ParentCommandLine",
    "CreatedProcessIntegrityLevel": "IntegrityLevel",
    "CreatedProcessVersionInfoOriginalFileName": "OriginalFileName",
    "CreatedProcessVersionInfoCompanyName": "Company",
    "CreatedProcessVersionInfoProductName": "Product",
    "CreatedProcessVersionInfoProductVersion": "FileVersion",
    "CreatedProcessVersionInfoFileDescription": "Description",
    "CreatedProcessId": "ProcessId",
    "CreatedProcessParentId": "ParentProcessId",
    "LogonId": "LogonId",
    "InitiatingProcessCurrentWorkingDirectory": "CurrentDirectory",
}
_HASHES: Final = (
    ("MD5", "CreatedProcessFileMd5"),
    ("SHA1", "CreatedProcessFileSha1"),
    ("SHA256", "CreatedProcessFileSha256"),
)
COLUMNS: Final = (
    *SIGMA_NAMES,
    *(column for _, column in _HASHES),
    *("ComputerDnsName", "CreatedProcessCreationTime", "CreatedProcessName", "CreatedProcessIsElevated"),
    *("CreatedProcessAccountDomainName", "CreatedProcessAccountName", "CreatedProcessTokenElevationType"),
    *("CreatedProcessStartKey", "InitiatingProcessStartKey", "InitiatingProcessName"),
)
_ELEVATED_INTEGRITY: Final = frozenset({"High", "System"})


def read(lines: LineReader, group: str) -> Iterator[Event]:
    """Yield the events of a file."""

    def translate(row: dict[str, str]) -> Event:
        host = row["ComputerDnsName"].lower()
        if not host:
            raise ParseError("the row names no host", reason="no_host")
        fields = _sigma_fields(row)
        return Event(
            time_unix=time_from_iso(row["CreatedProcessCreationTime"]),
            host_id=host,
            event_class=EventClass.PROCESS_EXEC,
            comm=row["CreatedProcessName"].lower(),
            parent_comm=base_name(row["CreatedProcessParentName"] or row["InitiatingProcessName"]).lower(),
            source="defender",
            event_type="exec",
            group=group,
            pid=whole_number(row["CreatedProcessId"]),
            parent_pid=whole_number(row["CreatedProcessParentId"]),
            process_guid=row["CreatedProcessStartKey"],
            parent_guid=row["InitiatingProcessStartKey"],
            user=fields["User"],
            is_elevated=_is_elevated(row),
            image_path=row["CreatedProcessFilePath"],
            command_line=row["CreatedProcessCommandLine"],
            event_bytes=sum(map(len, fields.values())),
            file_sha256=row["CreatedProcessFileSha256"].lower(),
            fields=fields,
        )

    return events_of(CsvTable(lines, COLUMNS).records(), translate, lines.report)


def _sigma_fields(row: dict[str, str]) -> dict[str, str]:
    fields = {sigma: row[name] for name, sigma in SIGMA_NAMES.items() if row[name]}
    fields["User"] = "\\".join(filter(None, (row["CreatedProcessAccountDomainName"], row["CreatedProcessAccountName"])))
    fields["Hashes"] = ",".join(f"{kind}={row[name].upper()}" for kind, name in _HASHES if row[name])
    fields["Provider_Name"] = "Microsoft Defender for Endpoint"
    fields["Computer"] = row["ComputerDnsName"].lower()
    return fields


def _is_elevated(row: dict[str, str]) -> bool:
    return (
        row["CreatedProcessIsElevated"] == "True"
        or row["CreatedProcessIntegrityLevel"] in _ELEVATED_INTEGRITY
        or row["CreatedProcessTokenElevationType"] == "TokenElevationTypeFull"
    )
