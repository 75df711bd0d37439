"""The formats by name, and which of them a file is in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from eguard.events.columns import EventBatch
from eguard.events.model import Event
from eguard.events.parsers import ait_alerts, sysmon_csv
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


_ALL: Final = (
    Format(
        "sysmon-csv",
        "derived table of Sysmon and Security events",
        _has_columns(*sysmon_csv.COLUMNS),
        read_batches=sysmon_csv.read_batches,
    ),
    Format(
        "ait",
        "AIT alert data set (Wazuh, Suricata, AMiner)",
        _has_columns(*ait_alerts.COLUMNS),
        read_batches=ait_alerts.read_batches,
    ),
)

FORMATS: Final[dict[str, Format]] = {entry.name: entry for entry in _ALL}
