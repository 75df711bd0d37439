"""Notice when somebody sets the machine's clock."""

from __future__ import annotations

from typing import Final

from eguard.clock import Clock

#: Time servers correct by less than this; nobody is told of it.
TOLERANCE_SECONDS: Final = 60.0


class ClockWatch:
    """Compares the wall clock with the monotonic one.

    Parameters
    ----------
    clock : Clock
        Both clocks.
    tolerance_seconds : float
        Differences that do not count as a step.

    Attributes
    ----------
    steps_total : int
        Steps seen.

    Examples
    --------
    >>> class Machine:
    ...     wall, ticks = 1000.0, 0.0
    ...     def now(self): return self.wall
    ...     def monotonic(self): return self.ticks
    >>> machine = Machine()
    >>> watch = ClockWatch(machine)
    >>> machine.ticks, machine.wall = 5.0, 1005.0
    >>> watch.step()
    0.0
    >>> machine.ticks, machine.wall = 6.0, 4606.0
    >>> watch.step(), watch.step()
    (3600.0, 0.0)
    """

    def __init__(self, clock: Clock, tolerance_seconds: float = TOLERANCE_SECONDS) -> None:
        self._clock = clock
        self._tolerance_seconds = tolerance_seconds
        self._offset = clock.now() - clock.monotonic()
        self.steps_total = 0

    def step(self) -> float:
        """Return by how many seconds the clock was set since the last call; 0 for what time servers correct."""
        offset = self._clock.now() - self._clock.monotonic()
        step = offset - self._offset
        self._offset = offset
        if abs(step) <= self._tolerance_seconds:
            return 0.0
        self.steps_total += 1
        return step
