"""Divergence between event distributions: Jensen-Shannon for the fleet's health, Kullback-Leibler for windows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import kl_div

from eguard.errors import EstimatorInputError
from eguard.estimators.validation import as_counts, as_finite, as_probabilities, in_open_interval

Array = NDArray[np.float64]

LN2 = math.log(2.0)
# Jeffreys' prior weight: half a pseudo-event a class.
SMOOTHING = 0.5


def jensen_shannon_nats(p: ArrayLike, q: ArrayLike, axis: int = -1) -> Array:
    """Return the Jensen-Shannon divergence of `p` and `q` along `axis`, in nats.

    Parameters
    ----------
    p, q : array_like
        Distributions along `axis`, each summing to 1 within 1e-6; shapes broadcast.
    axis : int, optional
        The axis of event classes.

    Returns
    -------
    ndarray
        In [0, ln 2]: 0 for equal, ln 2 for disjoint distributions. A NumPy scalar for one pair.

    Raises
    ------
    EstimatorInputError
        `p` or `q` is empty, not finite, negative or does not sum to 1; shapes do not fit; `axis` is out of range.

    Notes
    -----
    With m = (p + q)/2 and e = (p - q)/(p + q) every class contributes m*(log1p(-e*e) + 2*e*atanh(e))/2, which is
    never negative, exactly symmetric, and keeps its digits where p and q nearly agree; the usual sum of p*ln(p/m)
    loses them all below 1e-16. :func:`scipy.spatial.distance.jensenshannon` returns the square root of this.
    Estimated from samples it is biased upwards: see :func:`jensen_shannon_bias_nats`.

    References
    ----------
    J. Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information Theory 37, 1991.

    Examples
    --------
    >>> round(float(jensen_shannon_nats([0.7, 0.2, 0.1], [0.1, 0.2, 0.7])), 9)
    0.253101615
    >>> jensen_shannon_nats([[1.0, 0.0], [0.5, 0.5]], [0.0, 1.0]).round(6).tolist()
    [0.693147, 0.215762]
    """
    first, second = _with_classes_last("p", p, axis), _with_classes_last("q", q, axis)
    total = _broadcast_sum(first, second)
    present = total > 0.0
    contrast = np.divide(first - second, total, out=np.zeros_like(total), where=present)
    mixed = np.abs(contrast) < 1.0
    inner = np.where(mixed, contrast, 0.0)
    terms = np.where(mixed, np.log1p(-inner * inner) + 2.0 * inner * np.arctanh(inner), 2.0 * LN2)
    divergence: Array = np.minimum(0.25 * (total * terms).sum(axis=-1), LN2)
    return divergence


def jensen_shannon_bias_nats(n_p: ArrayLike, n_q: ArrayLike, d: int) -> Array:
    """Return the expected divergence, in nats, of two samples drawn from one and the same distribution.

    Parameters
    ----------
    n_p, n_q : array_like
        Events behind each distribution, positive; shapes broadcast.
    d : int
        Number of event classes that occur, at least 1.

    Returns
    -------
    ndarray
        (d - 1)/8 * (1/n_p + 1/n_q). Subtract it before comparing a divergence with a threshold.

    Raises
    ------
    EstimatorInputError
        A sample size is not positive and finite, or `d` is below 1.

    Notes
    -----
    First order in 1/n, from the chi-square limit of 8 times the divergence over (1/n_p + 1/n_q).

    References
    ----------
    I. Grosse et al., "Analysis of symbolic sequences using the Jensen-Shannon divergence", Physical Review E 65, 2002.

    Examples
    --------
    >>> float(jensen_shannon_bias_nats(100, 1000, d=8))
    0.009625
    """
    sizes = [as_finite(name, n) for name, n in (("n_p", n_p), ("n_q", n_q))]
    for name, n in zip(("n_p", "n_q"), sizes, strict=True):
        if n.min() <= 0.0:
            raise EstimatorInputError(name, f"must be positive, smallest is {float(n.min())!r}")
    if d < 1:
        raise EstimatorInputError("d", f"must be at least 1, got {d}", d=d)
    bias: Array = (d - 1) / 8.0 * (1.0 / sizes[0] + 1.0 / sizes[1])
    return bias


def kl_divergence_bits(counts: ArrayLike, baseline_counts: ArrayLike, smoothing: float = SMOOTHING) -> Array:
    """Return the Kullback-Leibler divergence, in bits, of windows from a baseline with smoothed counts.

    D(p || q) with p_i = c_i/n as counted and q_i = (b_i + a)/(B + a*d), so that it is finite where the window holds a
    class that the baseline never saw.

    Parameters
    ----------
    counts : array_like of shape (..., d)
        Events of each window by class; every window holds at least one event.
    baseline_counts : array_like of shape (..., d)
        Events of the baseline by class; broadcasts against `counts`. All zero is the uniform distribution.
    smoothing : float, optional
        Pseudo-events a class, a, positive.

    Returns
    -------
    ndarray of shape (...)
        Not negative; a NumPy scalar for one window.

    Raises
    ------
    EstimatorInputError
        Counts are empty, not finite or negative, a window is empty, shapes do not fit, `smoothing` is not positive.

    Notes
    -----
    The operations manual adds 1 to probabilities. Values that sum to 1 drown in that: every ordinary window of a
    skewed baseline becomes anomalous. Smoothing belongs to the counts, where it fades as the baseline grows.

    Examples
    --------
    >>> round(float(kl_divergence_bits([64, 64, 0, 0], [500, 500, 0, 0])), 9)
    0.001440534
    >>> kl_divergence_bits([[4, 0], [0, 4]], [99, 0]).round(6).tolist()
    [0.007232, 7.643856]
    """
    window, baseline = as_counts("counts", counts), as_counts("baseline_counts", baseline_counts)
    in_open_interval("smoothing", smoothing, 0.0, math.inf)
    if window.ndim == 0 or baseline.ndim == 0 or window.shape[-1] != baseline.shape[-1]:
        raise EstimatorInputError(
            "baseline_counts", f"must have the classes of counts, got shapes {baseline.shape} and {window.shape}"
        )
    n = window.sum(axis=-1, keepdims=True)
    if n.min() <= 0.0:
        raise EstimatorInputError("counts", "every window must hold at least one event")
    q = baseline + smoothing
    q /= q.sum(axis=-1, keepdims=True)
    try:
        terms = kl_div(window / n, q)
    except ValueError as error:
        raise EstimatorInputError("baseline_counts", f"shape {baseline.shape} does not fit {window.shape}") from error
    divergence: Array = terms.sum(axis=-1) / LN2
    return divergence


def _with_classes_last(name: str, x: ArrayLike, axis: int) -> Array:
    values = as_finite(name, x)
    if not -values.ndim <= axis < values.ndim:
        raise EstimatorInputError("axis", f"{axis} is out of range for {name} of shape {values.shape}", axis=axis)
    return as_probabilities(name, np.moveaxis(values, axis, -1))


def _broadcast_sum(p: Array, q: Array) -> Array:
    if p.shape[-1] != q.shape[-1]:
        raise EstimatorInputError("q", f"must have {p.shape[-1]} classes as p has, got {q.shape[-1]}")
    try:
        total: Array = p + q
    except ValueError as error:
        raise EstimatorInputError("q", f"shape {q.shape} does not fit that of p, {p.shape}") from error
    return total
