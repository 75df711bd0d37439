"""The nodes of one regression tree as they stand in a model JSON: read, checked, and walked into leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.errors import ModelError

LEAF: Final = -1
#: The leaves of a tree are the bits of one machine word.
MAX_LEAVES: Final = 64
#: Logits lie between -40 and 40; whatever is larger than this was not fitted.
MAX_MAGNITUDE: Final = 1e9
_COLUMNS: Final = ("feature", "threshold", "left", "right", "value", "cover")


@dataclass(frozen=True, slots=True)
class Condition:
    """What one feature must satisfy on the way to a leaf: low < x <= high; `zero` is the cover share of that way."""

    feature: int
    low: float
    high: float
    zero: float


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf's value and the conditions on the way to it, one for each feature asked."""

    value: float
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """An inner node: ``x[feature] <= threshold`` goes left. `left_leaves` are the bits of the leaves on that side."""

    feature: int
    threshold: float
    left_leaves: int


@dataclass(frozen=True, slots=True)
class Tree:
    """A checked tree: its leaves from left to right, and its splits."""

    leaves: tuple[Leaf, ...]
    splits: tuple[Split, ...]


def read_tree(tree: dict[str, Any], index: int, n_features: int) -> Tree:
    """Return one tree of a model JSON.

    Parameters
    ----------
    tree : dict
        Equally long lists ``feature`` (-1 at leaves), ``threshold``, ``left``, ``right``, ``value`` and ``cover``
        (training rows that reached the node).
    index : int
        Its position, for error messages.
    n_features : int
        Width of the rows.

    Raises
    ------
    ModelError
        The tree is malformed: lengths differ, a child lies before its parent (so that a walk might not end) or has two
        parents, a number is out of range, the children's covers do not make up their parent's, or there are more than
        64 leaves.
    """
    columns = _read_columns(tree, index)
    _check(columns, index, n_features)
    leaves: list[Leaf] = []
    splits: list[Split] = []
    # Depth first with the left side on top: leaves come from left to right. A split is closed by the entry (node, None)
    # that lies between its two sides, when exactly the leaves of its left side have been added since it was opened.
    stack: list[tuple[int, dict[int, Condition] | None, int]] = [(0, {}, 0)]
    while stack:
        node, path, opened = stack.pop()
        feature, threshold = int(columns["feature"][node]), float(columns["threshold"][node])
        if path is None:
            splits.append(Split(feature, threshold, (1 << len(leaves)) - (1 << opened)))
        elif feature == LEAF:
            leaves.append(Leaf(float(columns["value"][node]), tuple(path[key] for key in sorted(path))))
        else:
            left, right = int(columns["left"][node]), int(columns["right"][node])
            known = path.get(feature, Condition(feature, -np.inf, np.inf, 1.0))
            share = float(columns["cover"][left] / columns["cover"][node])
            below = Condition(feature, known.low, min(known.high, threshold), known.zero * share)
            above = Condition(feature, max(known.low, threshold), known.high, known.zero * (1.0 - share))
            stack.append((right, {**path, feature: above}, 0))
            stack.append((node, None, len(leaves)))
            stack.append((left, {**path, feature: below}, 0))
    return Tree(tuple(leaves), tuple(splits))


def is_sane(numbers: NDArray[np.float64] | float) -> bool:
    """Tell whether all numbers are finite and so small that sums of them neither overflow nor drown each other."""
    return bool(np.all(np.abs(numbers) <= MAX_MAGNITUDE))


def _read_columns(tree: dict[str, Any], index: int) -> dict[str, NDArray[np.float64]]:
    try:
        columns = {name: np.asarray(tree[name], np.float64) for name in _COLUMNS}
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise ModelError(f"tree {index} cannot be read: {error!r}") from error
    sizes = {len(column) if column.ndim == 1 else -1 for column in columns.values()}
    if len(sizes) != 1 or sizes & {0, -1}:
        raise ModelError(f"tree {index}: its columns are not lists of one length")
    if not all(is_sane(column) for column in columns.values()):
        raise ModelError(f"tree {index} holds a number that is not finite, or that no fit gives")
    return columns


def _check(columns: dict[str, NDArray[np.float64]], index: int, n_features: int) -> None:
    feature, cover = columns["feature"], columns["cover"]
    size = len(feature)
    if ((feature < LEAF) | (feature >= n_features) | (feature != np.floor(feature))).any():
        raise ModelError(f"tree {index} asks for a feature that does not exist")
    if np.count_nonzero(feature == LEAF) > MAX_LEAVES:
        raise ModelError(f"tree {index} has more than {MAX_LEAVES} leaves", remedy="Train with fewer leaves a tree.")
    inner = np.flatnonzero(feature != LEAF)
    sides = [columns[side][inner] for side in ("left", "right")]
    for child in sides:
        if ((child <= inner) | (child >= size) | (child != np.floor(child))).any():
            raise ModelError(f"tree {index}: a child does not come after its parent")
    if sorted(np.concatenate(sides).tolist()) != list(range(1, size)):
        raise ModelError(f"tree {index}: a node has not exactly one parent")
    if (cover <= 0).any():
        raise ModelError(f"tree {index}: a node that no training row reached")
    left, right = (cover[child.astype(np.intp)] for child in sides)
    if not np.allclose(left + right, cover[inner], rtol=1e-9, atol=0.0):
        raise ModelError(f"tree {index}: the covers of two children do not make up their parent's")
