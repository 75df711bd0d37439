"""A uniform sample of a stream of unknown length, drawn so that skipped events cost nothing."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


class UniformReservoir:
    """Keeps `capacity` events of a stream, every event with the same probability (Li's algorithm L).

    The reservoir decides on positions only; whoever owns the events keeps their rows. How the stream is cut into
    batches changes nothing, because random numbers are drawn at acceptances alone.

    Parameters
    ----------
    capacity : int
        Events kept; 0 keeps none.
    rng : numpy.random.Generator
        Source of randomness.

    References
    ----------
    Li, K.-H. (1994). Reservoir-sampling algorithms of time complexity O(n(1 + log(N/n))). ACM TOMS 20 (4).

    Examples
    --------
    >>> reservoir = UniformReservoir(2, np.random.default_rng(0))
    >>> reservoir.offer(3)[:2].tolist()
    [0, 1]
    >>> len(reservoir.sample()), reservoir.seen
    (2, 3)
    """

    def __init__(self, capacity: int, rng: np.random.Generator) -> None:
        self._capacity = capacity
        self._rng = rng
        self.reset()

    def reset(self) -> None:
        """Begin a new sample; the random stream goes on."""
        self.seen = 0
        self._next = 0
        self._log_w = 0.0
        self._kept: list[int] = []

    def offer(self, n_events: int) -> NDArray[np.intp]:
        """Offer the next `n_events` of the stream.

        Returns
        -------
        ndarray of intp
            Ascending positions, within these `n_events`, of those that entered the reservoir. A later acceptance may
            push an earlier one out; `sample` has the last word.
        """
        end = self.seen + n_events
        accepted: list[int] = []
        while self._capacity and self._next < end:
            accepted.append(self._next - self.seen)
            self._accept(self._next)
        self.seen = end
        return np.array(accepted, dtype=np.intp)

    def sample(self) -> NDArray[np.int64]:
        """Return the ascending positions, counted from the start of the stream, of the events now in the reservoir."""
        return np.sort(np.array(self._kept, dtype=np.int64))

    def _accept(self, position: int) -> None:
        if len(self._kept) < self._capacity:
            self._kept.append(position)
            self._next = position + 1
            if len(self._kept) == self._capacity:
                self._skip()
            return
        self._kept[int(self._rng.integers(self._capacity))] = position
        self._next = position + 1
        self._skip()

    def _skip(self) -> None:
        # 1 - random() lies in (0, 1], so that its logarithm is finite.
        self._log_w += math.log(1.0 - self._rng.random()) / self._capacity
        log_keep = math.log1p(-math.exp(self._log_w)) if self._log_w < 0.0 else -math.inf
        if log_keep == 0.0:  # w underflowed: no acceptance before the end of any stream
            self._next = np.iinfo(np.int64).max
            return
        self._next += math.floor(math.log(1.0 - self._rng.random()) / log_keep)
