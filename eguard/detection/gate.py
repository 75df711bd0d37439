"""The conformal gate: which scores are unusual, at a false-alarm rate that was promised.

Thresholds are set per event class where the calibration set allows, else pooled (`eguard.estimators.conformal`). A
threshold belongs to one model: the gate refuses any other, because the same number means nothing on another scale.
Where too few calibration scores support a finite threshold nothing is flagged and the status says
``insufficient_calibration``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.errors import EstimatorInputError, ModelError
from eguard.estimators.conformal import GUARANTEES, Guarantee, conformal_p_values
from eguard.events.model import EventClass

CALIBRATION_FORMAT: Final = 1
POOLED: Final = "pooled"


@dataclass(frozen=True, slots=True)
class CalibrationGroup:
    """Calibration of one event class, or of all together.

    `scores` are the benign calibration scores in rising order; `threshold` is one of them, or infinity.
    """

    threshold: float
    status: str
    scores: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GateDecision:
    """What the gate says of n scores: shape (n,) each. `threshold` is the one that applied to the row."""

    flagged: NDArray[np.bool_]
    p_values: NDArray[np.float64]
    threshold: NDArray[np.float64]


class ConformalGate:
    """Compares scores with calibrated thresholds.

    Parameters
    ----------
    groups : mapping of str to CalibrationGroup
        By lower-case event class name, and ``pooled`` for every other class.
    alpha : float
        Promised false-positive rate on the population that calibrated.
    model_digest : str
        The model whose scores these are.
    beacon : BeaconCalibration, optional
        Threshold of the beacon score, which is no model's.
    guarantee : {"marginal", "pac"}
        What the thresholds promise (`eguard.estimators.conformal.conformal_threshold`).
    """

    def __init__(
        self,
        groups: Mapping[str, CalibrationGroup],
        alpha: float,
        model_digest: str,
        beacon: BeaconCalibration | None = None,
        guarantee: Guarantee = "marginal",
    ) -> None:
        if POOLED not in groups:
            raise ModelError("the calibration has no pooled group")
        self.alpha = alpha
        self.model_digest = model_digest
        self.groups = dict(groups)
        self.beacon = beacon
        self.guarantee: Guarantee = guarantee

    @classmethod
    def from_json(cls, value: Any, *, model_digest: str) -> ConformalGate:
        """Read a calibration JSON.

        Raises
        ------
        ModelError
            The calibration is malformed, or belongs to another model than `model_digest`.
        """
        try:
            if value["format"] != CALIBRATION_FORMAT:
                raise ModelError(
                    f"the calibration has format {value['format']}; this version reads {CALIBRATION_FORMAT}"
                )
            owner = str(value["model_digest"])
            alpha = float(value["alpha"])
            groups = {str(name): _read_group(str(name), group) for name, group in value["groups"].items()}
            beacon = BeaconCalibration.from_json(value["beacon"]) if "beacon" in value else None
            guarantee = value.get("guarantee", "marginal")
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ModelError(f"the calibration cannot be read: {error!r}") from error
        if owner != model_digest:
            raise ModelError(
                f"the calibration belongs to model {owner[:16]}…, not to {model_digest[:16]}… (uncalibrated)",
                remedy="Re-score the stored calibration features with this model: dvc repro calibrate.",
                calibration=owner,
                model=model_digest,
            )
        if not 0.0 < alpha < 0.5:
            raise ModelError(f"the calibration's alpha is {alpha}, not in (0, 0.5)")
        if guarantee not in GUARANTEES:
            raise ModelError(f"the calibration promises {guarantee!r}, which this version does not know")
        return cls(groups, alpha, owner, beacon, guarantee)

    def status(self, event_class: int) -> str:
        """Return the status of the threshold that applies to an event class."""
        return self._group(event_class).status

    def judge(self, scores: NDArray[np.float64], event_class: NDArray[np.integer[Any]]) -> GateDecision:
        """Flag scores above their class's threshold and give each its p-value.

        Parameters
        ----------
        scores : ndarray of shape (n,)
            The model's probabilities.
        event_class : ndarray of shape (n,)
            `EventClass` values or `UNCOUNTED`.
        """
        p_values = np.ones(len(scores))
        threshold = np.full(len(scores), math.inf)
        for value in np.unique(event_class):
            rows = event_class == value
            group = self._group(int(value))
            threshold[rows] = group.threshold
            p_values[rows] = conformal_p_values(group.scores, scores[rows])
        return GateDecision(scores > threshold, p_values, threshold)

    def _group(self, event_class: int) -> CalibrationGroup:
        name = EventClass(event_class).name.lower() if event_class >= 0 else POOLED
        return self.groups.get(name, self.groups[POOLED])


def _read_group(name: str, value: Any) -> CalibrationGroup:
    scores = np.asarray(value["scores"], np.float64)
    threshold = math.inf if value["threshold"] is None else float(value["threshold"])
    status = str(value["status"])
    if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all() or (np.diff(scores) < 0).any():
        raise ModelError(f"the calibration scores of {name} are not finite numbers in rising order")
    if math.isnan(threshold) or (math.isinf(threshold) != (status == "insufficient_calibration")):
        raise ModelError(f"the threshold of {name} and its status {status!r} contradict each other")
    return CalibrationGroup(threshold, status, scores)


def calibration_to_json(
    groups: Mapping[str, CalibrationGroup],
    *,
    alpha: float,
    guarantee: str,
    model_digest: str,
    contract_sha256: str,
    beacon: BeaconCalibration | None = None,
) -> dict[str, Any]:
    """Return the calibration JSON that `ConformalGate.from_json` reads; infinity is written as null.

    The section ``beacon`` is there if a calibration of the beacon score is given.

    Raises
    ------
    EstimatorInputError
        There is no pooled group.
    """
    if POOLED not in groups:
        raise EstimatorInputError("groups", "there is no pooled group")
    document: dict[str, Any] = {
        "format": CALIBRATION_FORMAT,
        "alpha": alpha,
        "guarantee": guarantee,
        "model_digest": model_digest,
        "contract_sha256": contract_sha256,
        "groups": {
            name: {
                "threshold": None if math.isinf(group.threshold) else group.threshold,
                "status": group.status,
                "scores": group.scores.tolist(),
            }
            for name, group in sorted(groups.items())
        },
    }
    if beacon is not None:
        document["beacon"] = beacon.to_json()
    return document
