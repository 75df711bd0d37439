"""Features 7 and 41, fitted from adjudications without ever asking a row's own unit.

What share of a rule's alerts were attacks is the strongest hint a classifier of alerts has, and the easiest to leak. So
a row is given the share among adjudications of *other* units (`Dataset.units`: networks, or hosts of a single network),
in training and in scoring alike. Networks are separate sites here, each with its own adjudications:

* ``separate_sites``: every other training unit counts, whenever it was observed, as if each site joined a fleet whose
  other sites had been adjudicated before. This is how a new network meets a shipped model.
* ``calendar``: only units whose adjudications were complete before the row's unit was first observed. The first unit
  then has no prior at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from eguard.detection.fitted_tables import CLASS_RISK_INDEX, RULE_PRECISION_INDEX, FittedTables
from eguard.events import N_EVENT_CLASSES
from eguard.mlops.dataset import Dataset

PriorOrder = Literal["separate_sites", "calendar"]
#: Adjudications at which a unit's own share of a rule weighs half.
HALF_WEIGHT_COUNT: Final = 10.0
#: Weight, in units, of the share among all rules.
BASE_WEIGHT_UNITS: Final = 1.0
#: Without any adjudication nothing is known.
UNKNOWN_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class _UnitShares:
    """Sums over units that a smoothed share is made of: by unit and key, and by unit."""

    weighted_share: NDArray[np.float64]
    weight: NDArray[np.float64]
    base: NDArray[np.float64]
    has_rows: NDArray[np.float64]

    def smoothed(self, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the smoothed share of each key as seen from each unit, shape (n_views, n_keys).

        Parameters
        ----------
        allowed : ndarray of bool, shape (n_views, n_units)
            Whose adjudications each view may use.
        """
        view = allowed.astype(np.float64)
        units = view @ self.has_rows
        base = np.where(units > 0.0, view @ self.base / np.maximum(units, 1.0), UNKNOWN_SHARE)[:, np.newaxis]
        shares: NDArray[np.float64] = (view @ self.weighted_share + BASE_WEIGHT_UNITS * base) / (
            view @ self.weight + BASE_WEIGHT_UNITS
        )
        return shares


class FittedFeatures:
    """Shares of attacks by rule and by event class, from the adjudications of some rows.

    Parameters
    ----------
    data : Dataset
        All rows.
    rows : ndarray of bool, shape (n,)
        Rows whose labels may be used: the training rows.
    order : {"separate_sites", "calendar"}
        Which units' adjudications a unit may use; see the module.

    Notes
    -----
    A rule's share is the mean of the units' shares, each weighted by n/(n + 10) for its n adjudications, and drawn
    towards the mean share of all rules with the weight of one unit: a rule that one unit alone knows is half believed,
    and a flood of one unit weighs no more than that unit.
    """

    def __init__(self, data: Dataset, rows: NDArray[np.bool_], order: PriorOrder = "separate_sites") -> None:
        self._data = data
        usable = rows & (data.labels >= 0)
        self._rules = _unit_shares(data, usable, data.rules, len(data.names.rules))
        counted = usable & (data.event_class >= 0)
        self._classes = _unit_shares(data, counted, data.event_class.astype(np.intp), N_EVENT_CLASSES)
        n_units = len(data.names.units)
        members = np.zeros(n_units, np.bool_)
        members[np.unique(data.units[usable])] = True
        self._members = members
        self._allowed = members & ~np.eye(n_units, dtype=np.bool_)
        if order == "calendar":
            self._allowed &= _known_before(data, usable, n_units)

    def fill(self, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return a copy of the features of `rows` with columns 7 and 41 as seen from each row's unit."""
        data = self._data
        features = data.features[rows]
        units = data.units[rows]
        features[:, RULE_PRECISION_INDEX] = self._rules.smoothed(self._allowed)[units, data.rules[rows]]
        risk = np.column_stack([self._classes.smoothed(self._allowed), np.zeros(len(self._allowed))])
        features[:, CLASS_RISK_INDEX] = risk[units, data.event_class[rows]]
        return features

    def tables(self) -> FittedTables:
        """Return the tables as a new unit sees them: what the model JSON ships."""
        everyone = self._members[np.newaxis, :]
        precision = self._rules.smoothed(everyone)[0]
        known = self._rules.weight.sum(axis=0) > 0.0
        unheard_of = np.zeros((len(everyone[0]), 1))
        default = _UnitShares(unheard_of, unheard_of, self._rules.base, self._rules.has_rows).smoothed(everyone)
        return FittedTables(
            class_risk=tuple(self._classes.smoothed(everyone)[0].tolist()),
            rule_precision={
                name: float(precision[code]) for code, name in enumerate(self._data.names.rules) if known[code]
            },
            rule_precision_default=float(default[0, 0]),
        )


def _unit_shares(data: Dataset, rows: NDArray[np.bool_], keys: NDArray[np.intp], n_keys: int) -> _UnitShares:
    n_units = len(data.names.units)
    cell = data.units[rows] * n_keys + keys[rows]
    attack = (data.labels[rows] == 1).astype(np.float64)
    total = np.bincount(cell, minlength=n_units * n_keys).reshape(n_units, n_keys).astype(np.float64)
    attacks = np.bincount(cell, attack, n_units * n_keys).reshape(n_units, n_keys)
    share = attacks / np.maximum(total, 1.0)
    weight = total / (total + HALF_WEIGHT_COUNT)
    rows_of_unit = total.sum(axis=1)
    return _UnitShares(
        weighted_share=weight * share,
        weight=weight,
        base=attacks.sum(axis=1) / np.maximum(rows_of_unit, 1.0),
        has_rows=(rows_of_unit > 0.0).astype(np.float64),
    )


def _known_before(data: Dataset, rows: NDArray[np.bool_], n_units: int) -> NDArray[np.bool_]:
    """Return by unit whose adjudications were complete when it was first observed, shape (n_units, n_units)."""
    first = np.full(n_units, np.inf)
    np.minimum.at(first, data.units, data.time_unix)
    complete = np.full(n_units, -np.inf)
    np.maximum.at(complete, data.units[rows], data.adjudicated_unix[rows])
    known: NDArray[np.bool_] = complete[np.newaxis, :] <= first[:, np.newaxis]
    return known
