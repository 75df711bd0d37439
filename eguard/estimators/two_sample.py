"""Two-sample Kolmogorov-Smirnov test, the check that current scores still look like the calibration scores."""

from __future__ import annotations

import math
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import kolmogorov

from eguard.errors import EstimatorInputError
from eguard.estimators.validation import as_finite

Method = Literal["auto", "exact", "asymptotic"]
METHODS: Final = ("auto", "exact", "asymptotic")

#: Up to this product of the sample sizes ``method="auto"`` computes the exact p-value (some 50 ms).
EXACT_PAIRS: Final = 1_000_000


def two_sample_ks(a: ArrayLike, b: ArrayLike, method: Method = "auto") -> tuple[float, float]:
    """Return the two-sided two-sample Kolmogorov-Smirnov statistic and its p-value.

    Parameters
    ----------
    a, b : array_like of float, shape (n,) and (m,)
        The samples.
    method : {"auto", "exact", "asymptotic"}
        Exact counts lattice paths, O(n m) time; asymptotic is Kolmogorov's limit. Auto is exact up to a million pairs.

    Returns
    -------
    statistic : float
        Largest difference of the two empirical distribution functions, in [0, 1].
    p_value : float
        Probability of a statistic at least as large when both samples come from one continuous distribution. With
        ties it is an upper bound (exact method).

    Raises
    ------
    EstimatorInputError
        A sample is empty or not finite, or the method is unknown.

    Notes
    -----
    This, and not a one-sample test of conformal p-values for uniformity, is the check of calibration drift: p-values
    against one calibration set share its error, so the one-sample test at level 0.01 fires 96 % of the time under the
    null at 1,000 against 10,000 scores. Divide the level by the number of checks a day.

    References
    ----------
    J. L. Hodges, The significance probability of the Smirnov two-sample test, Arkiv foer Matematik 3 (1958).

    Examples
    --------
    >>> statistic, p_value = two_sample_ks([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    >>> statistic, round(p_value, 12)
    (1.0, 0.1)
    """
    if method not in METHODS:
        raise EstimatorInputError("method", f"must be one of {', '.join(METHODS)}, got {method!r}")
    first = np.sort(as_finite("a", a, ndim=1))
    second = np.sort(as_finite("b", b, ndim=1))
    n, m = first.size, second.size
    # In units of 1/(n m), where the comparison of path and boundary is exact.
    pooled = np.concatenate([first, second])
    below_first = np.searchsorted(first, pooled, side="right")
    below_second = np.searchsorted(second, pooled, side="right")
    gap = int(np.abs(below_first * m - below_second * n).max())
    statistic = gap / (n * m)
    if method == "exact" or (method == "auto" and n * m <= EXACT_PAIRS):
        return statistic, _exact_p_value(n, m, gap)
    return statistic, float(kolmogorov(math.sqrt(n * m / (n + m)) * statistic))


def _exact_p_value(n: int, m: int, gap: int) -> float:
    """Share of the lattice paths from (0, 0) to (n, m) that come to a point with |i m - j n| >= gap.

    Every order of the pooled sample is such a path, all equally likely. By anti-diagonals s = i + j: the share of the
    paths to (i, j) that have touched is ``(i * share(i-1, j) + j * share(i, j-1)) / s``, and 1 beyond the boundary.
    Shares are sums of positive terms, so small p-values keep their relative precision.
    """
    if gap == 0:
        return 1.0
    if n > m:
        n, m = m, n
    rows = np.arange(n + 1, dtype=np.int64)
    weights = rows.astype(np.float64)
    share: NDArray[np.float64] = np.zeros(n + 1)
    for s in range(1, n + m + 1):
        low, high = max(0, s - m), min(n, s)
        i = rows[low : high + 1]
        from_left = share[low : high + 1] * (s - weights[low : high + 1])
        # Row `high` enters with j = 0 and row `low` leaves; outside the lattice a term has weight 0.
        from_below = np.zeros(i.size)
        start = max(low, 1)
        from_below[start - low :] = share[start - 1 : high] * weights[start : high + 1]
        touched = np.abs(i * m - (s - i) * n) >= gap
        share[low : high + 1] = np.where(touched, 1.0, (from_left + from_below) / s)
    return float(min(share[n], 1.0))
