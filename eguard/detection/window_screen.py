"""A divergence that the medium threshold cannot lie below, found in microseconds.

The exact threshold of a key costs tens of milliseconds, and most windows never come near it. By the chain rule the
divergence of a window is at least that of one class against all others, and one class of a Dirichlet-multinomial window
is beta-binomial, whose tail is a sum of 129 terms. The largest such bound over the classes screens windows: what does
not exceed it cannot exceed the threshold either.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def threshold_lower_bound_bits(expected: FloatArray, concentration: float, window_events: int, delta: float) -> float:
    """Return a lower bound of the divergence that an ordinary window exceeds with probability at most `delta`.

    Parameters
    ----------
    expected : ndarray of shape (d,)
        The baseline's smoothed distribution, all positive.
    concentration : float
        Concentration of the predictive Dirichlet-multinomial, overdispersion included.
    window_events : int
        Events in a window.
    delta : float
        Exceedance probability.

    Returns
    -------
    float
        Bits.

    Examples
    --------
    >>> even = np.full(8, 0.125)
    >>> round(threshold_lower_bound_bits(even, 10_000.0, 128, 1e-3), 3)  # the threshold itself is about .14
    0.064
    """
    counts = np.arange(window_events + 1)
    inside = _log_rising(expected * concentration, window_events)
    outside = _log_rising((1.0 - expected) * concentration, window_events)[:, ::-1]
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(counts[1:]))))
    log_choose = log_factorial[-1] - log_factorial - log_factorial[::-1]
    total = _log_rising(np.array([concentration]), window_events)[0, -1]
    probability = np.exp(log_choose + inside + outside - total)
    divergence = _binary_divergence_bits(counts / window_events, expected)
    order = np.argsort(-divergence, axis=1, kind="stable")
    tail = np.cumsum(np.take_along_axis(probability, order, axis=1), axis=1)
    # The first outcome, from the largest divergence down, with which the tail exceeds delta.
    first = np.argmax(tail > delta, axis=1)
    bounds = np.take_along_axis(divergence, order, axis=1)[np.arange(len(expected)), first]
    return float(bounds.max())


def _log_rising(start: FloatArray, n: int) -> FloatArray:
    """Return log of start (start + 1) ... (start + c - 1) for c = 0 ... n, shape (len(start), n + 1)."""
    steps = np.cumsum(np.log(start[:, None] + np.arange(n)), axis=1)
    return np.concatenate((np.zeros((len(start), 1)), steps), axis=1)


def _binary_divergence_bits(shares: FloatArray, expected: FloatArray) -> FloatArray:
    """Return KL((p, 1-p) || (q, 1-q)) for each expected q (rows) and share p (columns)."""
    inside = shares * np.log2(np.where(shares > 0.0, shares, 1.0) / expected[:, None])
    rest = 1.0 - shares
    outside = rest * np.log2(np.where(rest > 0.0, rest, 1.0) / (1.0 - expected[:, None]))
    divergence: FloatArray = inside + outside
    return divergence
