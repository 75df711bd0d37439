"""How many process trees a host shows, and how many of them stand out by their shape alone.

A tree is a root below a session leader, with everything under it. It is seen in an hour if one of its processes starts
or one of its events is looked at closely, and counts once in that hour. It stands out if, at one of those events, the
shares of the five features of its shape alone would lift the classifier's score above the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.alert_builder import Scores
from eguard.detection.features import FEATURE_NAMES
from eguard.detection.model import Model

#: Features 27 to 31.
SHAPE_FEATURES: Final = (
    "tree_depth",
    "tree_breadth",
    "child_entropy",
    "spawn_rate",
    "rare_parent_child_score",
)
#: Trees and shapes remembered for an hour; what comes beyond is not counted.
MAX_TREES: Final = 8192
_SHAPE: Final = [FEATURE_NAMES.index(name) for name in SHAPE_FEATURES]
_HOUR_SECONDS: Final = 3600.0

Root = int | str


class TreeTally:
    """The counts of one host since it was made.

    Attributes
    ----------
    seen, anomalous : int
        Pairs of a tree and an hour.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.anomalous = 0
        self._hour = -math.inf
        self._seen: set[Root] = set()
        self._anomalous: set[Root] = set()
        self._judged: set[tuple[Root, bytes]] = set()

    def forget_times(self) -> None:
        """Begin a new hour, because the clock was set."""
        self._hour = -math.inf

    def count(self, time_unix: float, started: Iterable[Root], roots: Sequence[Root], scored: Scores) -> None:
        """Count the trees of a batch.

        Parameters
        ----------
        time_unix : float
            When the batch ended.
        started : iterable of int or str
            Roots of the processes that started.
        roots : sequence of int or str, length n
            Roots of the n candidates.
        scored : Scores
            Their feature rows and thresholds; without a model nothing is counted.
        """
        if scored.model is None:
            return
        hour = time_unix // _HOUR_SECONDS
        if hour > self._hour or hour < self._hour - 1.0:  # a late event of the hour before opens none
            self._hour = hour
            self._seen.clear()
            self._anomalous.clear()
            self._judged.clear()
        for root in (*started, *roots):
            if root not in self._seen and len(self._seen) < MAX_TREES:
                self._seen.add(root)
                self.seen += 1
        rows = self._new_shapes(roots, scored.features)
        if not rows:
            return
        thresholds = np.full(len(rows), scored.model.threshold)
        if scored.decision is not None:
            thresholds = scored.decision.threshold[rows]
        for row, is_odd in zip(rows, stands_out(scored.model, scored.features[rows], thresholds).tolist(), strict=True):
            if is_odd and roots[row] not in self._anomalous:
                self._anomalous.add(roots[row])
                self.anomalous += 1

    def _new_shapes(self, roots: Sequence[Root], features: NDArray[np.float64]) -> list[int]:
        """Return the rows worth a judgement: explaining a score costs, and most events of a tree find it as it was."""
        rows = []
        raw = features[:, _SHAPE].tobytes()  # one row after the other
        size = len(_SHAPE) * features.itemsize
        for row, root in enumerate(roots):
            if root in self._anomalous or root not in self._seen:
                continue
            shape = (root, raw[row * size : (row + 1) * size])
            if shape not in self._judged and len(self._judged) < MAX_TREES:
                self._judged.add(shape)
                rows.append(row)
        return rows


def stands_out(model: Model, features: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for each row whether the shape of its tree alone lifts the score above its threshold, shape (n,)."""
    shares, constant = model.contributions(features)
    with np.errstate(divide="ignore"):
        needed = np.where(thresholds < 1.0, np.log(thresholds) - np.log1p(-np.minimum(thresholds, 1.0)), np.inf)
    found: NDArray[np.bool_] = shares[:, _SHAPE].sum(axis=1) + constant > needed
    return found
