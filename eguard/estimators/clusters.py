"""How much less a sample says because its values come in clusters: days that differ, hosts that have their days.

A test that takes n values for independent when they came from one unusual day calls every day unusual. The design
effect is the factor by which clusters raise the variance of a share, and n divided by it is what the sample is worth.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eguard.errors import EstimatorInputError
from eguard.estimators.validation import as_finite

_DECILES: Final = np.arange(1, 10) / 10.0


def intraclass_correlation(values: ArrayLike, clusters: ArrayLike) -> float:
    """Return the share of the variance that lies between clusters, by the analysis of variance; at least 0.

    Parameters
    ----------
    values : array_like of float, shape (n,)
    clusters : array_like of int, shape (n,)
        Which cluster each value is of.

    Returns
    -------
    float
        In [0, 1]; 0 where there are fewer than two clusters, or no cluster with two values.

    Raises
    ------
    EstimatorInputError
        `values` is empty or not finite, or the lengths differ.

    References
    ----------
    A. Donner, The analysis of intraclass correlation in multiple samples, Annals of Human Genetics 49 (1985).

    Examples
    --------
    >>> intraclass_correlation([1.0, 1.0, 5.0, 5.0], [0, 0, 1, 1])
    1.0
    >>> intraclass_correlation([1.0, 5.0, 1.0, 5.0], [0, 0, 1, 1])
    0.0
    """
    x = as_finite("values", values, ndim=1)
    labels = np.asarray(clusters)
    if labels.shape != x.shape:
        raise EstimatorInputError("clusters", f"must have one entry a value, got {labels.shape} for {x.shape}")
    _, code, size = np.unique(labels, return_inverse=True, return_counts=True)
    n, k = x.size, size.size
    if k < 2 or n == k:
        return 0.0
    mean = np.bincount(code, weights=x) / size
    between = float(size @ (mean - x.mean()) ** 2) / (k - 1)
    within = float(((x - mean[code]) ** 2).sum()) / (n - k)
    typical = (n - float(size @ size) / n) / (k - 1)
    total = between + (typical - 1.0) * within
    return min(max((between - within) / total, 0.0), 1.0) if total > 0.0 else 0.0


def share_correlation(values: ArrayLike, clusters: ArrayLike) -> float:
    """Return the largest intraclass correlation of "the value is at most t", t at the nine deciles of `values`.

    It is what matters to a test that compares distribution functions: their variance at t is inflated by it.

    Raises
    ------
    EstimatorInputError
        As `intraclass_correlation`.

    Examples
    --------
    >>> share_correlation([1.0, 2.0, 3.0, 11.0, 12.0, 13.0], [0, 0, 0, 1, 1, 1])
    1.0
    """
    x = as_finite("values", values, ndim=1)
    cuts = np.unique(np.quantile(x, _DECILES, method="inverted_cdf"))
    return max(intraclass_correlation((x <= cut).astype(np.float64), clusters) for cut in cuts)


def effective_size(clusters: ArrayLike, correlation: float) -> float:
    """Return how many independent values a clustered sample is worth: n over 1 + (m - 1) correlation.

    m is the mean size of the cluster that a value is in: one cluster is never worth more than 1/correlation.

    Raises
    ------
    EstimatorInputError
        `clusters` is empty, or the correlation lies outside [0, 1].

    Examples
    --------
    >>> effective_size([0] * 50 + [1] * 50, 0.0), effective_size([0] * 50 + [1] * 50, 1.0)
    (100.0, 2.0)
    """
    labels = np.asarray(clusters)
    if labels.size == 0:
        raise EstimatorInputError("clusters", "must not be empty")
    if not 0.0 <= correlation <= 1.0:
        raise EstimatorInputError("correlation", f"must lie in [0, 1], got {correlation!r}")
    size: NDArray[np.intp] = np.unique(labels, return_counts=True)[1]
    mean_size = float(size @ size) / labels.size
    return labels.size / (1.0 + (mean_size - 1.0) * correlation)
