"""What is left when an attacker makes his activity look ordinary in everything he controls."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.feature_contract import FEATURES
from eguard.detection.model import Model
from eguard.mlops.intervals import HostSample
from eguard.mlops.metrics import average_precision, recall_at

Floats = NDArray[np.float64]

_INDEX: Final = {feature.name: feature.index for feature in FEATURES}
#: What an attacker decides about his own activity, and so can move towards what is ordinary.
ATTACKER_CONTROLS: Final[dict[str, tuple[str, ...]]] = {
    "text": (*(feature.name for feature in FEATURES if feature.group == "text"), "event_size_norm"),
    "process tree": ("tree_depth", "tree_breadth", "child_entropy", "spawn_rate", "rare_parent_child_score"),
    "pace": (
        "behavioral_alarm_count",
        "c2_beacon_mi",
        "beacon_periodicity",
        "rule_burst",
        "distinct_rules",
        "silence_before",
        "detector_agreement",
        "hour_rarity",
    ),
}
SHRINKAGES: Final = (0.25, 0.5, 1.0)


def adversarial_shrinkages(
    model: Model, features: Floats, sample: HostSample, ordinary: Floats
) -> list[dict[str, Any]]:
    """Move what an attacker controls towards the ordinary and see what is still found.

    Parameters
    ----------
    model : Model
        The shipped classifier.
    features : ndarray of shape (n, 43)
        Rows with all columns filled.
    sample : HostSample
        Labels and weights of the rows; its scores are not used.
    ordinary : ndarray of shape (43,)
        Median of rows that are no attack.

    Returns
    -------
    list of dict
        For each group of features and strength (1: the attack's features are the ordinary ones), average precision and
        recall at the operating point. Rows that are no attack stay as they are.
    """
    attacks = sample.labels == 1
    every = tuple(name for names in ATTACKER_CONTROLS.values() for name in names)
    report = [_shrunk(model, features, sample, "nothing", 0.0)]
    for name, controlled in {**ATTACKER_CONTROLS, "all of these": every}.items():
        columns = [_INDEX[feature] for feature in controlled]
        for strength in SHRINKAGES:
            moved = features.copy()
            towards = strength * (ordinary[columns] - moved[np.ix_(attacks, columns)])
            moved[np.ix_(attacks, columns)] += towards
            report.append(_shrunk(model, moved, sample, name, strength))
    return report


def _shrunk(model: Model, features: Floats, sample: HostSample, name: str, strength: float) -> dict[str, Any]:
    counts = HostSample(sample.labels, model.score(features), sample.weights, sample.hosts).tally()
    return {
        "moved": name,
        "strength": strength,
        "average_precision": float(average_precision(counts)),
        "operating_recall": float(recall_at(counts, model.threshold)),
    }
