"""The calibrated threshold of the beacon score, as the section ``beacon`` of a bundle's calibration carries it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from eguard.errors import EstimatorInputError, ModelError
from eguard.estimators.beacon import BeaconOptions

UNIT: Final = "destination"
_KEYS: Final = frozenset({"threshold", "alpha", "n_destinations", "insufficient_calibration", "unit", "options"})


@dataclass(frozen=True, slots=True)
class BeaconCalibration:
    """Score above which a destination is a beacon.

    Parameters
    ----------
    threshold : float or None
        In [0, 1]; None where no benign destinations support one.
    alpha : float
        Share of benign destinations allowed above it.
    n_destinations : int
        Distinct benign destinations behind it.
    insufficient_calibration : bool
        Whether they are too few for that share to be promised. The alarm is advisory then.
    options : BeaconOptions
        Settings of the scores that were calibrated.

    Raises
    ------
    ModelError
        A value is out of range, or there is no threshold and no insufficiency either.
    """

    threshold: float | None
    alpha: float
    n_destinations: int
    insufficient_calibration: bool
    options: BeaconOptions = field(default_factory=BeaconOptions)

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 0.5:
            raise ModelError(f"the beacon calibration's alpha is {self.alpha}, not in (0, 0.5)")
        if self.threshold is None and not self.insufficient_calibration:
            raise ModelError("the beacon calibration has no threshold and says that it is sufficient")
        if self.threshold is not None and not 0.0 <= self.threshold <= 1.0:
            raise ModelError(f"the beacon threshold is {self.threshold}, not in [0, 1]")
        if self.n_destinations < 0:
            raise ModelError(f"the beacon calibration counts {self.n_destinations} destinations")

    def to_json(self) -> dict[str, Any]:
        """Return the section as a JSON object."""
        return {
            "threshold": self.threshold,
            "alpha": self.alpha,
            "n_destinations": self.n_destinations,
            "insufficient_calibration": self.insufficient_calibration,
            "unit": UNIT,
            "options": asdict(self.options),
        }

    @classmethod
    def from_json(cls, value: Any) -> BeaconCalibration:
        """Read what `to_json` wrote.

        Raises
        ------
        ModelError
            A key is missing, unknown or malformed; the scores were made with other settings than this version's: the
            same number means nothing on another scale.
        """
        try:
            if value.keys() != _KEYS:
                raise ModelError(f"the beacon calibration has the keys {sorted(value)}, not {sorted(_KEYS)}")
            if value["unit"] != UNIT:
                raise ModelError(f"the beacon calibration is per {value['unit']!r}, not per {UNIT}")
            options = BeaconOptions(**value["options"])
            calibration = cls(
                threshold=None if value["threshold"] is None else _number(value["threshold"]),
                alpha=_number(value["alpha"]),
                n_destinations=_whole(value["n_destinations"]),
                insufficient_calibration=_flag(value["insufficient_calibration"]),
                options=options,
            )
        except (AttributeError, EstimatorInputError, OverflowError, TypeError, ValueError) as error:
            raise ModelError(f"the beacon calibration cannot be read: {error!r}") from error
        if options != BeaconOptions():
            raise ModelError(
                "the beacon threshold was calibrated with other settings than this version scores with",
                remedy="Calibrate the beacon score with this version: dvc repro beacons.",
            )
        return calibration


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no finite number")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is no count")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value
