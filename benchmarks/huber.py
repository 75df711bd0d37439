"""Robust location: median, trimmed mean, scale and Huber's estimate of every column, against statsmodels.

Two peers, and they answer different questions. ``estimate_location`` is the same estimator with the scale given: it is
spared the scale, the median and the trimmed mean, which ours computes as well. ``RLM`` estimates the scale anew in
every iteration and is the estimator that most users reach for; it fits one column at a time, so that a sample of
columns is timed. One core each; turns alternate and the best of each counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import statsmodels.api as sm
from statsmodels.robust.norms import HuberT, estimate_location

from eguard.estimators import robust_summary

SHAPES = ((10_000, 400), (100, 40_000))
RLM_COLUMNS = 40
SEED = 20260301
TURNS = 4
TARGET_LIKE_FOR_LIKE = 6.0
TARGET_RLM = 40.0
TARGET_RATE = 40.0


def run() -> list[dict[str, Any]]:
    """Return rates in million values a second; the targets are set for 10,000 agents x 400 columns."""
    rows = []
    for agents, columns in SHAPES:
        x = np.random.default_rng(SEED).normal(0.5, 0.1, size=(agents, columns))
        scale = robust_summary(x).scale
        ours, same, rlm = _alternate(x, scale)
        large = agents == SHAPES[0][0]
        size = f"{agents:,} x {columns:,}"
        rows += [
            _row(f"robust summary {size} / estimate_location", ours, same, TARGET_LIKE_FOR_LIKE if large else None),
            _row(f"robust summary {size} / RLM", ours, rlm, TARGET_RLM if large else None),
        ]
        if large:
            rows.append(_row(f"robust summary {size}, 1 thread", ours, None, None) | {"target": TARGET_RATE})
    return rows


def _alternate(x: np.ndarray, scale: np.ndarray) -> tuple[float, float, float]:
    few = np.ascontiguousarray(x[:, :RLM_COLUMNS])
    works: list[tuple[Callable[[], Any], int]] = [
        (lambda: robust_summary(x).huber, x.size),
        (lambda: estimate_location(x, scale, HuberT(1.345), axis=0), x.size),
        (lambda: _rlm(few), few.size),
    ]
    best = [float("inf")] * len(works)
    results: list[Any] = [None] * len(works)
    for _ in range(TURNS):
        for index, (work, _) in enumerate(works):
            started = time.perf_counter()
            results[index] = work()
            best[index] = min(best[index], time.perf_counter() - started)
    np.testing.assert_allclose(results[0], results[1], atol=1e-5 * float(scale.max()))
    ours, same, rlm = (size / seconds / 1e6 for (_, size), seconds in zip(works, best, strict=True))
    return ours, same, rlm


def _rlm(x: np.ndarray) -> np.ndarray:
    ones = np.ones(len(x))
    return np.array([sm.RLM(column, ones, M=sm.robust.norms.HuberT(1.345)).fit().params[0] for column in x.T])


def _row(name: str, ours: float, peer: float | None, target: float | None) -> dict[str, Any]:
    ratio = None if peer is None else ours / peer
    return {"name": name, "ours": ours, "peer": peer, "unit": "M values/s", "ratio": ratio, "target_ratio": target}


if __name__ == "__main__":
    for row in run():
        print(row)
