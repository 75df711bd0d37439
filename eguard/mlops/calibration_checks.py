"""How well calibrated thresholds keep their promise: by simulation on exchangeable scores, and between hosts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from eguard.estimators import ConformalMartingale, conformal_rank, conformal_threshold
from eguard.estimators.conformal import Guarantee

Scores = NDArray[np.float64]


def coverage_by_simulation(
    scores: Scores, alpha: float, rng: np.random.Generator, n_simulations: int
) -> dict[str, Any]:
    """Divide `scores` at random many times, calibrate on one half, and count false positives in the other.

    Random halves are exchangeable, so this measures the arithmetic (ranks, ties), not the world. Ties keep the rate
    below `alpha`; without ties the rate given one calibration set is Beta(n + 1 - k, k), whose mean and 95 % point
    stand beside it.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Benign scores.
    alpha : float
        Promised rate.
    rng : numpy.random.Generator
        Draws the divisions.
    n_simulations : int
        Divisions.
    """
    n = len(scores) // 2
    rank = conformal_rank(n, alpha) if n else None
    if rank is None:
        return {"status": "insufficient_calibration", "n_calibration": n}
    rates = np.empty(n_simulations)
    for index in range(n_simulations):
        order = rng.permutation(len(scores))
        threshold = np.partition(scores[order[:n]], rank - 1)[rank - 1]
        rates[index] = np.mean(scores[order[n:]] > threshold)
    return {
        "status": "calibrated",
        "n_calibration": n,
        "alpha": alpha,
        "mean_rate": float(rates.mean()),
        "rate_95_percent_point": float(np.quantile(rates, 0.95)),
        "beta_mean": (n + 1 - rank) / (n + 1),
        "beta_95_percent_point": float(beta.ppf(0.95, n + 1 - rank, rank)),
        "rates": np.sort(rates).tolist(),
    }


def transfer_check(scores: Scores, half: NDArray[np.bool_], alpha: float, guarantee: Guarantee) -> list[dict[str, Any]]:
    """Calibrate on one half of the hosts and count false positives on the other, both ways round."""
    results = []
    for name, calibration in (("first half of the hosts", half), ("second half of the hosts", ~half)):
        test = scores[~calibration]
        if not (calibration.any() and test.size):
            continue
        threshold = conformal_threshold(scores[calibration], alpha, guarantee)
        rate = float(np.mean(test > threshold.threshold))
        results.append(
            {
                "calibrated_on": name,
                "n_calibration": int(calibration.sum()),
                "n_checked": int(test.size),
                "status": threshold.status,
                "false_positives": int(np.sum(test > threshold.threshold)),
                "false_positive_rate": rate,
            }
        )
    return results


def log10_wealth(calibration: Scores, current: Scores, rng: np.random.Generator) -> float:
    """Return log10 of the highest wealth of a conformal test martingale over `current`, in order; 2 is its alarm."""
    martingale = ConformalMartingale(calibration, rng)
    for score in current.tolist():
        martingale.update(score)
    return martingale.largest_log_wealth / math.log(10.0)
