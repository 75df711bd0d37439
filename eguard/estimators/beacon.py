"""How regularly a host contacts a destination: the settings of the beacon score."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eguard.errors import EstimatorInputError


@dataclass(frozen=True, slots=True)
class BeaconOptions:
    """Settings of the beacon score, fixed before any labelled capture is read.

    Parameters
    ----------
    min_observations : int
        Fewer contacts are not scored.
    max_observations : int
        Of more contacts the last so many count.
    burst_seconds : float
        Contacts closer than this are one burst, which stands for a single contact in the second of the two views.
    min_span_seconds : float
        A view is scored if so much time lies between its first and its last contact.
    weight_timer, weight_symmetry, weight_size, weight_counts : float
        Weights of the four parts; they sum to 1.

    Raises
    ------
    EstimatorInputError
        A setting is out of range.
    """

    min_observations: int = 20
    max_observations: int = 256
    burst_seconds: float = 1.0
    min_span_seconds: float = 120.0
    weight_timer: float = 0.40
    weight_symmetry: float = 0.20
    weight_size: float = 0.25
    weight_counts: float = 0.15

    def __post_init__(self) -> None:
        if self.min_observations < 4:
            raise EstimatorInputError("min_observations", f"must be at least 4, got {self.min_observations}")
        if self.max_observations < self.min_observations:
            raise EstimatorInputError(
                "max_observations", f"must be at least {self.min_observations}, got {self.max_observations}"
            )
        for name in ("burst_seconds", "min_span_seconds"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise EstimatorInputError(name, f"must be finite and not negative, got {value}")
        weights = (self.weight_timer, self.weight_symmetry, self.weight_size, self.weight_counts)
        if min(weights) < 0.0 or not math.isclose(math.fsum(weights), 1.0, abs_tol=1e-9):
            raise EstimatorInputError("weight_timer", f"the weights must be non-negative and sum to 1, got {weights}")
