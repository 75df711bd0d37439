"""How sure a detection is: the ladder from the layers, and the one step that the classifier may add."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]


class Confidence(IntEnum):
    """Steps of the ladder, weakest first."""

    NONE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    VERY_HIGH = 4
    DEFINITE = 5


def layer_confidence(
    *, indicator: Flags, rule: Flags, kill_chain: Flags, beacon: Flags, anomaly_high: Flags, anomaly_medium: Flags
) -> NDArray[np.int8]:
    """Return the confidence that the layers alone give, shape (n,).

    An exact indicator is definite. Rule and kill chain together, or a rule on top of a high anomaly, are very high;
    one of rule, kill chain or confirmed beacon is high; a high anomaly alone is medium, a medium one low.

    Examples
    --------
    >>> yes, no = np.array([True]), np.array([False])
    >>> layer_confidence(
    ...     indicator=no, rule=yes, kill_chain=no, beacon=no, anomaly_high=yes, anomaly_medium=yes
    ... ).tolist()
    [4]
    """
    very_high = (rule & kill_chain) | (rule & anomaly_high)
    high = rule | kill_chain | beacon
    ladder = [indicator, very_high, high, anomaly_high, anomaly_medium]
    steps = [Confidence.DEFINITE, Confidence.VERY_HIGH, Confidence.HIGH, Confidence.MEDIUM, Confidence.LOW]
    return np.select(ladder, steps, default=Confidence.NONE).astype(np.int8)


def raise_by_classifier(confidence: NDArray[np.int8], above_threshold: Flags) -> NDArray[np.int8]:
    """Return the confidence after the classifier: one step up and medium at least where it fired, never lower.

    A definite detection has no step above it.

    Examples
    --------
    >>> steps = np.array([0, 1, 2, 3, 4, 5, 3], dtype=np.int8)
    >>> raise_by_classifier(steps, np.array([True] * 6 + [False])).tolist()
    [2, 2, 3, 4, 5, 5, 3]
    """
    raised = np.clip(confidence + 1, Confidence.MEDIUM, Confidence.DEFINITE)
    return np.where(above_threshold, raised, confidence).astype(np.int8)
