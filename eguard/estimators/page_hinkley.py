"""Page-Hinkley test for a change of level on one stream; `page_hinkley_bank` holds the form for many.

The test accumulates how far observations exceed the running mean by more than a tolerance, and alarms when that sum has
climbed by more than a threshold above its own lowest point. Kept as the height above the lowest point, the sum is
Page's recursion ``S <- max(0, S + increment)``, so a stream needs five floats: the count, the mean and the sum of
squared deviations of everything seen, and one climb for either direction.

Two kinds of input. In the **raw** form the increment is ``x - mean - delta``, in the units of `x`, and the mean
includes the current value. In the **standardised** form the increment is ``min(clip, z) - delta`` with
``z = (x - mean) / deviation`` taken from all *earlier* values of the stream; these moments go on running after the
burn-in, because moments frozen at a burn-in of 30 need a threshold of several hundred for the same false-alarm rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from eguard.errors import EstimatorInputError
from eguard.estimators.validation import in_open_interval

Direction = Literal["up", "down", "both"]
DIRECTIONS: Final = ("up", "down", "both")

#: Standard deviation in bits of KL(window || baseline) over 128 events and two classes: sqrt(2) / (2 * 128 * ln 2).
#: The deviation of a stream is never taken to be smaller; a process with one kind of event has KL 0 in every window.
DEVIATION_FLOOR_BITS: Final = 0.008


@dataclass(frozen=True, kw_only=True, slots=True)
class PageHinkleySettings:
    """Checked hyperparameters, shared by the single form and the bank; :class:`PageHinkley` describes them."""

    delta: float
    threshold: float
    direction: Direction
    min_instances: int
    standardise: bool
    clip: float
    forgetting: float
    deviation_floor: float

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise EstimatorInputError("direction", f"must be one of {', '.join(DIRECTIONS)}, got {self.direction!r}")
        # The standardised form needs a deviation of earlier values, hence at least two of them.
        least = 2 if self.standardise else 1
        if self.min_instances < least:
            raise EstimatorInputError("min_instances", f"must be at least {least}, got {self.min_instances!r}")
        if not 0.0 <= self.delta < math.inf:
            raise EstimatorInputError("delta", f"must be finite and not negative, got {self.delta!r}")
        if not 0.0 < self.forgetting <= 1.0:
            raise EstimatorInputError("forgetting", f"must lie in (0, 1], got {self.forgetting!r}")
        if not self.clip > 0.0:
            raise EstimatorInputError("clip", f"must be positive (infinity: no clipping), got {self.clip!r}")
        in_open_interval("threshold", self.threshold, 0.0, math.inf)
        in_open_interval("deviation_floor", self.deviation_floor, 0.0, math.inf)

    @property
    def up(self) -> bool:
        """Whether a rise alarms."""
        return self.direction != "down"

    @property
    def down(self) -> bool:
        """Whether a fall alarms."""
        return self.direction != "up"


class PageHinkley:
    """Page-Hinkley test on one stream.

    Parameters
    ----------
    delta : float
        Tolerance (Page's k): in the units of `x`, or in standard deviations when `standardise` is set.
    threshold : float
        Alarm when the statistic exceeds it (lambda; Page's h), same unit as `delta`.
    direction : {"up", "down", "both"}
        Which change of level alarms.
    min_instances : int
        Values before the first alarm is possible (raw), or before values enter the sum at all (standardised). After
        an alarm the stream starts afresh, so this is also the cool-down.
    standardise : bool
        Whether `x` is standardised by the stream's own running moments.
    clip : float
        Largest standardised excess a single value can add; bounds what skewed input does to the false-alarm rate.
    forgetting : float
        Factor on the sum before each value; 1 is Page's test.
    deviation_floor : float
        Smallest deviation used to standardise, in the units of `x`; the default is meant for bits of KL.

    Raises
    ------
    EstimatorInputError
        A parameter is out of range, or an updated value is not finite.

    Notes
    -----
    The operations manual prints ``max(m) - m > lambda`` with ``-delta`` in the sum. That is the test for a *decrease*
    with its tolerance turned round: it alarms on every stationary stream after about lambda/delta values and on no
    rise. Upward drift is ``m - min(m)`` with ``-delta``; downward is ``max(m) - m`` with ``+delta``.

    Standardised, ``delta=0.5, threshold=20, clip=4, min_instances=30``: fewer than 2 in 1,000 stationary streams of
    Gamma(2) input alarm within 10,000 values, and a rise of one (two) deviations is found after 43 (14). Lag-1
    correlation of 0.3 raises the first figure to about 13 %: feed one value per closed, non-overlapping window.

    References
    ----------
    E. S. Page, Continuous inspection schemes, Biometrika 41 (1954). D. V. Hinkley, Inference about the change-point
    from cumulative sum tests, Biometrika 58 (1971).

    Examples
    --------
    >>> detector = PageHinkley(delta=0.1, threshold=5.0, min_instances=1)
    >>> [detector.update(x) for x in (1, 1, 1, 1, 5, 5)]
    [False, False, False, False, False, True]
    >>> round(detector.statistic, 9)
    5.666666667
    """

    def __init__(
        self,
        delta: float,
        threshold: float,
        direction: Direction = "up",
        min_instances: int = 30,
        *,
        standardise: bool = False,
        clip: float = 4.0,
        forgetting: float = 1.0,
        deviation_floor: float = DEVIATION_FLOOR_BITS,
    ) -> None:
        self._settings = PageHinkleySettings(
            delta=delta,
            threshold=threshold,
            direction=direction,
            min_instances=min_instances,
            standardise=standardise,
            clip=clip,
            forgetting=forgetting,
            deviation_floor=deviation_floor,
        )
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0
        self._up = 0.0
        self._down = 0.0

    @property
    def count(self) -> int:
        """Values seen since the start or the last restart."""
        return self._count

    @property
    def mean(self) -> float:
        """Running mean of these values; 0 before the first."""
        return self._mean

    @property
    def statistic(self) -> float:
        """Height of the sum above its lowest point; of both directions the larger. Still readable after an alarm."""
        return max(self._up, self._down)

    @property
    def in_alarm(self) -> bool:
        """Whether the last value raised an alarm; the next one starts the stream afresh."""
        return self._count >= self._settings.min_instances and self.statistic > self._settings.threshold

    def update(self, x: float) -> bool:
        """Take one value and return whether it raises an alarm."""
        value = float(x)
        if not math.isfinite(value):
            raise EstimatorInputError("x", f"must be finite, got {x!r}")
        settings = self._settings
        if self.in_alarm:
            self.reset()
        deviation = value - self._mean
        count = self._count + 1
        mean = self._mean + deviation / count
        if settings.standardise:
            counted = self._count >= settings.min_instances
            if counted:
                excess = deviation / max(math.sqrt(self._squares / self._count), settings.deviation_floor)
        else:
            counted = True
            excess = value - mean
        if counted:
            self._climb(excess)
        self._squares += deviation * (value - mean)
        self._count, self._mean = count, mean
        return self.in_alarm

    def _climb(self, excess: float) -> None:
        settings = self._settings
        limit = settings.clip if settings.standardise else math.inf
        if settings.up:
            self._up = max(settings.forgetting * self._up + (min(excess, limit) - settings.delta), 0.0)
        if settings.down:
            self._down = max(settings.forgetting * self._down + (min(-excess, limit) - settings.delta), 0.0)
