"""Where time comes from: the machine, or a simulation that replays days in seconds."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What code that needs the time is given."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC. May jump when an operator sets the clock."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never runs backwards; use it for intervals."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds on the machine's monotonic clock."""
        return time.monotonic()


class SimulatedClock:
    """A clock moved by the data it replays. It never runs backwards.

    Parameters
    ----------
    start : float
        First value, in seconds since the epoch.

    Examples
    --------
    >>> clock = SimulatedClock(100.0)
    >>> clock.advance_to(160.0)
    >>> clock.now(), clock.monotonic()
    (160.0, 60.0)
    >>> clock.advance_to(150.0)  # late events do not turn time back
    >>> clock.now()
    160.0
    """

    def __init__(self, start: float) -> None:
        self._start = start
        self._now = start

    def now(self) -> float:
        """Return the simulated seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Return the simulated seconds since the start."""
        return self._now - self._start

    def advance_to(self, time_unix: float) -> None:
        """Move forward to `time_unix`; an earlier time is ignored."""
        self._now = max(self._now, time_unix)
