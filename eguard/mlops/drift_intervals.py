"""Intervals for few observations: a rate of rare alarms, and a median of delays some of which are infinite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from scipy.special import bdtr, gammaincinv

CONFIDENCE: Final = 0.95


def poisson_interval(count: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a Poisson mean of which `count` were seen (Garwood).

    Examples
    --------
    >>> [round(bound, 3) for bound in poisson_interval(0)]
    [0.0, 3.689]
    >>> [round(bound, 3) for bound in poisson_interval(4)]
    [1.09, 10.242]
    """
    tail = (1.0 - CONFIDENCE) / 2.0
    low = float(gammaincinv(count, tail)) if count else 0.0
    return low, float(gammaincinv(count + 1, 1.0 - tail))


def median_with_interval(values: Sequence[float]) -> dict[str, Any] | None:
    """Return the median and its distribution-free 95 % interval between order statistics; infinity becomes null.

    None without values. With fewer than six there is no such interval, and it is null too.

    Examples
    --------
    >>> median_with_interval([1.0, 2.0, 3.0, 4.0, 5.0, float("inf")])
    {'value': 3.5, 'interval': [1.0, None]}
    """
    if not values:
        return None
    ordered = sorted(values)
    n = len(ordered)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2.0
    # The largest k for which fewer than k of n fall below the median with probability at most 2.5 %.
    k = max((k for k in range(1, n // 2 + 1) if bdtr(k - 1, n, 0.5) <= (1.0 - CONFIDENCE) / 2.0), default=None)
    interval = None if k is None else [_finite(ordered[k - 1]), _finite(ordered[n - k])]
    return {"value": _finite(middle), "interval": interval}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
