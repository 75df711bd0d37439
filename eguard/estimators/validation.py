"""Argument checks that every estimator shares.

Each check turns its argument into an array (or returns the number) and raises
:class:`~eguard.errors.EstimatorInputError` naming the argument, so that an estimator's body starts with values it
can trust and a caller reads which of its inputs was wrong.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eguard.errors import EstimatorInputError

# A distribution read back from JSON or summed in another order is off by a few units in the last place per
# coordinate; anything beyond this was never normalised.
SIMPLEX_TOLERANCE = 1e-6


def as_finite(name: str, x: ArrayLike, ndim: int | None = None) -> NDArray[np.float64]:
    """Return `x` as a non-empty float64 array without NaN or infinity.

    Parameters
    ----------
    name : str
        The argument's name, as the caller knows it.
    x : array_like
        Numbers of any shape. The result shares memory with `x` where `x` is float64 already: do not write to it.
    ndim : int, optional
        Required number of dimensions; any (including a scalar) when omitted.

    Returns
    -------
    ndarray of float64
        Shape of `x`.

    Raises
    ------
    EstimatorInputError
        `x` is not numeric, empty, ragged, not finite or has another number of dimensions.

    Examples
    --------
    >>> as_finite("x", [1, 2.5]).tolist()
    [1.0, 2.5]
    >>> as_finite("x", [1.0, float("nan")])
    Traceback (most recent call last):
    ...
    eguard.errors.EstimatorInputError: x: must be finite, 1 of 2 values are NaN or infinite
    """
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise EstimatorInputError(name, "must be a rectangular array of numbers") from error
    if array.dtype.kind not in "biuf":
        raise EstimatorInputError(name, f"must be real numbers, got dtype {array.dtype}", dtype=str(array.dtype))
    array = array.astype(np.float64, copy=False)
    if ndim is not None and array.ndim != ndim:
        raise EstimatorInputError(
            name, f"must have {ndim} dimension(s), got shape {array.shape}", ndim=ndim, shape=array.shape
        )
    if array.size == 0:
        raise EstimatorInputError(name, f"must not be empty, got shape {array.shape}", shape=array.shape)
    finite = np.isfinite(array)
    if not finite.all():
        bad = int(array.size - np.count_nonzero(finite))
        raise EstimatorInputError(
            name, f"must be finite, {bad} of {array.size} values are NaN or infinite", bad=bad, size=array.size
        )
    return array


def as_counts(name: str, x: ArrayLike) -> NDArray[np.float64]:
    """Return `x` as finite, non-negative float64 counts.

    Fractions pass: aggregated and smoothed counts are counts too.

    Raises
    ------
    EstimatorInputError
        As :func:`as_finite`, or a count is negative.

    Examples
    --------
    >>> as_counts("counts", [3, 0, 1]).tolist()
    [3.0, 0.0, 1.0]
    >>> as_counts("counts", [3, -1])
    Traceback (most recent call last):
    ...
    eguard.errors.EstimatorInputError: counts: must not be negative, smallest is -1.0
    """
    array = as_finite(name, x)
    smallest = float(array.min())
    if smallest < 0.0:
        raise EstimatorInputError(name, f"must not be negative, smallest is {smallest!r}", smallest=smallest)
    return array


def as_probabilities(name: str, p: ArrayLike) -> NDArray[np.float64]:
    """Return `p` as float64 distributions along the last axis: non-negative, summing to 1 within 1e-6.

    The values are not renormalised: a caller that needs an exact sum divides.

    Raises
    ------
    EstimatorInputError
        As :func:`as_counts`, `p` is a scalar, or a distribution does not sum to 1.

    Examples
    --------
    >>> as_probabilities("p", [0.5, 0.25, 0.25]).tolist()
    [0.5, 0.25, 0.25]
    >>> as_probabilities("p", [0.5, 0.25])
    Traceback (most recent call last):
    ...
    eguard.errors.EstimatorInputError: p: must sum to 1 along the last axis, got 0.75
    """
    array = as_counts(name, p)
    if array.ndim == 0:
        raise EstimatorInputError(name, "must have at least one dimension, got a scalar")
    error = array.sum(axis=-1) - 1.0
    worst = float(error.flat[np.abs(error).argmax()])
    if abs(worst) > SIMPLEX_TOLERANCE:
        raise EstimatorInputError(name, f"must sum to 1 along the last axis, got {1.0 + worst:.9g}", total=1.0 + worst)
    return array


def in_open_interval(name: str, value: float, low: float, high: float) -> float:
    """Return `value` as a float strictly between `low` and `high`; either bound may be infinite.

    Raises
    ------
    EstimatorInputError
        `value` is not a real number, is NaN, or lies on or outside a bound.

    Examples
    --------
    >>> in_open_interval("alpha", 0.05, 0, 0.5)
    0.05
    >>> in_open_interval("alpha", 0.5, 0, 0.5)
    Traceback (most recent call last):
    ...
    eguard.errors.EstimatorInputError: alpha: must lie in the open interval (0, 0.5), got 0.5
    """
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise EstimatorInputError(name, f"must be a real number, got {value!r}", value=value) from error
    if math.isnan(number) or not low < number < high:
        raise EstimatorInputError(
            name,
            f"must lie in the open interval ({low:g}, {high:g}), got {value!r}",
            value=number,
            low=low,
            high=high,
        )
    return number
