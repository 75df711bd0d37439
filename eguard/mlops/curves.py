"""Curves for the plots of the offline evaluation: few points, plain JSON, one row a point."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from eguard.mlops.intervals import HostSample
from eguard.mlops.metrics import equal_mass_bins, reliability

#: Points kept of one curve.
MAX_POINTS: Final = 200


def precision_recall_points(sample: HostSample, network: str) -> list[dict[str, Any]]:
    """Return precision and recall at thresholds spread evenly over recall."""
    counts = sample.tally()
    found, false = np.cumsum(counts.attacks), np.cumsum(counts.others)
    recall, precision = found / found[-1], found / (found + false)
    return [
        {"network": network, "recall": float(recall[at]), "precision": float(precision[at])} for at in _spread(recall)
    ]


def roc_points(sample: HostSample, network: str) -> list[dict[str, Any]]:
    """Return the receiver operating characteristic from (0, 0) on."""
    counts = sample.tally()
    found, false = np.cumsum(counts.attacks), np.cumsum(counts.others)
    recall = np.concatenate([[0.0], found / found[-1]])
    rate = np.concatenate([[0.0], false / false[-1]])
    at = _spread((recall + rate) / 2.0)
    return [
        {"network": network, "false_positive_rate": float(rate[i]), "true_positive_rate": float(recall[i])} for i in at
    ]


def reliability_points(sample: HostSample, network: str) -> list[dict[str, Any]]:
    """Return mean probability and share of attacks of each equal-mass bin that holds rows."""
    counts = sample.tally()
    predicted, observed, mass = reliability(counts, equal_mass_bins(counts))
    return [
        {"network": network, "predicted": float(p), "observed": float(o), "alerts": float(m)}
        for p, o, m in zip(predicted, observed, mass, strict=True)
        if m > 0.0
    ]


def _spread(rising: np.typing.NDArray[np.float64]) -> list[int]:
    """Return at most `MAX_POINTS` positions whose values are spread evenly, the first and last among them."""
    wanted = np.linspace(rising[0], rising[-1], MAX_POINTS)
    return sorted({0, len(rising) - 1, *np.searchsorted(rising, wanted, side="left").clip(0, len(rising) - 1).tolist()})
