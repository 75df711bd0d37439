"""The formats by name, and which of them a file is in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from eguard.events.columns import EventBatch
from eguard.events.model import Event
from eguard.events.parsers import (
    ait_alerts,
    auditd,
    defender,
    messages_csv,
    osquery,
    recorded_events,
    security_csv,
    sigma_positives,
    sysmon,
    sysmon_csv,
    zeek,
)
from eguard.events.parsers.lines import LineReader

EventReader = Callable[[LineReader, str], Iterator[Event]]
BatchReader = Callable[[LineReader, str], Iterator[EventBatch]]


@dataclass(frozen=True, slots=True)
class Format:
    """One format: how it is called, how it is recognised, how it is read.

    Attributes
    ----------
    name : str
        What users write.
    title : str
        What it is, for people.
    claims : callable
        Told the first line of a file (its first bytes, decoded), says whether this looks like the format.
    read : callable
        ``(lines, group)`` to events, one at a time; None where `read_batches` does the work.
    read_batches : callable
        ``(lines, group)`` to batches of any size, for the formats that come in millions of rows.
    """

    name: str
    title: str
    claims: Callable[[str], bool]
    read: EventReader | None = None
    read_batches: BatchReader | None = None


def _has_columns(*names: str) -> Callable[[str], bool]:
    wanted = frozenset(names)
    return lambda head: wanted <= set(head.rstrip("\r").split(","))


def _begins_with(*names: str) -> Callable[[str], bool]:
    header = ",".join(names)
    return lambda head: head.rstrip("\r") == header


def _is_windows_json(head: str) -> bool:
    return head.startswith("{") and ('"Channel"' in head or '"\\u003cEvent' in head or '"<Event' in head)


def _is_zeek(head: str) -> bool:
    return head.startswith(("#separator", "#fields")) or (head.startswith("{") and '"id' in head and "orig_h" in head)


def _is_osquery(head: str) -> bool:
    return head.startswith("{") and '"hostIdentifier"' in head


def _is_audit(head: str) -> bool:
    return "audit(" in head or "AuditdMessage" in head


def _is_sigma_positives(head: str) -> bool:
    return head.startswith("{") and '"rule_id"' in head and '"event_data"' in head


_ALL: Final = (
    # First, since its text may quote the marks of any other.
    Format(
        "eguard-events",
        "eGuard's own recording: what `eguard sensor watch --json` prints",
        recorded_events.is_recording,
        read_batches=recorded_events.read_batches,
    ),
    Format(
        "sysmon", "Sysmon and Security logs as JSON lines; Sysmon for Linux in syslog", _is_windows_json, sysmon.read
    ),
    Format(
        "sysmon-csv",
        "derived table of Sysmon and Security events",
        _begins_with(*sysmon_csv.COLUMNS),
        read_batches=sysmon_csv.read_batches,
    ),
    Format(
        "defender",
        "process creations of Microsoft Defender for Endpoint, CSV export",
        _has_columns(*defender.COLUMNS),
        defender.read,
    ),
    Format("osquery", "differential results of osquery, JSON lines", _is_osquery, osquery.read),
    Format("auditd", "Linux audit: audit.log, AUOMS in syslog JSON, CSV export", _is_audit, auditd.read),
    Format(
        "security-csv",
        "Security 4688 process creations, CSV export",
        _has_columns(*security_csv.COLUMNS),
        security_csv.read,
    ),
    Format("zeek", "Zeek conn, http, ssl and dns logs, TSV or JSON lines", _is_zeek, zeek.read),
    Format(
        "ait",
        "AIT alert data set (Wazuh, Suricata, AMiner), CSV",
        _begins_with(*ait_alerts.COLUMNS),
        read_batches=ait_alerts.read_batches,
    ),
    Format(
        "messages-csv",
        "messages inside long connections, CSV",
        _has_columns(*messages_csv.COLUMNS),
        messages_csv.read,
    ),
    Format(
        "sigma-positives",
        "Windows events that a named Sigma rule must match, JSON lines",
        _is_sigma_positives,
        sigma_positives.read,
    ),
)

FORMATS: Final[dict[str, Format]] = {entry.name: entry for entry in _ALL}
