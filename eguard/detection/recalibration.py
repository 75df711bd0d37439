"""Recalibration: thresholds for the model that is loaded, from feature rows that this host has kept.

The same number means nothing on another model's scale, so no threshold outlives its model. Feature rows do: but for two
columns that the model brings itself they are facts about events. Whenever a model is loaded the kept rows are scored
with it, and their thresholds are set anew (math: split conformal, `eguard.estimators.conformal`).

The fleet's calibration scores come with the model, and hold for an average host. A host that is unlike the average has
too many false alarms under their threshold, or detects less than it could; its own rows say which. They are not trusted
without bound: whoever owns the host can fill them. So its own threshold stays between those that the fleet's scores
give for five times and for a fifth of alpha.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.gate import POOLED, CalibrationGroup, ConformalGate
from eguard.detection.model import Model
from eguard.errors import ModelError
from eguard.estimators.conformal import conformal_threshold
from eguard.events.model import EventClass

#: A host's own threshold lies between the fleet's for alpha times this and for alpha divided by it.
FACTOR: Final = 5.0
_LARGEST_ALPHA: Final = 0.49


@dataclass(frozen=True, slots=True)
class CalibrationRows:
    """Scored events, kept as features: arrays of shape (n, 43) and (n,), and what counts as the rule of each."""

    features: NDArray[np.float64]
    event_class: NDArray[np.int8]
    signals: Sequence[str]

    def __len__(self) -> int:
        return len(self.signals)


def rescore(model: Model, rows: CalibrationRows) -> NDArray[np.float64]:
    """Return what `model` says of rows that another one may have scored, shape (n,).

    The two columns that a model brings itself (class risk and rule precision) are filled with this one's.

    Raises
    ------
    ModelError
        The rows are of another width than the model's, or hold a value that is not finite.
    """
    if not len(rows):
        return np.zeros(0)
    return model.score(model.tables.apply(rows.features, rows.event_class, rows.signals))


def recalibrate(gate: ConformalGate, model: Model, rows: CalibrationRows) -> ConformalGate:
    """Return the gate with this host's own thresholds, as far as its rows support them.

    An event class that has rows enough gets its own threshold; the pooled one is that of all rows. Where there are too
    few for alpha, the fleet's stays.

    Parameters
    ----------
    gate : ConformalGate
        The fleet's thresholds and scores, which came with the model.
    model : Model
        The model that is loaded.
    rows : CalibrationRows
        Scored events of this host, drawn uniformly.

    Raises
    ------
    ModelError
        The thresholds were made for another model (uncalibrated).
    """
    if gate.model_digest != model.digest:
        raise ModelError(
            f"the calibration belongs to model {gate.model_digest[:16]}…, not to {model.digest[:16]}… (uncalibrated)",
            remedy="Calibrate the model that is loaded: dvc repro calibrate.",
            calibration=gate.model_digest,
            model=model.digest,
        )
    scores = rescore(model, rows)
    groups = dict(gate.groups)
    for name, own in _by_group(scores, rows.event_class).items():
        found = conformal_threshold(own, gate.alpha, gate.guarantee)
        if found.status == "calibrated":
            groups[name] = _bounded(gate, gate.groups.get(name, gate.groups[POOLED]), found.threshold, np.sort(own))
    return ConformalGate(groups, gate.alpha, gate.model_digest, gate.beacon, gate.guarantee)


def _by_group(scores: NDArray[np.float64], event_class: NDArray[np.int8]) -> Mapping[str, NDArray[np.float64]]:
    """Return the scores of all rows, and of each event class."""
    if not len(scores):
        return {}
    counted = np.unique(event_class[event_class >= 0]).tolist()
    return {POOLED: scores} | {EventClass(each).name.lower(): scores[event_class == each] for each in counted}


def _bounded(
    gate: ConformalGate, fleet: CalibrationGroup, threshold: float, own: NDArray[np.float64]
) -> CalibrationGroup:
    """Return a host's own group, or the fleet's at the bound that the host's threshold crosses.

    P-values are then against the scores that the threshold is one of, so that they never contradict it.
    """
    lowest = conformal_threshold(fleet.scores, min(FACTOR * gate.alpha, _LARGEST_ALPHA), gate.guarantee).threshold
    highest = conformal_threshold(fleet.scores, gate.alpha / FACTOR, gate.guarantee).threshold
    if math.isfinite(lowest) and threshold < lowest:
        return CalibrationGroup(lowest, "calibrated", fleet.scores)
    if threshold > highest:
        return CalibrationGroup(highest, "calibrated", fleet.scores)
    return CalibrationGroup(threshold, "calibrated", own)
