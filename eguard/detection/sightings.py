"""When a host last showed a rule, and how many names it showed of late: the bookkeeping under `AlertContext`."""

from __future__ import annotations

from typing import Final

import numpy as np

#: Alerts of one rule with gaps shorter than this belong to one run.
BURST_WINDOW_SECONDS: Final = 60.0


class Sightings:
    """What is remembered of one rule or event key on one host."""

    __slots__ = ("in_burst", "last_minute", "last_seen", "n_minutes", "silence_seconds")

    def __init__(self) -> None:
        self.n_minutes = -1
        self.last_minute = -np.inf
        self.last_seen = -np.inf
        self.silence_seconds = np.inf
        self.in_burst = 0

    def see(self, time: float) -> None:
        """Move on to a sighting at `time`."""
        gap = time - self.last_seen
        if gap >= BURST_WINDOW_SECONDS:
            self.silence_seconds = gap
        self.last_seen = time
        minute = time // 60.0
        if minute != self.last_minute:
            self.last_minute = minute
            self.n_minutes += 1


class RecentNames:
    """How many distinct names a sliding window holds, counted up to a limit; beyond it the oldest is forgotten."""

    __slots__ = ("_last_seen", "_limit", "_next_expiry", "_window_seconds")

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_seconds = window_seconds
        self._last_seen: dict[str, float] = {}
        #: No name expires before this moment; sightings since it was set can only have moved expiries later.
        self._next_expiry = np.inf

    def count(self, name: str, time: float) -> int:
        """Note `name` (unless blank) at `time` and return the number of names of the window."""
        last_seen = self._last_seen
        if name in last_seen:
            last_seen[name] = time
        elif name:
            last_seen[name] = time
            self._next_expiry = min(self._next_expiry, time + self._window_seconds)
            if len(last_seen) > self._limit:
                self._forget(time - self._window_seconds)
        if time >= self._next_expiry:
            self._forget(time - self._window_seconds)
        return len(last_seen)

    def _forget(self, horizon: float) -> None:
        last_seen = self._last_seen
        for name in [name for name, seen in last_seen.items() if seen <= horizon]:
            del last_seen[name]
        if len(last_seen) > self._limit:
            del last_seen[min(last_seen, key=last_seen.__getitem__)]
        self._next_expiry = min(last_seen.values(), default=np.inf) + self._window_seconds

    def clear(self) -> None:
        """Forget all names."""
        self._last_seen.clear()
        self._next_expiry = np.inf
