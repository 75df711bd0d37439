"""Running mean and variance of many streams at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

_COLUMNS: Final = ("count", "mean", "m2")


class MomentColumns:
    """Count, mean and sum of squared deviations for each of `size` slots.

    A batch is reduced to the moments of each slot by two passes over its values, then merged with what the slot holds.
    Neither step subtracts two large sums, so a small spread on a large level survives.

    Parameters
    ----------
    size : int
        Number of slots.

    References
    ----------
    Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979.

    Examples
    --------
    >>> moments = MomentColumns(2)
    >>> moments.add(np.array([0, 0, 1]), np.array([1.0, 3.0, 5.0]))
    >>> moments.add(np.array([0]), np.array([5.0]))
    >>> moments.count.tolist(), moments.mean.tolist(), moments.m2.tolist()
    ([3, 1], [3.0, 5.0], [8.0, 0.0])
    """

    def __init__(self, size: int) -> None:
        self.count = np.zeros(size, dtype=np.int64)
        self.mean = np.zeros(size)
        self.m2 = np.zeros(size)

    def grow(self, size: int) -> None:
        """Make room for `size` slots, at least as many as there are."""
        for name, column in self.columns().items():
            grown = np.zeros(size, dtype=column.dtype)
            grown[: len(column)] = column
            setattr(self, name, grown)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name."""
        return {name: getattr(self, name) for name in _COLUMNS}

    @classmethod
    def over(cls, columns: Mapping[str, NDArray[Any]], prefix: str = "") -> Self:
        """Return moments that live in `columns`, named as in `columns()` after a prefix, with what these hold."""
        moments = cls(0)
        for name in _COLUMNS:
            setattr(moments, name, columns[f"{prefix}{name}"])
        return moments

    def add(self, slots: NDArray[np.intp], values: NDArray[np.float64]) -> None:
        """Take in `values`; `slots` says where each belongs and is sorted ascending."""
        if not len(slots):
            return
        starts = group_starts(slots)
        owners = slots[starts]
        count = np.diff(starts, append=len(slots))
        mean = np.add.reduceat(values, starts) / count
        deviation = values - np.repeat(mean, count)
        self._merge(owners, count, mean, np.add.reduceat(deviation * deviation, starts))

    def _merge(
        self,
        slots: NDArray[np.intp],
        count: NDArray[np.int64],
        mean: NDArray[np.float64],
        m2: NDArray[np.float64],
    ) -> None:
        held = self.count[slots]
        total = held + count
        difference = mean - self.mean[slots]
        self.m2[slots] += m2 + difference * difference * (held * (count / total))
        self.mean[slots] += difference * (count / total)
        self.count[slots] = total

    def reset(self, slots: NDArray[np.intp] | list[int]) -> None:
        """Forget what `slots` hold."""
        self.count[slots] = 0
        self.mean[slots] = 0.0
        self.m2[slots] = 0.0


def group_starts(slots: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return where each run of equal slots begins; `slots` is sorted and not empty.

    Examples
    --------
    >>> group_starts(np.array([2, 2, 5, 7, 7])).tolist()
    [0, 2, 3]
    """
    return np.concatenate(([0], np.flatnonzero(slots[1:] != slots[:-1]) + 1))
