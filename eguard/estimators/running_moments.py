"""Standardisation of a stream by its own past.

Control charts want input with mean 0 and deviation 1. Nobody knows the moments of a stream in advance, and moments
frozen after a short burn-in are wrong for ever; so each value is standardised by **all earlier values**, and then
joins them. That costs three floats and never uses a value to judge itself.
"""

from __future__ import annotations

import math

from scipy.special import ndtr

from eguard.errors import EstimatorInputError
from eguard.estimators.validation import in_open_interval


class RunningStandardiser:
    """Standardise each value of a stream by the mean and deviation of all values before it.

    Parameters
    ----------
    burn_in : int
        Values that are only learned from.
    deviation_floor : float
        Smallest deviation used, in the units of the stream; keeps a constant stream from dividing by zero.

    Raises
    ------
    EstimatorInputError
        A parameter is out of range, or an updated value is not finite.

    Examples
    --------
    >>> standardise = RunningStandardiser(burn_in=3)
    >>> [standardise.update(x) for x in (1.0, 2.0, 3.0)]
    [None, None, None]
    >>> standardise.update(4.0)  # two deviations (of 1) above the mean (2)
    2.0
    """

    def __init__(self, burn_in: int = 30, deviation_floor: float = 1e-9) -> None:
        if burn_in < 2:
            raise EstimatorInputError("burn_in", f"must be at least 2, got {burn_in!r}")
        self.burn_in = int(burn_in)
        self.deviation_floor = in_open_interval("deviation_floor", deviation_floor, 0.0, math.inf)
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    @property
    def deviation(self) -> float:
        """Sample standard deviation of the values so far, never below the floor."""
        if self.count < 2:
            return self.deviation_floor
        return max(math.sqrt(self._squares / (self.count - 1)), self.deviation_floor)

    def state(self) -> tuple[int, float, float]:
        """Return everything that it knows of the stream, for `restore`."""
        return self.count, self.mean, self._squares

    def restore(self, state: tuple[int, float, float]) -> None:
        """Go on from a `state`."""
        self.count, self.mean, self._squares = int(state[0]), float(state[1]), float(state[2])

    def update(self, x: float, *, learn: bool = True) -> float | None:
        """Take one value and return its standardised excess over its predecessors; None during the burn-in.

        Without `learn` the value is judged and does not join them: what is suspected must not become ordinary.
        """
        value = float(x)
        if not math.isfinite(value):
            raise EstimatorInputError("x", f"must be finite, got {x!r}")
        excess = value - self.mean
        standardised = excess / self.deviation if self.count >= self.burn_in else None
        if learn:
            self.count += 1
            self.mean += excess / self.count
            self._squares += excess * (value - self.mean)
        return standardised


class RankStandardiser:
    """Map a stream to [0, 1]: the normal distribution function of the standardised value.

    ADWIN's bound is for values in [0, 1] and its power depends on how much of that range the stream uses. Divergences
    divided by their maximum crowd at the bottom (0.001 against 0.003), where ADWIN is blind; their ranks do not.

    Parameters
    ----------
    burn_in, deviation_floor
        As for :class:`RunningStandardiser`.

    Examples
    --------
    >>> rank = RankStandardiser(burn_in=3)
    >>> [rank.update(x) for x in (1.0, 2.0, 3.0)]
    [None, None, None]
    >>> round(rank.update(4.0), 6)
    0.97725
    """

    def __init__(self, burn_in: int = 30, deviation_floor: float = 1e-9) -> None:
        self._standardiser = RunningStandardiser(burn_in, deviation_floor)

    def reset(self) -> None:
        """Forget the stream."""
        self._standardiser.reset()

    def state(self) -> tuple[int, float, float]:
        """Return everything that it knows of the stream, for `restore`."""
        return self._standardiser.state()

    def restore(self, state: tuple[int, float, float]) -> None:
        """Go on from a `state`."""
        self._standardiser.restore(state)

    def update(self, x: float, *, learn: bool = True) -> float | None:
        """Take one value and return its rank in [0, 1]; None during the burn-in. `learn` as for the standardiser."""
        standardised = self._standardiser.update(x, learn=learn)
        return None if standardised is None else float(ndtr(standardised))
