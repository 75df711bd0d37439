"""Whether conformal thresholds hold what they promise: on the calibrated population, and on networks beyond it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.estimators import two_sample_ks
from eguard.estimators.conformal import Guarantee, conformal_threshold
from eguard.events import UNCOUNTED, EventClass
from eguard.mlops.dataset import Dataset

Floats = NDArray[np.float64]
#: Scores that a unit needs on the other side of the comparison.
_MIN_SCORES: Final = 20


def simulated_rates(
    scores: Floats,
    event_class: NDArray[np.int8],
    alpha: float,
    guarantee: Guarantee,
    *,
    n_simulations: int,
    rng: np.random.Generator,
) -> dict[str, dict[str, Any]]:
    """Halve the scores at random many times, calibrate on one half and count on the other.

    Returns
    -------
    dict
        By event class and ``pooled``: mean and 95th percentile of the realised false-positive rate, and the share of
        halvings above alpha. For the marginal guarantee the mean is at most alpha up to the error of the simulation;
        single halvings exceed it.
    """
    report = {"pooled": _simulate(scores, alpha, guarantee, n_simulations, rng)}
    for value in np.unique(event_class).tolist():
        name = "uncounted" if value == UNCOUNTED else EventClass(value).name.lower()
        report[name] = _simulate(scores[event_class == value], alpha, guarantee, n_simulations, rng)
    return report


def _simulate(
    scores: Floats, alpha: float, guarantee: Guarantee, n_simulations: int, rng: np.random.Generator
) -> dict[str, Any]:
    half = len(scores) // 2
    if half < 1 or conformal_threshold(scores[:half], alpha, guarantee).rank is None:
        return {"n": len(scores), "status": "insufficient_calibration"}
    rates = np.empty(n_simulations)
    for index in range(n_simulations):
        shuffled = rng.permutation(scores)
        rates[index] = conformal_threshold(shuffled[:half], alpha, guarantee).flags(shuffled[half:]).mean()
    return {
        "n": len(scores),
        "status": "calibrated",
        "mean_rate": float(rates.mean()),
        "mean_rate_error": float(rates.std(ddof=1) / np.sqrt(n_simulations)),
        "rate_p95": float(np.quantile(rates, 0.95)),
        "share_above_alpha": float((rates > alpha).mean()),
    }


def unseen_unit_rates(data: Dataset, scores: Floats, alpha: float, guarantee: Guarantee) -> dict[str, Any]:
    """Calibrate on all other units and count on each: benign signals of another network are not exchangeable.

    Returns
    -------
    dict
        By unit: its scores ``n``, the realised false-positive ``rate``, and the two-sample Kolmogorov-Smirnov test
        between its scores and the others'.
    """
    report: dict[str, Any] = {}
    for unit in np.unique(data.units).tolist():
        inside = data.units == unit
        if inside.sum() < _MIN_SCORES or (~inside).sum() < _MIN_SCORES:
            continue
        threshold = conformal_threshold(scores[~inside], alpha, guarantee)
        statistic, p_value = two_sample_ks(scores[~inside], scores[inside])
        report[data.names.units[unit]] = {
            "n": int(inside.sum()),
            "rate": float(threshold.flags(scores[inside]).mean()),
            "ks_statistic": float(statistic),
            "ks_p_value": float(p_value),
        }
    return report
