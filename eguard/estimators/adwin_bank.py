"""ADWIN on many streams that advance together; stream for stream equal to :class:`eguard.estimators.Adwin`.

The windows lie side by side in arrays of shape (streams, sizes, buckets of a size), so that one value a stream costs a
few passes over these and no loop over streams. What a window knows is one row of floats, to be kept anywhere.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eguard.errors import EstimatorInputError
from eguard.estimators.validation import in_open_interval

Floats = NDArray[np.float64]
_HEAD: Final = 2  # columns of a state before the buckets: sum and squared deviations of the window


class AdwinBank:
    """Adaptive windowing on many streams of values in [0, 1], with the variance form of the bound.

    Parameters
    ----------
    size : int
        Number of streams.
    delta, max_buckets, min_window_length, grace_period
        As for :class:`Adwin`.

    Raises
    ------
    EstimatorInputError
        A parameter is out of range; or values or a state do not have the bank's shape.

    Notes
    -----
    O(log W) memory and time a stream and value, as for one window.

    Examples
    --------
    >>> bank = AdwinBank(2)
    >>> ticks = range(400)
    >>> alarms = [bank.update([0.2 if i < 200 else 0.8, 0.2]).tolist() for i in ticks]
    >>> next(i for i in ticks if alarms[i][0]), any(row[1] for row in alarms)
    (218, False)
    """

    def __init__(
        self,
        size: int,
        delta: float = 0.002,
        *,
        max_buckets: int = 5,
        min_window_length: int = 5,
        grace_period: int = 10,
    ) -> None:
        for name, value in (("size", size), ("max_buckets", max_buckets), ("min_window_length", min_window_length)):
            if value < 1:
                raise EstimatorInputError(name, f"must be at least 1, got {value!r}")
        if grace_period < 2:
            raise EstimatorInputError("grace_period", f"must be at least 2, got {grace_period!r}")
        self.delta = in_open_interval("delta", delta, 0.0, 1.0)
        self.max_buckets = max_buckets
        self.min_window_length = min_window_length
        self.grace_period = grace_period
        self._clear(size, 1)

    def _clear(self, size: int, levels: int) -> None:
        # Slots that hold no bucket are 0 in all three, so that sums over all slots are sums over buckets.
        self._sums = np.zeros((size, levels, self.max_buckets + 1))
        self._deviations = np.zeros_like(self._sums)
        self._counts = np.zeros((size, levels), dtype=np.intp)
        self._total = np.zeros(size)
        self._squares = np.zeros(size)

    @property
    def width(self) -> NDArray[np.intp]:
        """Values in each window."""
        width: NDArray[np.intp] = (self._counts << np.arange(self._counts.shape[1])).sum(axis=1)
        return width

    @property
    def mean(self) -> Floats:
        """Mean of each window; 0 where it is empty."""
        mean: Floats = self._total / np.maximum(self.width, 1)
        return mean

    def state(self) -> Floats:
        """Return what the bank knows, for `restore`: shape (streams, 2 + levels * (3 + 2 * max_buckets))."""
        buckets = np.concatenate((self._counts[:, :, None], self._sums, self._deviations), axis=2)
        return np.concatenate((self._total[:, None], self._squares[:, None], buckets.reshape(len(buckets), -1)), axis=1)

    def restore(self, state: ArrayLike) -> None:
        """Go on from the rows of a `state`, as if there had been no pause."""
        rows = np.asarray(state, dtype=np.float64)
        size, slots = len(self._total), self.max_buckets + 1
        if rows.ndim != 2 or len(rows) != size or (rows.shape[1] - _HEAD) % (1 + 2 * slots) or rows.shape[1] <= _HEAD:
            raise EstimatorInputError("state", f"must be rows of {size} streams, got shape {rows.shape}")
        buckets = rows[:, _HEAD:].reshape(size, -1, 1 + 2 * slots)
        self._clear(size, buckets.shape[1])
        self._total[:], self._squares[:] = rows[:, 0], rows[:, 1]
        self._counts[...] = buckets[:, :, 0]
        self._sums[...], self._deviations[...] = buckets[:, :, 1 : 1 + slots], buckets[:, :, 1 + slots :]

    def update(self, x: ArrayLike) -> NDArray[np.bool_]:
        """Take one value a stream (NaN: none now) and return whose window was cut, shape (size,)."""
        values = np.asarray(x, dtype=np.float64)
        if values.shape != self._total.shape:
            raise EstimatorInputError("x", f"must have shape {self._total.shape}, got {values.shape}")
        if np.isinf(values).any():
            raise EstimatorInputError("x", "must be finite, or NaN for a stream without a value")
        present = np.flatnonzero(~np.isnan(values))
        self._insert(present, values[present])
        cut = np.zeros(len(values), dtype=np.bool_)
        candidates = present[self.width[present] > self.grace_period]
        while candidates.size:
            candidates = candidates[self._has_cut(candidates)]
            self._drop_oldest(candidates)
            cut[candidates] = True
        return cut

    def _insert(self, present: NDArray[np.intp], values: Floats) -> None:
        width = self.width[present]
        excess = values - self._total[present] / np.maximum(width, 1)
        self._squares[present] += np.where(width > 0, width * excess * excess / (width + 1), 0.0)
        self._total[present] += values
        self._sums[present, 0, self._counts[present, 0]] = values
        self._counts[present, 0] += 1
        level = 0
        while (full := np.flatnonzero(self._counts[:, level] > self.max_buckets)).size:
            if level + 1 == self._counts.shape[1]:
                self._grow()
            self._merge(full, level)
            level += 1

    def _grow(self) -> None:
        """Make room for buckets of twice the largest size."""
        self._sums = np.pad(self._sums, ((0, 0), (0, 1), (0, 0)))
        self._deviations = np.pad(self._deviations, ((0, 0), (0, 1), (0, 0)))
        self._counts = np.pad(self._counts, ((0, 0), (0, 1)))

    def _merge(self, streams: NDArray[np.intp], level: int) -> None:
        """Make one bucket of twice the size out of the two oldest of a size."""
        sums, deviations = self._sums[streams, level], self._deviations[streams, level]
        gap = (sums[:, 0] - sums[:, 1]) / (1 << level)
        place = self._counts[streams, level + 1]
        self._sums[streams, level + 1, place] = sums[:, 0] + sums[:, 1]
        self._deviations[streams, level + 1, place] = (
            deviations[:, 0] + deviations[:, 1] + 0.5 * (1 << level) * gap * gap
        )
        self._counts[streams, level + 1] += 1
        self._counts[streams, level] -= 2
        for buckets, kept in ((self._sums, sums), (self._deviations, deviations)):
            buckets[streams, level] = np.pad(kept[:, 2:], ((0, 0), (0, 2)))

    def _has_cut(self, streams: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Tell for which streams two parts of the window differ by more than the bound, at any boundary."""
        least = self.min_window_length
        counts, total = self._counts[streams], self._total[streams, None]
        sizes = 1 << np.arange(counts.shape[1])
        width = (counts * sizes).sum(axis=1)[:, None]
        taken = np.arange(self.max_buckets + 1) < counts[:, :, None]
        # Largest buckets first: these are the oldest.
        n0 = np.cumsum(np.where(taken, sizes[:, None], 0)[:, ::-1].reshape(len(streams), -1), axis=1)
        total0 = np.cumsum(self._sums[streams, ::-1].reshape(len(streams), -1), axis=1)
        n1 = width - n0
        tried = taken[:, ::-1].reshape(n0.shape) & (n0 >= least) & (n1 >= least)
        tried &= width >= max(2 * least, 3)
        n0, n1 = np.maximum(n0, least), np.maximum(n1, least)
        log_term = np.log(2.0 * np.log(np.maximum(width, 3)) / self.delta)
        variance = np.maximum(self._squares[streams, None], 0.0) / np.maximum(width, 1)
        inverse_m = 1.0 / (n0 - least + 1) + 1.0 / (n1 - least + 1)
        bound = np.sqrt(2.0 * inverse_m * variance * log_term) + 2.0 / 3.0 * inverse_m * log_term
        gap = np.abs(total0 / n0 - (total - total0) / n1)
        found: NDArray[np.bool_] = (tried & (gap > bound)).any(axis=1)
        return found

    def _drop_oldest(self, streams: NDArray[np.intp]) -> None:
        if not streams.size:
            return
        counts = self._counts
        level = counts.shape[1] - 1 - np.argmax(counts[streams, ::-1] > 0, axis=1)
        sums, deviations = self._sums[streams, level], self._deviations[streams, level]
        size = np.left_shift(1, level)
        counts[streams, level] -= 1
        self._total[streams] -= sums[:, 0]
        width = self.width[streams]
        gap = sums[:, 0] / size - self._total[streams] / width
        self._squares[streams] -= deviations[:, 0] + size * width * gap * gap / (size + width)
        for buckets, kept in ((self._sums, sums), (self._deviations, deviations)):
            buckets[streams, level] = np.pad(kept[:, 1:], ((0, 0), (0, 1)))
