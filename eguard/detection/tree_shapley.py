"""Exact Shapley values of boosted trees, by integration.

For a leaf whose path asks the features D, a coalition S follows the row's own way for features in S and spreads over
both ways by training cover otherwise, so the leaf is worth ``value * prod(o_j for j in S) * prod(z_j for j not in S)``:
o_j is 1 if the row meets the leaf's condition on j, z_j the share of training rows that do. With the Shapley weight
written as an integral, ``|S|! (d-|S|-1)! / d! = integral of t^|S| (1-t)^(d-1-|S|) over [0, 1]``, the sum over
coalitions becomes

    phi_i = value * (o_i - z_i) * integral of prod(z_j (1-t) + o_j t for j in D without i) dt

The integrand is a polynomial of degree d - 1, which Gauss and Legendre integrate exactly with ceil(d/2) points. All
factors are positive, so leaving one out is a division, and nothing cancels.

References
----------
Lundberg et al. (2020), From local explanations to global understanding with explainable AI for trees, algorithm 1.
Yu et al. (2022), Linear TreeShap (coalitions as a polynomial).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.tree_nodes import Condition, Leaf

#: Numbers held at once in each temporary array.
_BLOCK_NUMBERS: Final = 1 << 20

Rows = NDArray[np.float64]


class LeafShapley:
    """Shapley values of the sum of all leaves' values that a row reaches.

    Parameters
    ----------
    leaves : sequence of Leaf
        Of all trees together.
    n_features : int
        Width of the rows.

    Examples
    --------
    >>> low, high = Condition(0, -np.inf, 0.5, 0.75), Condition(0, 0.5, np.inf, 0.25)
    >>> shapley = LeafShapley([Leaf(-1.0, (low,)), Leaf(1.0, (high,))], n_features=2)
    >>> shapley.expected_value, shapley.values(np.array([[0.6, 9.0]])).round(12).tolist()
    (-0.5, [[1.5, 0.0]])
    """

    def __init__(self, leaves: Sequence[Leaf], n_features: int) -> None:
        self._n_features = n_features
        self._groups = [
            _LeafGroup([leaf for leaf in leaves if len(leaf.conditions) == depth])
            for depth in sorted({len(leaf.conditions) for leaf in leaves} - {0})
        ]
        self.expected_value = float(sum(leaf.value * np.prod([c.zero for c in leaf.conditions]) for leaf in leaves))

    def values(self, rows: Rows) -> Rows:
        """Return each feature's share of each row, shape (n, n_features); with `expected_value` they sum up."""
        result = np.zeros((len(rows), self._n_features))
        for group in self._groups:
            block = max(_BLOCK_NUMBERS // group.feature.size, 1)
            for start in range(0, len(rows), block):
                group.add_to(result[start : start + block], rows[start : start + block])
        return result


class _LeafGroup:
    """Leaves whose paths ask the same number d of features, as arrays of shape (n_leaves, d)."""

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        conditions: list[tuple[Condition, ...]] = [leaf.conditions for leaf in leaves]
        self.value = np.array([leaf.value for leaf in leaves])
        self.feature = np.array([[c.feature for c in row] for row in conditions], np.intp)
        self.low = np.array([[c.low for c in row] for row in conditions])
        self.high = np.array([[c.high for c in row] for row in conditions])
        self.zero = np.array([[c.zero for c in row] for row in conditions])
        points, weights = np.polynomial.legendre.leggauss((self.feature.shape[1] + 1) // 2)
        self.points, self.weights = (points + 1.0) / 2.0, weights / 2.0

    def add_to(self, result: Rows, rows: Rows) -> None:
        """Add the Shapley values of `rows` to `result`, both (n, n_features)."""
        asked = rows[:, self.feature]
        met = ((asked > self.low) & (asked <= self.high)).astype(np.float64)
        integral = np.zeros_like(met)
        for point, weight in zip(self.points.tolist(), self.weights.tolist(), strict=True):
            factor = self.zero * (1.0 - point) + met * point
            integral += weight * factor.prod(axis=2, keepdims=True) / factor
        shares = self.value[:, None] * (met - self.zero) * integral
        n, width = result.shape
        cells = np.arange(n)[:, None, None] * width + self.feature
        result += np.bincount(cells.ravel(), shares.ravel(), minlength=n * width).reshape(n, width)
