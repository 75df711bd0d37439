"""Exact distribution of the divergence of a window of counts, by dynamic programming.

KL(c/n || q) is a sum over classes of terms that depend on one count each, and the counts of a (Dirichlet-)multinomial
window are independent counts under the condition that they sum to n. So the joint distribution of (events used, KL so
far) is carried from class to class: a two-dimensional convolution in which every possible count is one shift.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy

# Weights below this cannot move a tail of 1e-12: there are fewer than 1e4 of them.
_NEGLIGIBLE = 1e-20


def dirichlet_multinomial_weights(alpha: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return weights whose products are the probabilities of Dirichlet-multinomial counts of sum `window`.

    Negative binomial counts of shapes `alpha` and a common success probability are Dirichlet-multinomial given their
    sum. The probability of that sum divides the first row, so that the weights of counts with this sum add up to 1 and
    nothing overflows on the way.

    Parameters
    ----------
    alpha : ndarray of float64, shape (d,)
        Dirichlet concentration, positive.
    window : int
        Events a window.

    Returns
    -------
    ndarray of float64, shape (d, window + 1)
    """
    total = float(alpha.sum())
    counts = np.arange(window + 1.0)
    log_success, log_failure = math.log(window / (window + total)), math.log(total / (window + total))
    log_weights = gammaln(alpha[:, None] + counts) - gammaln(alpha)[:, None] - gammaln(counts + 1.0)
    log_weights += counts * log_success + alpha[:, None] * log_failure
    log_weights[0] -= gammaln(total + window) - gammaln(total) - gammaln(window + 1.0)
    log_weights[0] -= window * log_success + total * log_failure
    weights: NDArray[np.float64] = np.exp(log_weights)
    return weights


def multinomial_weights(probabilities: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the same for multinomial counts: independent Poisson counts, given their sum.

    Parameters
    ----------
    probabilities : ndarray of float64, shape (d,)
        A distribution; zeros are allowed.
    window : int
        Events a window.

    Returns
    -------
    ndarray of float64, shape (d, window + 1)
    """
    counts = np.arange(window + 1.0)
    mean = window * probabilities[:, None]
    log_weights = xlogy(counts, mean) - mean - gammaln(counts + 1.0)
    log_weights[0] -= window * math.log(window) - window - gammaln(window + 1.0)
    weights: NDArray[np.float64] = np.exp(log_weights)
    return weights


def kl_tail(
    weights: NDArray[np.float64],
    reference: NDArray[np.float64],
    grid_bits: float,
    largest_bits: float,
    *,
    round_up: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the tail of the divergence: edges in bits, and the probability of a divergence above each.

    Parameters
    ----------
    weights : ndarray of float64, shape (d, window + 1)
        As the functions above give them.
    reference : ndarray of float64, shape (d,)
        The distribution of the divergence's second argument, positive.
    grid_bits : float
        Distance of two edges.
    largest_bits : float
        How far the distribution is followed; what lies beyond is in the tail as a whole.
    round_up : bool
        Whether terms are rounded up, which makes the tail an upper bound, or to the nearest grid point.

    Returns
    -------
    edges : ndarray of float64
        From about 0 to at least `largest_bits`.
    tail : ndarray of float64, same shape
        P(KL > edge), falling.

    Notes
    -----
    The term of class i is ``(c/n) log2(c/(n q)) - (c - n q)/(n ln 2)``: never negative, so mass beyond the last cell
    never comes back, and equal in sum to the divergence. Terms are rounded to a grid of their own class, laid through
    the term of its most likely count: a class that is nearly always empty would otherwise shift every window by the
    same error. Cost: O(d * window^2 * cells) at worst, far less in practice, as counts whose term exceeds the last
    cell and totals that no window within `largest_bits` passes through are left out.
    """
    n = weights.shape[1] - 1
    bits = _terms(np.arange(n + 1.0), n * reference[:, None], n)
    modal = bits[np.arange(reference.size), weights.argmax(axis=1)]
    offsets = modal - np.floor(modal / grid_bits) * grid_bits
    position = (bits - offsets[:, None]) / grid_bits
    # The modal term lies on its grid but for the last bits of a float: not to be rounded up. A term below its class's
    # first grid line takes that line.
    cell = np.maximum(np.ceil(position - 1e-9) if round_up else np.rint(position), 0.0).astype(np.int64)
    cells = math.ceil((largest_bits - offsets.sum()) / grid_bits) + 2
    # Small classes first: few events used are few rows occupied. The last class completes the window: one row.
    order = np.argsort(reference, kind="stable")
    state = np.zeros((n + 1, cells))
    state[0, 0] = 1.0
    scratch = np.empty_like(state)
    low, high = 0, 0
    mass = 0.0
    for i in order[:-1]:
        mass += float(reference[i])
        next_low, next_high = _passable(n, mass, largest_bits)
        following = np.zeros_like(state)
        for c in np.flatnonzero((cell[i] < cells) & (weights[i] > _NEGLIGIBLE)).tolist():
            first, last = max(low, next_low - c), min(high, next_high - c)
            if first <= last:
                shift = int(cell[i, c])
                block = scratch[first : last + 1, : cells - shift]
                np.multiply(state[first : last + 1, : cells - shift], weights[i, c], out=block)
                following[first + c : last + c + 1, shift:] += block
        state, low, high = following, next_low, next_high
    final = np.zeros(cells)
    i = order[-1]
    for c in np.flatnonzero(cell[i] < cells).tolist():
        if low <= n - c <= high:
            shift = int(cell[i, c])
            final[shift:] += weights[i, c] * state[n - c, : cells - shift]
    tail: NDArray[np.float64] = np.maximum(1.0 - np.cumsum(final), 0.0)
    edges: NDArray[np.float64] = np.arange(cells) * grid_bits + offsets.sum()
    if not round_up:
        # Half a cell, and what rounding took from or gave to the mean: classes of equal probability err alike.
        share = weights / weights.sum(axis=1, keepdims=True)
        edges += (0.5 + (share * (position - cell)).sum()) * grid_bits
    return edges, tail


def _terms(counts: NDArray[np.float64], expected: NDArray[np.float64] | float, n: int) -> NDArray[np.float64]:
    """Return what each count adds to the divergence, in bits."""
    nats: NDArray[np.float64] = (xlogy(counts, counts / expected) - (counts - expected)) / n
    return np.maximum(nats, 0.0) / math.log(2.0)


def _passable(n: int, mass: float, largest_bits: float) -> tuple[int, int]:
    """Return the range of totals over classes of probability `mass` that windows up to `largest_bits` pass through.

    By the log-sum inequality the divergence of the two sums, used and unused, bounds that of the window from below.
    """
    counts = np.arange(n + 1.0)
    if mass >= 1.0:
        return n, n
    bits = _terms(counts, n * mass, n) + _terms(n - counts, n * (1.0 - mass), n)
    allowed = np.flatnonzero(bits <= largest_bits + 1e-9)
    return (int(allowed[0]), int(allowed[-1])) if allowed.size else (0, n)
