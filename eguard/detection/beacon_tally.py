"""How many destinations a host has scored as beacons today, and how many were confirmed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

_DAY_SECONDS: Final = 86_400.0
#: Destinations remembered for a day; what comes beyond is not counted.
MAX_DESTINATIONS: Final = 8192


class BeaconTally:
    """Distinct destinations of one UTC day, by the events' time."""

    def __init__(self) -> None:
        self._day = -math.inf
        self._scored: set[str] = set()
        self._confirmed: set[str] = set()

    def counts(self, now_unix: float) -> tuple[int, int]:
        """Return how many destinations were scored and confirmed on the day of `now_unix`."""
        if now_unix // _DAY_SECONDS != self._day:
            return 0, 0
        return len(self._scored), len(self._confirmed)

    def count(self, time_unix: float, scored: Iterable[str], confirmed: Iterable[str]) -> None:
        """Take in destinations that were scored, and those of them that exceeded a sufficient threshold."""
        day = time_unix // _DAY_SECONDS
        if day > self._day or day < self._day - 1.0:  # a late event of the day before opens none
            self._day = day
            self._scored.clear()
            self._confirmed.clear()
        for name in scored:
            if len(self._scored) < MAX_DESTINATIONS:
                self._scored.add(name)
        self._confirmed.update(name for name in confirmed if name in self._scored)
