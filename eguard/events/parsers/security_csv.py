"""Security 4688 process creations as a CSV export of a log workspace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from eguard.errors import ParseError
from eguard.events.model import Event
from eguard.events.parsers.lines import LineReader
from eguard.events.parsers.rows import CsvTable, events_of
from eguard.events.parsers.scalars import time_from_iso, whole_number
from eguard.events.parsers.windows_records import ProcessParents, WindowsRecord, windows_event

COLUMNS: Final = (
    *("EventID", "TimeGenerated", "Computer", "SubjectUserSid", "SubjectUserName", "SubjectDomainName"),
    *("NewProcessId", "NewProcessName", "TokenElevationType", "ProcessId", "CommandLine", "ParentProcessName"),
)
#: Columns of the export, not of the record.
_ENVELOPE: Final = frozenset(
    {"", "TenantId", "Account", "EventID", "TimeGenerated", "TimeCreatedUtc", "Computer", "SourceComputerId"}
)


def read(lines: LineReader, group: str) -> Iterator[Event]:
    """Yield the events of a file."""
    parents = ProcessParents()

    def translate(row: dict[str, str]) -> Event:
        if not row["Computer"]:
            raise ParseError("the row names no host", reason="no_host")
        record = WindowsRecord(
            source="security",
            event_code=whole_number(row["EventID"], largest=65_535),
            host=row["Computer"].lower(),
            time_unix=time_from_iso(row["TimeGenerated"]),
            channel="Security",
            provider="Microsoft-Windows-Security-Auditing",
            data={name: value for name, value in row.items() if name not in _ENVELOPE},
        )
        return windows_event(record, group, parents)

    return events_of(CsvTable(lines, COLUMNS).records(), translate, lines.report)
