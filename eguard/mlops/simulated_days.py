"""Days of recorded data laid end to end: the calendar on which a replay runs.

Captures are minutes long and lie months apart. Laid out as recorded, nothing would be in force from one to the next
(heartbeats, the seven days of a fleet's memory, windows held back). So every date on which something was recorded
becomes one simulated day, in order; within its day each event keeps its time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class SimulatedDays:
    """The dates of a set of events, and the simulated time they are replayed at.

    Parameters
    ----------
    dates : ndarray of int64
        Recorded dates in days since the epoch (UTC), ascending; simulated day i is the i-th of them.
    start_unix : float
        Simulated midnight of day 0.

    Examples
    --------
    >>> days = SimulatedDays.of(np.array([10 * 86_400.0 + 5, 400 * 86_400.0 + 7]))
    >>> days.simulated(np.array([10 * 86_400.0 + 5, 400 * 86_400.0 + 7])).tolist()
    [864005.0, 950407.0]
    """

    dates: NDArray[np.int64]
    start_unix: float

    @classmethod
    def of(cls, time_unix: NDArray[np.float64]) -> SimulatedDays:
        """Lay out the dates of `time_unix`; simulated day 0 is the first of them as recorded."""
        dates = np.unique(np.floor_divide(time_unix, DAY_SECONDS).astype(np.int64))
        return cls(dates, float(dates[0]) * DAY_SECONDS if len(dates) else 0.0)

    def __len__(self) -> int:
        return len(self.dates)

    def day_of(self, time_unix: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the simulated day of each recorded time."""
        days: NDArray[np.intp] = np.searchsorted(self.dates, np.floor_divide(time_unix, DAY_SECONDS))
        return days

    def simulated(self, time_unix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the simulated time of each recorded time."""
        within = time_unix - np.floor_divide(time_unix, DAY_SECONDS) * DAY_SECONDS
        simulated: NDArray[np.float64] = self.start_unix + self.day_of(time_unix) * DAY_SECONDS + within
        return simulated

    def midnight_after(self, day: int) -> float:
        """Return the simulated time at which a day ends."""
        return self.start_unix + (day + 1) * DAY_SECONDS
