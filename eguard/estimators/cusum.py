"""One-sided CUSUM for a lasting rise of a slow series, for one series and for many.

This is the fast alarm of the fleet: its series are the logarithms of divergences from a pinned reference, a few values
a day, and it finds a lasting shift within one to four of them. It differs from the standardised Page-Hinkley test in
what an alarm does: only the sum restarts, the moments stay, so that the alarm comes again for as long as the change
lasts, until somebody approves it and the reference is pinned anew (:meth:`Cusum.reset`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eguard.errors import EstimatorInputError
from eguard.estimators.running_moments import RunningStandardiser
from eguard.estimators.validation import in_open_interval


def _check(k: float, h: float, increment_cap: float) -> None:
    if not 0.0 <= k < math.inf:
        raise EstimatorInputError("k", f"must be finite and not negative, got {k!r}")
    in_open_interval("h", h, 0.0, math.inf)
    if not increment_cap > k:
        raise EstimatorInputError("increment_cap", f"must exceed k = {k!r}, or nothing ever accumulates")


class Cusum:
    """One-sided upper CUSUM on values standardised by their own past.

    Parameters
    ----------
    k : float
        Reference value in deviations: half the rise that is to be found fastest.
    h : float
        Decision interval in deviations.
    burn_in : int
        Values that are only learned from.
    increment_cap : float
        Largest standardised value a single observation counts for. The default lets two cycles of a large shift alarm
        (2 * 4.5 > 8) and one never; at 4 no shift whatever would be found before the third.
    deviation_floor : float
        Smallest deviation used, in the units of the series.

    Raises
    ------
    EstimatorInputError
        A parameter is out of range, or an updated value is not finite.

    Notes
    -----
    ``S <- max(0, S + min(z, cap) - k)``, alarm when ``S > h``. With independent normal input and known moments the
    defaults alarm once in 19,000 values (Siegmund).

    References
    ----------
    E. S. Page, Continuous inspection schemes, Biometrika 41 (1954). D. Siegmund, Sequential Analysis, Springer 1985.

    Examples
    --------
    >>> chart = Cusum(burn_in=30)
    >>> any(chart.update(x) for x in [1, -1] * 15)
    False
    >>> [chart.update(9) for _ in range(4)]
    [False, True, False, False]
    """

    def __init__(
        self,
        k: float = 0.5,
        h: float = 8.0,
        burn_in: int = 30,
        increment_cap: float = 5.0,
        *,
        deviation_floor: float = 1e-9,
    ) -> None:
        _check(k, h, increment_cap)
        self.k = float(k)
        self.h = float(h)
        self.increment_cap = float(increment_cap)
        self._standardiser = RunningStandardiser(burn_in, deviation_floor)
        self.statistic = 0.0

    def reset(self) -> None:
        """Forget the series, as after an approved change."""
        self._standardiser.reset()
        self.statistic = 0.0

    @property
    def count(self) -> int:
        """Values that the moments were learned from."""
        return self._standardiser.count

    def state(self) -> tuple[float, int, float, float]:
        """Return everything that it knows of the series, for `restore`: the sum, and count, mean and squares."""
        return self.statistic, *self._standardiser.state()

    def restore(self, state: tuple[float, int, float, float]) -> None:
        """Go on from a `state`."""
        self.statistic = float(state[0])
        self._standardiser.restore(state[1:])

    def update(self, x: float, *, learn: bool = True) -> bool:
        """Take one value and return whether it raises an alarm.

        Without `learn` the value is judged and does not enter the moments.
        """
        standardised = self._standardiser.update(x, learn=learn)
        if self.statistic > self.h:
            self.statistic = 0.0
        if standardised is None:
            return False
        self.statistic = max(self.statistic + (min(standardised, self.increment_cap) - self.k), 0.0)
        return self.statistic > self.h


class CusumBank:
    """CUSUM on many series that advance together; series for series equal to :class:`Cusum`.

    Parameters
    ----------
    size : int
        Number of series.
    k, h, burn_in, increment_cap, deviation_floor
        As for :class:`Cusum`.

    Raises
    ------
    EstimatorInputError
        As :class:`Cusum`; or `x` does not have one value a series.

    Examples
    --------
    >>> bank = CusumBank(2, burn_in=30)
    >>> for x in [1, -1] * 15 + [9, 9]:
    ...     alarms = bank.update([x, float("nan")])
    >>> alarms.tolist()
    [True, False]
    """

    def __init__(
        self,
        size: int,
        k: float = 0.5,
        h: float = 8.0,
        burn_in: int = 30,
        increment_cap: float = 5.0,
        *,
        deviation_floor: float = 1e-9,
    ) -> None:
        if size < 1:
            raise EstimatorInputError("size", f"must be at least 1, got {size!r}")
        if burn_in < 2:
            raise EstimatorInputError("burn_in", f"must be at least 2, got {burn_in!r}")
        _check(k, h, increment_cap)
        self.k = float(k)
        self.h = float(h)
        self.burn_in = int(burn_in)
        self.increment_cap = float(increment_cap)
        self.deviation_floor = in_open_interval("deviation_floor", deviation_floor, 0.0, math.inf)
        self.statistic = np.zeros(size)
        self._count = np.zeros(size)
        self._mean = np.zeros(size)
        self._squares = np.zeros(size)

    def reset(self, series: ArrayLike | slice = slice(None)) -> None:
        """Forget the named series; all of them by default."""
        index = series if isinstance(series, slice) else np.asarray(series, dtype=np.intp)
        for row in (self.statistic, self._count, self._mean, self._squares):
            row[index] = 0.0

    def update(self, x: ArrayLike) -> NDArray[np.bool_]:
        """Take one value a series (NaN: this series has none now) and return which raise an alarm, shape (size,)."""
        values = np.asarray(x, dtype=np.float64)
        if values.shape != self.statistic.shape:
            raise EstimatorInputError("x", f"must have shape {self.statistic.shape}, got {values.shape}")
        if np.isinf(values).any():
            raise EstimatorInputError("x", "must be finite, or NaN for a series without a value")
        present = ~np.isnan(values)
        excess = np.where(present, values - self._mean, 0.0)
        deviation = np.sqrt(self._squares / np.maximum(self._count - 1.0, 1.0))
        standardised = excess / np.maximum(deviation, self.deviation_floor)
        counted = present & (self._count >= self.burn_in)
        self._count += present
        self._mean += excess / np.maximum(self._count, 1.0)
        self._squares += excess * np.where(present, values - self._mean, 0.0)
        self.statistic[present & (self.statistic > self.h)] = 0.0
        increment = np.minimum(standardised, self.increment_cap) - self.k
        np.maximum(self.statistic + increment, 0.0, out=self.statistic, where=counted)
        return counted & (self.statistic > self.h)
