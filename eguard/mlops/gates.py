"""Thresholds that a model has to meet before it may be promoted, and what a report says of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Gate:
    """One threshold and whether it was met.

    Parameters
    ----------
    name : str
        What was measured.
    value : float or None
        None when it could not be measured, which is a miss.
    rule : str
        ``>=`` or ``<=``.
    threshold : float
        What was asked for.
    """

    name: str
    value: float | None
    rule: str
    threshold: float

    @property
    def passed(self) -> bool:
        """Whether the value is on the right side; a missing value is not.

        Examples
        --------
        >>> Gate("roc_auc", 0.9, ">=", 0.82).passed, Gate("ece", None, "<=", 0.1).passed
        (True, False)
        """
        if self.value is None:
            return False
        return self.value >= self.threshold if self.rule == ">=" else self.value <= self.threshold

    def to_json(self) -> dict[str, Any]:
        """Return the gate as a report shows it."""
        return {**asdict(self), "passed": self.passed}


def missed(gates: list[Gate]) -> str:
    """Return one sentence part naming every gate that was missed; empty if none was.

    Examples
    --------
    >>> missed([Gate("roc_auc", 0.8, ">=", 0.82), Gate("brier", 0.1, "<=", 0.2)])
    'roc_auc is 0.8, asked >= 0.82'
    """
    return "; ".join(
        f"{gate.name} is {'not measurable' if gate.value is None else f'{gate.value:.4g}'}, "
        f"asked {gate.rule} {gate.threshold:g}"
        for gate in gates
        if not gate.passed
    )
