"""When a host is usually active: its profile over the 168 hours of the week (feature 40)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

WEEK_HOURS: Final = 168
DAY_HOURS: Final = 24
#: 1970-01-01 was a Thursday; with this shift hour 0 of the week is Monday 00:00 UTC.
_MONDAY_SHIFT_HOURS: Final = 72
#: Prior weight, in hours lived, of each level's estimate on the finer level below it.
_PRIOR_HOURS: Final = 1.0
#: Active minutes an hour that a host without history is assumed to have; only ratios matter, it cancels at the start.
_INITIAL_RATE: Final = 1.0


class HourProfile:
    """Active minutes of one host by hour of the week, and how rare the present hour is.

    Activity is counted in *minutes with at least one alert*, not in alerts: a scan that raises 100,000 alerts in one
    hour must not make every other hour of the host's life look rare. Rates are per hour lived through, so that an hour
    of the week that a young host has not met yet is unknown rather than inactive.

    Notes
    -----
    With W[h] active minutes in and E[h] times lived through hour h of the week (each smoothed over the two neighbouring
    hours by 1/4, 1/2, 1/4), D and F the same by hour of the day, and M, H in all::

        overall  = (M + 1) / (H + 1)
        day[d]   = (D[d] + overall) / (F[d] + 1)
        rate[h]  = (W[h] + day[h mod 24]) / (E[h] + 1)
        share[h] = rate[h] / sum(rate)
        rarity   = 1 / (1 + 168 share[h])

    that is 1 minus the share in proportion to an even spread: 0.5 in an average hour, towards 1 where the host is never
    active, towards 0 where it does everything. A plain 1 - share would lie above .97 for nearly every event. Only hours
    that are over enter, so all alerts of one hour get one value. Time is UTC. A call costs O(1), and O(168) at the
    first alert of an hour.

    Examples
    --------
    >>> profile = HourProfile()
    >>> profile.rarity_at(0)  # no history: an average hour
    0.5
    >>> _ = [profile.rarity_at(60 * minute) for minute in range(60)]
    >>> profile.rarity_at(86_400) < profile.rarity_at(86_400 + 12 * 3600)  # active at midnight, never at noon
    True
    """

    __slots__ = ("_active_minutes", "_first_hour", "_hour", "_minute", "_minutes_by_hour", "_rarity")

    def __init__(self) -> None:
        self._minutes_by_hour = np.zeros(WEEK_HOURS)
        self._first_hour: int | None = None
        self._hour = 0
        self._minute = -1
        self._active_minutes = 0
        self._rarity = 0.5

    def rarity_at(self, time_unix: float) -> float:
        """Count the minute of `time_unix` as active and return the rarity of its hour, from the hours before it."""
        minute = int(time_unix // 60)
        if minute == self._minute:
            return self._rarity
        hour = minute // 60
        if self._first_hour is None or hour < self._hour:
            # A first alert, or a clock set back: exposure can only be counted from here on.
            self._first_hour, self._hour, self._active_minutes = hour, hour, 0
            self._minutes_by_hour[:] = 0.0
            self._rarity = 0.5
        elif hour > self._hour:
            self._minutes_by_hour[_hour_of_week(self._hour)] += self._active_minutes
            self._hour, self._active_minutes = hour, 0
            self._rarity = self._rarity_of(hour)
        self._minute = minute
        self._active_minutes += 1
        return self._rarity

    def _rarity_of(self, hour: int) -> float:
        assert self._first_hour is not None
        lived = _hours_lived(self._first_hour, hour)
        minutes, exposure = _smooth(self._minutes_by_hour), _smooth(lived)
        overall = (self._minutes_by_hour.sum() + _PRIOR_HOURS * _INITIAL_RATE) / (lived.sum() + _PRIOR_HOURS)
        by_day = (-1, DAY_HOURS)
        day_minutes, day_exposure = minutes.reshape(by_day).sum(axis=0), exposure.reshape(by_day).sum(axis=0)
        day = (day_minutes + _PRIOR_HOURS * overall) / (day_exposure + _PRIOR_HOURS)
        rate = (minutes + _PRIOR_HOURS * np.tile(day, 7)) / (exposure + _PRIOR_HOURS)
        return float(1.0 / (1.0 + WEEK_HOURS * rate[_hour_of_week(hour)] / rate.sum()))


def _hour_of_week(hour: int) -> int:
    return (hour + _MONDAY_SHIFT_HOURS) % WEEK_HOURS


def _hours_lived(first_hour: int, hour: int) -> NDArray[np.float64]:
    """Return how often each hour of the week lies in the hours from `first_hour` up to, not including, `hour`."""
    weeks, rest = divmod(hour - first_hour, WEEK_HOURS)
    offset = (np.arange(WEEK_HOURS) - _hour_of_week(first_hour)) % WEEK_HOURS
    return weeks + (offset < rest).astype(np.float64)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    smoothed: NDArray[np.float64] = 0.5 * values + 0.25 * (np.roll(values, 1) + np.roll(values, -1))
    return smoothed
