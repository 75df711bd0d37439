"""How much one analyst may say: the share of a class's weight that one name can have."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: The share of a class that one analyst may have given: the larger of this and `ANALYST_SLACK` / number of analysts.
ANALYST_SHARE: Final = 0.20
ANALYST_SLACK: Final = 1.5
_ROUNDING: Final = 1e-9


def analyst_bound(n_analysts: int) -> float:
    """Return the largest share of a class's weight that one of `n_analysts` may have.

    Examples
    --------
    >>> [analyst_bound(n) for n in (1, 2, 3, 10)]
    [1.0, 0.75, 0.5, 0.2]
    """
    return min(1.0, max(ANALYST_SHARE, ANALYST_SLACK / max(n_analysts, 1)))


def cap_analysts(corpus: pd.DataFrame) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Weigh down the rows of analysts who said more of a class than one may.

    Parameters
    ----------
    corpus : DataFrame
        Rows with label, weight and analyst. Shipped labels bear no name and are exempt.

    Returns
    -------
    weights : ndarray of float, shape (n,)
        The weights after the cap; rows of other analysts keep theirs.
    facts : dict
        Number of analysts, the bound, and by class the largest share before and after.
    """
    weights = corpus["weight"].to_numpy(np.float64).copy()
    analyst = corpus["analyst"]
    names = sorted(analyst.dropna().unique())
    bound = analyst_bound(len(names))
    facts: dict[str, Any] = {"analysts": len(names), "bound": bound, "capped": []}
    for label, word in ((1, "positive"), (0, "negative")):
        rows = (analyst.notna() & (corpus["label"] == label)).to_numpy(np.bool_)
        if not rows.any():
            continue
        code = np.searchsorted(names, analyst[rows].to_numpy(str))
        sums = np.bincount(code, weights[rows], len(names)).astype(np.float64)
        factor = _factors(sums, bound)
        weights[rows] *= factor[code]
        after = sums * factor
        facts[f"largest_share_{word}"] = float(sums.max() / sums.sum())
        facts[f"largest_share_{word}_after"] = float(after.max() / after.sum())
        facts["capped"] += [f"{names[place]}: {word}" for place in np.flatnonzero(factor < 1.0)]
    return weights, facts


def _factors(sums: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    """Return by analyst what to multiply weights with, so that nobody has more than `bound` of what is left.

    The k largest are brought to one common weight w = bound (R + k w), where R is the weight of the others. Where too
    few analysts spoke of the class for any such w, they are made equal.
    """
    ordered = np.sort(sums[sums > 0.0])[::-1]
    ceiling = float(ordered[-1])
    for n_capped, largest_left in enumerate(ordered.tolist()):
        room = 1.0 - n_capped * bound
        if room <= _ROUNDING:
            break
        limit = bound * float(ordered[n_capped:].sum()) / room
        if largest_left <= limit * (1.0 + _ROUNDING):
            ceiling = limit
            break
    ratio: NDArray[np.float64] = np.divide(ceiling, sums, out=np.ones(len(sums)), where=sums > 0.0)
    return np.minimum(1.0, ratio)
