"""Duties that come round: each at its own interval on the monotonic clock, with jitter, and none stops another."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from eguard.clock import Clock
from eguard.errors import EguardError

_log = structlog.get_logger("eguard.agent")


@dataclass(slots=True)
class _Duty:
    name: str
    interval_seconds: float
    work: Callable[[], object]
    due_at: float
    is_failing: bool = False


class Timers:
    """A small set of duties, run one after another by whoever calls `run_due`.

    Parameters
    ----------
    clock : Clock
        Its monotonic time decides; setting the machine's clock brings no storm.
    jitter_fraction : float
        Each interval varies by up to this share, so that agents started together do not stay together.
    seed : int
        Of the jitter.

    Attributes
    ----------
    failures : dict of str to int
        Runs that raised, by duty.

    Examples
    --------
    >>> from eguard.clock import SimulatedClock
    >>> clock, done = SimulatedClock(0.0), []
    >>> timers = Timers(clock, jitter_fraction=0.0)
    >>> timers.every("look", 10.0, lambda: done.append(clock.now()))
    >>> for second in (5, 10, 35):
    ...     clock.advance_to(second)
    ...     timers.run_due()
    >>> done  # what was missed is done once
    [10, 35]
    """

    def __init__(self, clock: Clock, *, jitter_fraction: float = 0.1, seed: int = 0) -> None:
        self._clock = clock
        self._jitter_fraction = jitter_fraction
        self._random = random.Random(seed)  # noqa: S311 - spreads load, keeps no secret
        self._duties: list[_Duty] = []
        self._next_due = float("inf")
        self.failures: dict[str, int] = {}

    def every(self, name: str, interval_seconds: float, work: Callable[[], object]) -> None:
        """Do `work` every `interval_seconds`, for the first time after one interval."""
        self._duties.append(_Duty(name, interval_seconds, work, self._after(interval_seconds)))
        self._next_due = min(duty.due_at for duty in self._duties)

    def run_now(self, name: str) -> None:
        """Do a duty out of turn."""
        for duty in self._duties:
            if duty.name == name:
                self._run(duty)

    def run_due(self) -> None:
        """Do what is due. A duty that raises an error of eGuard's or the system's is logged and comes round again."""
        now = self._clock.monotonic()
        if now < self._next_due:
            return
        for duty in self._duties:
            if duty.due_at <= now:
                self._run(duty)
                duty.due_at = self._after(duty.interval_seconds)
        self._next_due = min(duty.due_at for duty in self._duties)

    def _after(self, interval_seconds: float) -> float:
        spread = self._jitter_fraction * self._random.uniform(-1.0, 1.0)
        return self._clock.monotonic() + interval_seconds * (1.0 + spread)

    def _run(self, duty: _Duty) -> None:
        try:
            duty.work()
        except (EguardError, OSError) as error:
            self.failures[duty.name] = self.failures.get(duty.name, 0) + 1
            if not duty.is_failing:  # once for each spell of trouble
                _log.error("agent duty failed", duty=duty.name, reason=str(error))
            duty.is_failing = True
        else:
            if duty.is_failing:
                _log.info("agent duty works again", duty=duty.name)
            duty.is_failing = False
