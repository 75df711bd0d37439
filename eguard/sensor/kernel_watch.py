"""What the two sensors that the kernel tells of events share: who is who, when it was, DNS queries and logins."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from eguard.events import EventBatch, EventClass
from eguard.sensor.counters import SensorCounters
from eguard.sensor.describe import describe_event
from eguard.sensor.dns_message import DnsPacket
from eguard.sensor.dns_tap import DnsTap
from eguard.sensor.intake import EventIntake
from eguard.sensor.logins import Logins
from eguard.sensor.process_table import KnownProcess, ProcessTable
from eguard.sensor.procfs import list_processes


class KernelWatch:
    """A sensor's process table, queue, DNS tap and login records.

    Parameters
    ----------
    source : str
        The sensor's name, for its events.
    host_id : str
        Name of this endpoint; the machine's own if empty.
    dns_owner : callable, optional
        Asked for the process of a query; see `DnsTap`.

    Notes
    -----
    The kernel stamps its events with a clock that nobody can set. It is compared with the calendar's once a poll
    (`synchronise`), so that a step of the calendar moves the events after it and no interval between two of them.
    """

    def __init__(self, source: str, host_id: str, dns_owner: Callable[[DnsPacket], int] | None = None) -> None:
        self.source = source
        self.host_id = host_id or socket.gethostname()
        self.intake = EventIntake()
        self.processes = ProcessTable()
        self.dns = DnsTap(owner=dns_owner)
        self.logins = Logins()
        self._unix_minus_monotonic_ns = 0

    @property
    def counters(self) -> SensorCounters:
        """Return the sensor's totals."""
        return self.intake.counters

    def open(self) -> frozenset[EventClass]:
        """List what runs already, open tap and login records, and return the classes that these two add."""
        self.synchronise()
        self.processes.scan(list_processes())
        added = set()
        if self.dns.open():
            added.add(EventClass.DNS_QUERY)
        if self.logins.open():
            added.add(EventClass.LOGIN)
        return frozenset(added)

    def synchronise(self) -> None:
        """Compare the kernel's clock with the calendar."""
        self._unix_minus_monotonic_ns = time.time_ns() - time.monotonic_ns()

    def report(
        self, process: KnownProcess, monotonic_ns: int, event_class: int, event_type: str, **columns: Any
    ) -> None:
        """Queue an event of `process` that the kernel stamped with `monotonic_ns`."""
        event = describe_event(
            process,
            time_unix=(monotonic_ns + self._unix_minus_monotonic_ns) / 1e9,
            host_id=self.host_id,
            source=self.source,
            event_class=event_class,
            event_type=event_type,
            **columns,
        )
        self.intake.add(event, monotonic_ns)

    def report_queries(self, received: list[tuple[float, DnsPacket]]) -> None:
        """Queue what the tap received, with the processes that asked."""
        for query in self.dns.ascribe(received):
            self.intake.add(query.to_event(self.processes.find(query.pid), self.host_id, self.source))

    def report_logins(self) -> None:
        """Queue the logins since the last time."""
        for login in self.logins.read():
            self.intake.add(login.to_event(self.host_id, self.source, self.processes.find(login.pid)))

    def take(self) -> EventBatch:
        """Return the next batch."""
        return self.intake.take()

    def close(self) -> None:
        """Close tap and login records."""
        self.dns.close()
        self.logins.close()
