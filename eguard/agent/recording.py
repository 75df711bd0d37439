"""A recording in the place of a live sensor: one of its hosts, on the recording's own time."""

from __future__ import annotations

import numpy as np
import structlog

from eguard.clock import SimulatedClock
from eguard.events import EventBatch, EventClass
from eguard.sensor.counters import SensorCounters
from eguard.sensor.protocol import Sensor

_log = structlog.get_logger("eguard.agent")


class Recording:
    """What another sensor replays, narrowed to one host, while a clock follows its events.

    An agent is one endpoint's: process ids and baselines of two hosts must not meet. The others' events are passed over
    and counted.

    Parameters
    ----------
    sensor : Sensor
        Replays a file; open.
    host : str
        Which host of the recording; the first that occurs if empty.

    Attributes
    ----------
    clock : SimulatedClock
        Starts with the first event and is moved to the latest one of each batch.
    other_hosts : dict of str to int
        Events passed over, by host.
    """

    def __init__(self, sensor: Sensor, host: str = "") -> None:
        self.name = sensor.name
        self.host_id = host
        self.classes: frozenset[EventClass] = sensor.classes
        self.other_hosts: dict[str, int] = {}
        self._sensor = sensor
        self._first = sensor.poll(0.0)
        times = self._first.time_unix
        self.clock = SimulatedClock(
            float(np.min(times, initial=np.inf, where=np.isfinite(times))) if len(times) else 0.0
        )

    @property
    def is_exhausted(self) -> bool:
        """Whether the file has ended."""
        return self._sensor.is_exhausted and not len(self._first)

    @is_exhausted.setter
    def is_exhausted(self, value: bool) -> None:
        self._sensor.is_exhausted = value

    @property
    def counters(self) -> SensorCounters:
        """Return the totals of the whole file, all hosts together."""
        return self._sensor.counters

    def open(self) -> None:
        """Start at the beginning of the file."""
        self._sensor.open()

    def poll(self, timeout_seconds: float) -> EventBatch:
        """Return the next events of the host; see `Sensor`."""
        batch, self._first = self._first, EventBatch()
        if not len(batch):
            batch = self._sensor.poll(timeout_seconds)
        if not len(batch):
            return batch
        hosts = set(batch.host_id)
        self.host_id = self.host_id or batch.host_id[0]
        if hosts != {self.host_id}:
            batch = self._narrowed(batch)
        latest = float(np.max(batch.time_unix, initial=-np.inf, where=np.isfinite(batch.time_unix)))
        if np.isfinite(latest):
            self.clock.advance_to(latest)
        return batch

    def close(self) -> None:
        """Close the file."""
        self._sensor.close()

    def _narrowed(self, batch: EventBatch) -> EventBatch:
        names = np.array(batch.host_id, dtype=object)
        is_own = names == self.host_id
        for name in names[~is_own].tolist():
            if name not in self.other_hosts and len(self.other_hosts) < 1:
                _log.warning("recording holds several hosts", replayed=self.host_id, passed_over=name)
            self.other_hosts[name] = self.other_hosts.get(name, 0) + 1
        return batch.take(np.flatnonzero(is_own))
