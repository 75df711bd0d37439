"""Page-Hinkley tests on many streams at once: the form in which an endpoint watches all its process keys.

The arithmetic is that of :class:`~eguard.estimators.page_hinkley.PageHinkley`, operation for operation, so a bank and
as many single detectors give the same floats. What differs is layout: the five floats of a stream are a column of one
array, and an update of ten thousand streams is some twenty array operations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eguard.errors import EstimatorInputError
from eguard.estimators.page_hinkley import DEVIATION_FLOOR_BITS, Direction, PageHinkleySettings
from eguard.estimators.validation import as_finite

# Rows of the state.
_COUNT, _MEAN, _SQUARES, _UP, _DOWN = range(5)


class PageHinkleyBank:
    """Page-Hinkley tests on many streams, updated together; stream for stream equal to :class:`PageHinkley`.

    Parameters
    ----------
    size : int
        Number of streams; a stream is addressed by its slot 0 ... size - 1.
    delta, threshold, direction, min_instances, standardise, clip, forgetting, deviation_floor
        As for :class:`PageHinkley`. The defaults are those an endpoint uses on KL in bits, standardised.

    Raises
    ------
    EstimatorInputError
        As :class:`PageHinkley`; or `size` is not positive, slots are out of range, or `slots` and `x` differ in length.

    Notes
    -----
    State is 40 bytes a stream. An update costs about ten nanoseconds a stream when the slots are a slice and five
    times that when they are listed; a slot listed twice in one call takes its values in order.

    Examples
    --------
    >>> bank = PageHinkleyBank(2, delta=0.1, threshold=5.0, min_instances=1, standardise=False)
    >>> for x in (1, 1, 1, 1, 5, 5):
    ...     alarms = bank.update([0, 1], [x, 1])
    >>> alarms.tolist(), bank.statistic.round(6).tolist()
    ([True, False], [5.666667, 0.0])
    """

    def __init__(
        self,
        size: int,
        delta: float = 0.5,
        threshold: float = 20.0,
        direction: Direction = "up",
        min_instances: int = 30,
        *,
        standardise: bool = True,
        clip: float = 4.0,
        forgetting: float = 1.0,
        deviation_floor: float = DEVIATION_FLOOR_BITS,
    ) -> None:
        if size < 1:
            raise EstimatorInputError("size", f"must be at least 1, got {size!r}")
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
        self._state = np.zeros((5, size))
        # What the ordinary update need not look for: streams to restart, and streams still in their burn-in.
        self._may_be_in_alarm = False
        self._may_be_burning_in = True
        self._make_room(size)

    def _make_room(self, size: int) -> None:
        self._slots = np.arange(size, dtype=np.intp)
        self._stamp = np.zeros(size, dtype=np.intp)
        # Work space: allocating a few hundred kilobytes an update costs as much as the arithmetic on them.
        self._scratch = np.empty((4, size))

    def __len__(self) -> int:
        return int(self._state.shape[1])

    @property
    def state(self) -> NDArray[np.float64]:
        """Copy of the state, shape (5, size): count, mean, sum of squares, upward and downward climb."""
        return self._state.copy()

    def restore(self, state: ArrayLike) -> None:
        """Take back a state that :attr:`state` gave, of a bank with the same size and parameters."""
        array = as_finite("state", state, ndim=2)
        if array.shape != self._state.shape:
            raise EstimatorInputError("state", f"must have shape {self._state.shape}, got {array.shape}")
        self._state[:] = array
        self._may_be_in_alarm = self._may_be_burning_in = True

    def grow(self, size: int) -> None:
        """Make room for `size` streams, at least as many as there are; new ones have seen nothing."""
        if size < len(self):
            raise EstimatorInputError("size", f"must be at least {len(self)}, got {size!r}")
        state = np.zeros((5, size))
        state[:, : len(self)] = self._state
        self._state = state
        self._may_be_burning_in = True
        self._make_room(size)

    @property
    def count(self) -> NDArray[np.float64]:
        """Values seen by each stream since its start or last restart, shape (size,)."""
        count: NDArray[np.float64] = self._state[_COUNT].copy()
        return count

    @property
    def statistic(self) -> NDArray[np.float64]:
        """Height of each stream's sum above its lowest point, shape (size,); still readable after an alarm."""
        statistic: NDArray[np.float64] = np.maximum(self._state[_UP], self._state[_DOWN])
        return statistic

    def reset(self, slots: ArrayLike | slice) -> None:
        """Forget the streams in `slots`."""
        self._state[:, slots if isinstance(slots, slice) else self._as_slots(slots)] = 0.0
        self._may_be_burning_in = True

    def update(self, slots: ArrayLike | slice, x: ArrayLike) -> NDArray[np.bool_]:
        """Give each stream of `slots` its value of `x` and return which of them raise an alarm.

        Parameters
        ----------
        slots : array_like of int, shape (n,), or slice
            Streams that have a new value, in any order; ``slice(None)`` is all of them.
        x : array_like of float, shape (n,)
            Their values.

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        index = slots if isinstance(slots, slice) else self._as_slots(slots)
        named = self._slots[index] if isinstance(index, slice) else index
        values = np.zeros(0) if named.size == 0 else self._as_values(x)
        if values.shape != named.shape:
            raise EstimatorInputError("x", f"must have one value a slot, got {values.shape} for {named.shape}")
        if named.size == 0:
            return np.zeros(0, dtype=np.bool_)
        if isinstance(index, slice):
            self._restart_alarmed(named)
            return self._advance(self._state[:, index], values)
        turns = self._slots[: index.size] if index.size <= len(self) else np.arange(index.size)
        self._stamp[index] = turns
        if np.array_equal(self._stamp[index], turns):
            return self._scatter(index, values)
        return self._update_repeated(index, values)

    def _as_values(self, x: ArrayLike) -> NDArray[np.float64]:
        # A column of floats, the ordinary case, in half the time the general check takes.
        if isinstance(x, np.ndarray) and x.dtype == np.float64 and x.ndim == 1 and x.size and np.isfinite(x).all():
            return x
        return as_finite("x", x, ndim=1)

    def _as_slots(self, slots: ArrayLike) -> NDArray[np.intp]:
        index = np.asarray(slots)
        if index.size == 0:
            return np.zeros(0, dtype=np.intp)
        if index.ndim != 1 or index.dtype.kind not in "iu":
            raise EstimatorInputError("slots", f"must be a list of integers, got {index.dtype} of shape {index.shape}")
        if index.min() < 0 or index.max() >= len(self):
            raise EstimatorInputError("slots", f"must lie in [0, {len(self)}), got {index.min()} to {index.max()}")
        return index.astype(np.intp, copy=False)

    def _update_repeated(self, index: NDArray[np.intp], values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Update in rounds: the first value of every slot, then the second of those that have one, and so on."""
        order = np.argsort(index, kind="stable")
        ordered = index[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        occurrence = np.arange(index.size) - np.repeat(starts, np.diff(np.r_[starts, index.size]))
        alarms = np.zeros(index.size, dtype=np.bool_)
        for turn in range(int(occurrence.max()) + 1):
            chosen = order[occurrence == turn]
            alarms[chosen] = self._scatter(index[chosen], values[chosen])
        return alarms

    def _scatter(self, index: NDArray[np.intp], values: NDArray[np.float64]) -> NDArray[np.bool_]:
        self._restart_alarmed(index)
        # Row by row: NumPy gathers along one axis several times faster than along the second of two.
        state = np.stack([row[index] for row in self._state])
        alarms = self._advance(state, values)
        for row, advanced in zip(self._state, state, strict=True):
            row[index] = advanced
        return alarms

    def _advance(self, state: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Advance `state`, shape (5, n), in place; the arithmetic is that of `PageHinkley.update`, in its order."""
        settings = self._settings
        count, mean, squares = state[_COUNT], state[_MEAN], state[_SQUARES]
        deviation, step, excess, increment = self._scratch[:, : values.size]
        np.subtract(values, mean, out=deviation)
        counted: NDArray[np.bool_] | None = None
        if settings.standardise:
            if self._may_be_burning_in:
                counted = self._past_burn_in(count)
            np.divide(squares, count if counted is None else np.maximum(count, 1.0), out=excess)
            np.sqrt(excess, out=excess)
            np.maximum(excess, settings.deviation_floor, out=excess)
            np.divide(deviation, excess, out=excess)
        count += 1.0
        np.divide(deviation, count, out=step)
        mean += step
        rest = np.subtract(values, mean, out=step)
        if not settings.standardise:
            excess = rest
        if settings.up:
            self._climb(state[_UP], excess, increment, counted)
        if settings.down:
            self._climb(state[_DOWN], np.negative(excess, out=increment), increment, counted)
        deviation *= rest
        squares += deviation
        alarms = self._in_alarm(state)
        self._may_be_in_alarm = self._may_be_in_alarm or bool(alarms.any())
        return alarms

    def _restart_alarmed(self, index: NDArray[np.intp]) -> None:
        """Start those of the named streams afresh that their last value left in alarm."""
        if not self._may_be_in_alarm:
            return
        self._state[:, index[self._in_alarm(self._state[:, index])]] = 0.0
        self._may_be_burning_in = True
        # Streams that take no part now may still be in alarm.
        self._may_be_in_alarm = bool(self._in_alarm(self._state).any())

    def _past_burn_in(self, count: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """Return which streams are past their burn-in, None when all of the bank's are."""
        self._may_be_burning_in = bool(self._state[_COUNT].min() < self._settings.min_instances)
        return count >= self._settings.min_instances if self._may_be_burning_in else None

    def _climb(
        self,
        climb: NDArray[np.float64],
        excess: NDArray[np.float64],
        scratch: NDArray[np.float64],
        counted: NDArray[np.bool_] | None,
    ) -> None:
        """Add `excess` to `climb` where `counted`; `scratch` may be `excess` itself."""
        settings = self._settings
        if settings.standardise:
            excess = np.minimum(excess, settings.clip, out=scratch)
        np.subtract(excess, settings.delta, out=scratch)
        scratch += climb * settings.forgetting if settings.forgetting != 1.0 else climb
        if counted is None:
            np.maximum(scratch, 0.0, out=climb)
        else:
            np.maximum(scratch, 0.0, out=climb, where=counted)

    def _in_alarm(self, state: NDArray[np.float64]) -> NDArray[np.bool_]:
        settings = self._settings
        # Rows of a direction that is not watched stay at 0.
        watched = (
            (state[_UP], state[_DOWN]) if settings.up and settings.down else (state[_UP if settings.up else _DOWN],)
        )
        if max(float(row.max()) for row in watched) <= settings.threshold:
            return np.zeros(state.shape[1], dtype=np.bool_)
        alarm: NDArray[np.bool_] = np.maximum(state[_UP], state[_DOWN]) > settings.threshold
        if not settings.standardise:
            alarm &= state[_COUNT] >= settings.min_instances
        return alarm
