"""Gradient-boosted trees as flat arrays: scored and explained without a machine-learning library.

All trees are padded into matrices of shape (n_trees, n_nodes), and all rows walk all trees one level at a time. A leaf
points to itself, so a row that has arrived stays. Splits send ``x <= threshold`` to the left, as scikit-learn does.

Contributions are exact path-dependent Shapley values. For one leaf with the features D on its path, a coalition S
follows the row's own branches for features in S and spreads over both by training cover otherwise, so the leaf's worth
is ``value * prod(one_i for i in S) * prod(zero_i for i not in S)``; the sum over coalitions is read off the
coefficients of ``prod(zero_j + one_j t)``.

References
----------
Lundberg et al. (2020), From local explanations to global understanding with explainable AI for trees, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.errors import ModelError

_LEAF: Final = -1
_BLOCK_ROWS: Final = 4096
_COLUMNS: Final = ("feature", "threshold", "left", "right", "value", "cover")


@dataclass(frozen=True, slots=True)
class _Condition:
    """What one feature must satisfy on the way to a leaf: low < x <= high; `zero` is the cover share of that way."""

    feature: int
    low: float
    high: float
    zero: float


@dataclass(frozen=True, slots=True)
class _Leaf:
    value: float
    conditions: tuple[_Condition, ...]


class TreeEnsemble:
    """A sum of regression trees over `n_features` features, with a constant `baseline`.

    Parameters
    ----------
    trees : list of dict
        Each with equally long lists ``feature`` (-1 at leaves), ``threshold``, ``left``, ``right``, ``value`` and
        ``cover`` (training rows that reached the node).
    baseline : float
        Raw prediction before any tree.
    n_features : int
        Width of the rows.

    Raises
    ------
    ModelError
        A tree is malformed: lengths differ, a child lies before its parent (so that a walk might not end), a feature
        or number is out of range.

    Examples
    --------
    >>> stump = {"feature": [0, -1, -1], "threshold": [0.5, 0, 0], "left": [1, 0, 0], "right": [2, 0, 0],
    ...          "value": [0, -1.0, 1.0], "cover": [4, 3, 1]}
    >>> trees = TreeEnsemble([stump], baseline=0.25, n_features=2)
    >>> trees.predict(np.array([[0.5, 9.0], [0.6, 9.0]])).tolist()
    [-0.75, 1.25]
    >>> contributions, expected = trees.contributions(np.array([[0.6, 9.0]]))
    >>> contributions.tolist(), expected
    ([[1.5, 0.0]], -0.25)
    """

    def __init__(self, trees: list[dict[str, Any]], baseline: float, n_features: int) -> None:
        if not trees:
            raise ModelError("the ensemble has no trees")
        if not np.isfinite(baseline):
            raise ModelError(f"the ensemble's baseline is {baseline}")
        self.n_features = n_features
        self.baseline = float(baseline)
        arrays = [_read_tree(tree, index, n_features) for index, tree in enumerate(trees)]
        width = max(len(tree["value"]) for tree in arrays)
        shape = (len(arrays), width)
        self._feature = np.zeros(shape, np.intp)
        self._threshold = np.full(shape, np.inf)
        self._left = np.zeros(shape, np.intp)
        self._right = np.zeros(shape, np.intp)
        self._value = np.zeros(shape)
        self._depth = 0
        self._leaves: list[_Leaf] = []
        for row, tree in enumerate(arrays):
            size = len(tree["value"])
            leaf = tree["feature"] == _LEAF
            own = np.arange(size)
            self._feature[row, :size] = np.where(leaf, 0, tree["feature"])
            self._threshold[row, :size] = np.where(leaf, np.inf, tree["threshold"])
            self._left[row, :size] = np.where(leaf, own, tree["left"])
            self._right[row, :size] = np.where(leaf, own, tree["right"])
            self._value[row, :size] = tree["value"]
            leaves, depth = _leaves_of(tree)
            self._leaves += leaves
            self._depth = max(self._depth, depth)
        self.expected_value = self.baseline + sum(
            leaf.value * float(np.prod([condition.zero for condition in leaf.conditions])) for leaf in self._leaves
        )

    def __len__(self) -> int:
        return self._value.shape[0]

    def predict(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the raw prediction (logit) of each row, shape (n,)."""
        result = np.empty(len(rows))
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = rows[start : start + _BLOCK_ROWS]
            result[start : start + len(block)] = self._predict_block(block)
        return result

    def _predict_block(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        n_trees, width = self._value.shape
        offset = (np.arange(n_trees) * width)[None, :]
        feature, threshold = self._feature.ravel(), self._threshold.ravel()
        left, right = self._left.ravel(), self._right.ravel()
        row = np.arange(len(block))[:, None]
        node = np.broadcast_to(offset, (len(block), n_trees)).copy()
        for _ in range(self._depth):
            goes_left = block[row, feature[node]] <= threshold[node]
            node = np.where(goes_left, left[node], right[node]) + offset
        result: NDArray[np.float64] = self.baseline + self._value.ravel()[node].sum(axis=1)
        return result

    def contributions(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """Return Shapley values (n, n_features) and the expected prediction; their sum is `predict`.

        Cost grows with rows times leaves times the squared number of features on a path: meant for alerts, not for
        every event.
        """
        result = np.zeros((len(rows), self.n_features))
        for leaf in self._leaves:
            count = len(leaf.conditions)
            ones = [
                ((rows[:, c.feature] > c.low) & (rows[:, c.feature] <= c.high)).astype(np.float64)
                for c in leaf.conditions
            ]
            for index, condition in enumerate(leaf.conditions):
                polynomial = np.zeros((count, len(rows)))
                polynomial[0] = 1.0
                others = [other for other in range(count) if other != index]
                for degree, other in enumerate(others, start=1):
                    shifted = np.zeros_like(polynomial)
                    shifted[1 : degree + 1] = polynomial[:degree] * ones[other]
                    polynomial = polynomial * leaf.conditions[other].zero + shifted
                weights = [factorial(size) * factorial(count - size - 1) / factorial(count) for size in range(count)]
                share = np.tensordot(weights, polynomial, axes=1)
                result[:, condition.feature] += leaf.value * (ones[index] - condition.zero) * share
        return result, self.expected_value


def _read_tree(tree: dict[str, Any], index: int, n_features: int) -> dict[str, NDArray[Any]]:
    """Check one tree and return its columns as arrays."""
    try:
        columns = {name: np.asarray(tree[name], np.float64) for name in _COLUMNS}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"tree {index} cannot be read: {error!r}") from error
    sizes = {len(column) if column.ndim == 1 else -1 for column in columns.values()}
    if len(sizes) != 1 or sizes & {0, -1}:
        raise ModelError(f"tree {index}: its columns are not lists of one length")
    if not all(np.isfinite(column).all() for column in columns.values()):
        raise ModelError(f"tree {index} holds a number that is not finite")
    size = sizes.pop()
    result: dict[str, NDArray[Any]] = dict(columns)
    for name in ("feature", "left", "right"):
        result[name] = columns[name].astype(np.intp)
    inner = result["feature"] != _LEAF
    own = np.arange(size)
    if ((result["feature"] < _LEAF) | (result["feature"] >= n_features)).any():
        raise ModelError(f"tree {index} asks for a feature that does not exist")
    for side in ("left", "right"):
        child = result[side]
        if (inner & ((child <= own) | (child >= size))).any():
            raise ModelError(f"tree {index}: a child does not come after its parent")
    if (result["cover"] < 0).any() or (inner & (result["cover"] <= 0)).any():
        raise ModelError(f"tree {index}: a split that no training row reached")
    return result


def _leaves_of(tree: dict[str, NDArray[Any]]) -> tuple[list[_Leaf], int]:
    """Return every leaf with the merged conditions of its path, and the tree's depth."""
    leaves: list[_Leaf] = []
    deepest = 0
    stack: list[tuple[int, int, dict[int, _Condition]]] = [(0, 0, {})]
    while stack:
        node, depth, path = stack.pop()
        feature = int(tree["feature"][node])
        if feature == _LEAF:
            leaves.append(_Leaf(float(tree["value"][node]), tuple(path[key] for key in sorted(path))))
            deepest = max(deepest, depth)
            continue
        known = path.get(feature, _Condition(feature, -np.inf, np.inf, 1.0))
        threshold, cover = float(tree["threshold"][node]), float(tree["cover"][node])
        for side in ("right", "left"):
            child = int(tree[side][node])
            share = known.zero * float(tree["cover"][child]) / cover
            low, high = (
                (known.low, min(known.high, threshold)) if side == "left" else (max(known.low, threshold), known.high)
            )
            stack.append((child, depth + 1, {**path, feature: _Condition(feature, low, high, share)}))
    return leaves, deepest
