"""What every sensor is to the agent: opened, polled for batches, asked for its counts, closed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from eguard.events import EventBatch, EventClass
from eguard.sensor.counters import SensorCounters


class Sensor(Protocol):
    """A source of telemetry. One thread uses it; `open` comes first and `close` may come twice.

    Attributes
    ----------
    name : str
        The word that selects it: ebpf, proc_connector, psutil or replay.
    host_id : str
        Name of this endpoint on every event.
    classes : frozenset of EventClass
        What it sees on this machine; known once it is open.
    is_exhausted : bool
        True when no event will ever come again: the end of a replayed file. Live sensors never are.
    """

    name: str
    host_id: str
    classes: frozenset[EventClass]
    is_exhausted: bool

    @property
    def counters(self) -> SensorCounters:
        """Return the totals since `open`."""

    def open(self) -> None:
        """Start to watch.

        Raises
        ------
        SensorUnavailableError
            This machine cannot run the sensor; the error says why and what to do.
        """

    def poll(self, timeout_seconds: float) -> EventBatch:
        """Return what happened since the last call, at most `BATCH_EVENTS` events.

        Waits up to `timeout_seconds` for the first event. The batch is empty if nothing happened.
        """

    def close(self) -> None:
        """Stop watching and give everything back."""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a sensor works on this machine, and if not, why and what helps."""

    name: str
    works: bool
    reason: str = ""
    remedy: str = ""
    classes: frozenset[EventClass] = field(default_factory=frozenset)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {
            "name": self.name,
            "works": self.works,
            "reason": self.reason,
            "remedy": self.remedy,
            "classes": [each.name.lower() for each in sorted(self.classes)],
        }
