"""Between a source and the batches it hands over: counting, the cap on floods, and the queue."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Final

from eguard.events import BATCH_EVENTS, Event, EventBatch, EventClass
from eguard.sensor.counters import SensorCounters

#: Most events of a class within one second; the rest is counted as sampled. One compiler run opens thousands of files,
#: and no layer needs to see each of them.
DEFAULT_CAPS: Final[Mapping[int, int]] = {int(EventClass.FILE_OPEN): 5000}


class EventIntake:
    """A queue of events with the counters of its sensor.

    Parameters
    ----------
    caps : mapping of int to int, optional
        Most events a second by class; classes that are not named have no cap.

    Examples
    --------
    >>> intake = EventIntake(caps={EventClass.FILE_OPEN: 1})
    >>> for second in (10.0, 10.5, 11.0):
    ...     intake.add(Event(time_unix=second, host_id="web", event_class=EventClass.FILE_OPEN))
    >>> len(intake.take()), int(intake.counters.sampled[EventClass.FILE_OPEN])
    (2, 1)
    """

    def __init__(self, caps: Mapping[int, int] = DEFAULT_CAPS) -> None:
        self.counters = SensorCounters()
        self._caps = dict(caps)
        self._second: dict[int, int] = {}
        self._within: dict[int, int] = {}
        self._waiting: deque[tuple[Event, int]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, event: Event, monotonic_ns: int = 0) -> None:
        """Queue an event, unless its class has used up its second.

        `monotonic_ns` is when it happened, by the clock that nobody can set; 0 if that is not known, and then nothing
        is said of how late it is.
        """
        cap = self._caps.get(event.event_class)
        if cap is not None and self._is_over(event, cap):
            self.counters.sampled[event.event_class] += 1
            return
        self._waiting.append((event, monotonic_ns))

    def take(self) -> EventBatch:
        """Return up to `BATCH_EVENTS` events in the order they came, and count them as received."""
        taken = list(islice(self._waiting, BATCH_EVENTS))
        now = time.monotonic_ns()
        events = []
        for event, monotonic_ns in taken:
            self._waiting.popleft()
            self.counters.received[event.event_class] += 1
            events.append(event)
            if monotonic_ns:
                self.counters.lag.add((now - monotonic_ns) / 1e9)
        return EventBatch.from_events(events)

    def _is_over(self, event: Event, cap: int) -> bool:
        second = int(event.time_unix)
        if self._second.get(event.event_class) != second:
            self._second[event.event_class] = second
            self._within[event.event_class] = 0
        self._within[event.event_class] += 1
        return self._within[event.event_class] > cap
