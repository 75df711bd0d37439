"""Drift of process keys: Page-Hinkley on what their closed windows show, and the alarms of the last hour.

Two series are watched for each key, with one value for each closed window: its KL divergence from the baseline in bits,
and the logarithm of its event rate. Values of overlapping windows would be correlated and alarm on nothing, so nothing
but closed, non-overlapping windows enters.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.engine_options import WindowOptions
from eguard.estimators import PageHinkleyBank

#: Look-back of the alarm count, in seconds, and the number at which feature 23 saturates.
ALARM_SECONDS: Final = 3600.0
MAX_ALARMS: Final = 5
#: Smallest deviation of the logarithm of the rate: steadier keys would alarm on changes of a few percent.
RATE_DEVIATION_FLOOR: Final = 0.1
#: Rates are not resolved below this duration of a window, in seconds.
MIN_DURATION_SECONDS: Final = 1e-3


class DriftBank:
    """Page-Hinkley detectors of many keys, addressed by slot.

    Parameters
    ----------
    size : int
        Number of slots to begin with; `grow` adds more.
    options : WindowOptions
        Tolerance, threshold and burn-in.
    """

    def __init__(self, size: int, options: WindowOptions) -> None:
        self._options = options
        self._divergence = self._bank(size, floor=None)
        self._rate = self._bank(size, floor=RATE_DEVIATION_FLOOR)
        self._alarms: dict[int, tuple[float, ...]] = {}

    def grow(self, size: int) -> None:
        """Make room for `size` slots."""
        self._divergence.grow(size)
        self._rate.grow(size)

    def _bank(self, size: int, floor: float | None) -> PageHinkleyBank:
        options = self._options
        bank = partial(
            PageHinkleyBank,
            size,
            delta=options.drift_delta,
            threshold=options.drift_threshold,
            min_instances=options.drift_burn_in,
        )
        return bank() if floor is None else bank(deviation_floor=floor)

    def update_divergence(self, slots: NDArray[np.intp], kl_bits: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which of `slots` alarm on the divergence of the windows they have just closed."""
        return self._divergence.update(slots, kl_bits)

    def update_rate(self, slots: NDArray[np.intp], duration_seconds: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which of `slots` alarm on the rate of the windows they have just closed."""
        floored = np.maximum(duration_seconds, MIN_DURATION_SECONDS)
        return self._rate.update(slots, np.log(self._options.window_events / floored))

    def note_alarm(self, slot: int, time_unix: float) -> None:
        """Remember an alarm of `slot`; the last `MAX_ALARMS` are kept."""
        self._alarms[slot] = (*self._alarms.get(slot, ()), time_unix)[-MAX_ALARMS:]

    def alarms(self, slot: int) -> tuple[float, ...]:
        """Return the times of the last alarms of `slot`, oldest first."""
        return self._alarms.get(slot, ())

    def forget_times(self) -> None:
        """Forget when alarms were: the clock was set."""
        self._alarms.clear()

    def reset(self, slots: NDArray[np.intp]) -> None:
        """Forget the keys in `slots`."""
        self._divergence.reset(slots)
        self._rate.reset(slots)
        for slot in slots.tolist():
            self._alarms.pop(slot, None)


def recent_alarm_count(alarms: tuple[float, ...], now_unix: float) -> int:
    """Return how many of `alarms` lie within the last hour.

    Examples
    --------
    >>> recent_alarm_count((0.0, 3000.0, 3500.0), 4000.0)
    2
    """
    return sum(now_unix - time_unix < ALARM_SECONDS for time_unix in alarms)
