"""Exact binomial intervals for rates that rest on few trials."""

from __future__ import annotations

from typing import Any

from scipy.stats import beta

from eguard.errors import EstimatorInputError


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a binomial share.

    Parameters
    ----------
    successes, trials : int
        0 <= successes <= trials; no trials give (0, 1).
    confidence : float
        In (0, 1).

    Raises
    ------
    EstimatorInputError
        The counts are no counts.

    References
    ----------
    C. Clopper, E. Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934.

    Examples
    --------
    >>> [round(bound, 4) for bound in clopper_pearson(0, 10)]
    [0.0, 0.3085]
    """
    if not 0 <= successes <= trials:
        raise EstimatorInputError("successes", f"must lie in [0, {trials}], got {successes}")
    tail = (1.0 - confidence) / 2.0
    low = float(beta.ppf(tail, successes, trials - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1.0 - tail, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high


def rate(successes: int, trials: int) -> dict[str, Any]:
    """Return counts, share (None without trials) and 95 % interval, JSON-ready."""
    return {
        "count": int(successes),
        "of": int(trials),
        "rate": successes / trials if trials else None,
        "interval": list(clopper_pearson(int(successes), int(trials))),
    }
