"""The agent's sensor, opened again when it fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

from eguard.clock import Clock
from eguard.errors import SensorUnavailableError
from eguard.events import EventBatch
from eguard.sensor.protocol import Sensor

#: A sensor that failed is opened again after this long; the wait doubles with each failure up to the second figure.
RETRY_SECONDS: Final = 1.0
MAX_RETRY_SECONDS: Final = 60.0

_log = structlog.get_logger("eguard.agent")


class Sensing:
    """Batches of one host's events, for as long as a sensor can be had.

    Parameters
    ----------
    sensor : Sensor
        Open.
    clock : Clock
        Decides when a failed sensor is opened again.
    reopen : callable, optional
        Returns another open sensor in the place of one that failed; without it the failure is raised.

    Attributes
    ----------
    sensor : Sensor
        The present one.
    failures_total : int
        Times that a sensor failed at work.
    """

    def __init__(self, sensor: Sensor, clock: Clock, reopen: Callable[[], Sensor] | None = None) -> None:
        self.sensor = sensor
        self.failures_total = 0
        self._clock = clock
        self._reopen = reopen
        self._retry_at: float | None = None
        self._wait_seconds = RETRY_SECONDS

    @property
    def is_exhausted(self) -> bool:
        """Whether no event will ever come again."""
        return self.sensor.is_exhausted

    @property
    def is_working(self) -> bool:
        """Whether the machine is being watched."""
        return self._retry_at is None

    def poll(self, timeout_seconds: float) -> EventBatch:
        """Return the next events; none, after waiting, while no sensor works."""
        if self._retry_at is not None and not self._worked_again(self._retry_at, timeout_seconds):
            return EventBatch()
        try:
            return self.sensor.poll(timeout_seconds)
        except (OSError, SensorUnavailableError) as error:
            if self._reopen is None:
                raise
            self.failures_total += 1
            self.sensor.close()
            self._fail(str(error))
            return EventBatch()

    def close(self) -> None:
        """Stop watching."""
        self.sensor.close()

    def _worked_again(self, retry_at: float, timeout_seconds: float) -> bool:
        left = retry_at - self._clock.monotonic()
        if left > 0.0 or self._reopen is None:
            time.sleep(min(left, timeout_seconds))
            return False
        try:
            self.sensor = self._reopen()
        except SensorUnavailableError as error:
            self._fail(error.message)
            return False
        _log.info("sensor works again", sensor=self.sensor.name)
        self._retry_at = None
        self._wait_seconds = RETRY_SECONDS
        return True

    def _fail(self, reason: str) -> None:
        _log.error("sensor failed", sensor=self.sensor.name, reason=reason, retry_seconds=self._wait_seconds)
        self._retry_at = self._clock.monotonic() + self._wait_seconds
        self._wait_seconds = min(2.0 * self._wait_seconds, MAX_RETRY_SECONDS)
