"""What a model learned about classes and rules: the values of features 7 and 41, which the model JSON carries.

Both are fitted from adjudications, so they belong to a model and not to the feature contract: the same event has
another value of feature 41 under another model. Rows come out of the extractor with zeros there; `FittedTables.apply`
fills them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.errors import ModelError
from eguard.events.model import N_EVENT_CLASSES

CLASS_RISK_INDEX: Final = 7
RULE_PRECISION_INDEX: Final = 41


@dataclass(frozen=True, slots=True)
class FittedTables:
    """Look-up tables of one model.

    Parameters
    ----------
    class_risk : tuple of float, length 8, in [0, 1]
        Smoothed share of attacks among adjudicated events of each event class.
    rule_precision : mapping of rule id to float in [0, 1]
        Smoothed share of true positives among earlier adjudications of the rule.
    rule_precision_default : float in [0, 1]
        For rules that nobody has adjudicated.

    Examples
    --------
    >>> tables = FittedTables((0.0,) * 7 + (0.5,), {"W-Acc-400": 0.6}, 0.1)
    >>> rows = tables.apply(np.zeros((2, 43)), [7, -1], ["W-Acc-400", "unheard of"])
    >>> rows[:, [7, 41]].tolist()
    [[0.5, 0.6], [0.0, 0.1]]
    """

    class_risk: tuple[float, ...]
    rule_precision: Mapping[str, float]
    rule_precision_default: float

    def apply(
        self, features: NDArray[np.float64], event_class: Sequence[int] | NDArray[Any], rule_ids: Sequence[str]
    ) -> NDArray[np.float64]:
        """Return a copy of `features` (n, 43) with columns 7 and 41 filled; uncounted events have class risk 0."""
        filled = features.copy()
        risk_by_class = np.array([*self.class_risk, 0.0])
        filled[:, CLASS_RISK_INDEX] = risk_by_class[np.asarray(event_class, dtype=np.intp)]
        look_up, default = self.rule_precision.get, self.rule_precision_default
        filled[:, RULE_PRECISION_INDEX] = [look_up(rule, default) for rule in rule_ids]
        return filled

    def to_json(self) -> dict[str, Any]:
        """Return the form that the model JSON carries."""
        return {
            "class_risk": list(self.class_risk),
            "rule_precision": dict(sorted(self.rule_precision.items())),
            "rule_precision_default": self.rule_precision_default,
        }

    @classmethod
    def from_json(cls, value: Any) -> FittedTables:
        """Read the tables of a model JSON.

        Raises
        ------
        ModelError
            A part is missing or a value lies outside [0, 1].
        """
        try:
            tables = cls(
                tuple(float(risk) for risk in value["class_risk"]),
                {str(rule): float(share) for rule, share in value["rule_precision"].items()},
                float(value["rule_precision_default"]),
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ModelError(f"the model's tables cannot be read: {error!r}") from error
        if len(tables.class_risk) != N_EVENT_CLASSES:
            raise ModelError(f"class_risk has {len(tables.class_risk)} values, not {N_EVENT_CLASSES}")
        for share in (*tables.class_risk, *tables.rule_precision.values(), tables.rule_precision_default):
            if not (math.isfinite(share) and 0.0 <= share <= 1.0):
                raise ModelError(f"the model's tables hold {share}, which is no share")
        return tables
