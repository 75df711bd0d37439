"""Figures by step of the attack: each step's alerts against everything that is no attack."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eguard.mlops.dataset import Dataset
from eguard.mlops.metrics import (
    average_precision,
    base_rate,
    recall_at,
    recall_at_false_positive_rate,
    tally,
)
from eguard.mlops.splits import Mask


def step_figures(
    data: Dataset, rows: Mask, scores: NDArray[np.float64], threshold: float
) -> dict[str, dict[str, float | int]]:
    """Return figures of each step of the attack, scan floods included.

    Parameters
    ----------
    data : Dataset
        All rows.
    rows : ndarray of bool, shape (n,)
        Rows of one network.
    scores : ndarray of shape (n,)
        Probabilities; only those of `rows` are read.
    threshold : float
        Operating point.

    Returns
    -------
    dict
        By step: ``alerts`` it consists of, ``average_precision`` of its alerts against all that is no attack, its
        ``base_rate`` there (average precision at chance), ``operating_recall`` and ``recall_at_fpr_0.01``.
    """
    others = rows & (data.labels == 0)
    report = {}
    for step in np.unique(data.steps[rows & (data.labels == 1)]).tolist():
        kept = others | (rows & (data.labels == 1) & (data.steps == step))
        counts = tally(data.labels[kept], scores[kept], data.weights[kept])
        report[step or "unnamed"] = {
            "alerts": round(float(counts.attacks.sum())),
            "average_precision": float(average_precision(counts)),
            "base_rate": float(base_rate(counts)),
            "operating_recall": float(recall_at(counts, threshold)),
            "recall_at_fpr_0.01": float(recall_at_false_positive_rate(counts, 0.01)),
        }
    return report
