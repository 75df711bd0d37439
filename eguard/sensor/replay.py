"""Recorded events behind the sensor protocol: the agent runs on files as it runs on a machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from eguard.errors import SensorUnavailableError
from eguard.events import BATCH_EVENTS, EventBatch, EventClass
from eguard.events.parsers.reading import read_batches
from eguard.events.parsers.report import ParseReport
from eguard.sensor.compact_recording import is_compact, read_compact
from eguard.sensor.counters import SensorCounters


class ReplaySensor:
    """The events of one file, as fast as they are asked for.

    Parameters
    ----------
    path : Path
        A compact recording, or a log in one of the formats that `eguard ml formats` lists.
    format_name : str, optional
        Its format; recognised from the first line if not given.
    host_id : str
        Replaces the recorded host, if given.

    Notes
    -----
    Rows that the parser rejects are counted as lost, without a class; `report` says why. A damaged file delivers every
    row before the damage, then `CorruptFileError`.
    """

    name = "replay"

    def __init__(self, path: Path, format_name: str | None = None, host_id: str = "") -> None:
        self.host_id = host_id
        self.path = path
        self.classes = frozenset(EventClass)
        self.counters = SensorCounters()
        self.report = ParseReport()
        self.is_exhausted = False
        self._format = format_name
        self._batches: Iterator[EventBatch] | None = None

    def open(self) -> None:
        """Start at the beginning of the file."""
        if not self.path.is_file():
            raise SensorUnavailableError(
                f"there is no file {self.path} to replay", remedy="Name a log with --file; see `eguard ml formats`."
            )
        self.is_exhausted = False
        if self._format is None and is_compact(self.path):
            self._batches = read_compact(self.path)
        else:
            self._batches = read_batches(self.path, self._format, self.report, batch_size=BATCH_EVENTS)

    def poll(self, timeout_seconds: float) -> EventBatch:  # noqa: ARG002 - a file is never waited for
        """Return the next rows of the file; see `Sensor`."""
        batch = next(self._batches, None) if self._batches is not None else None
        self.counters.lost[-1] = sum(self.report.rejected.values())
        if batch is None:
            self.is_exhausted = True
            return EventBatch()
        if self.host_id:
            batch.host_id = [self.host_id] * len(batch)
        np.add.at(self.counters.received, batch.event_class, 1)
        return batch

    def close(self) -> None:
        """Close the file."""
        if self._batches is not None:
            close = getattr(self._batches, "close", None)
            if close is not None:
                close()
            self._batches = None
