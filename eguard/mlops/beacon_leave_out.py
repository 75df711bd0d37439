"""Leave one capture out: settings chosen on the other captures, tried on the one that they never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np

from eguard.estimators.beacon import BeaconOptions
from eguard.mlops.beacon_calibration import Reading, threshold_of
from eguard.mlops.beacon_comparison import TABLE_READINGS, LabelledData, MethodScores, composite_scores

#: Weights of timer, symmetry, size and counts that are tried besides the fixed ones.
_WEIGHTS: Final = (
    (0.25, 0.25, 0.25, 0.25),
    (0.60, 0.10, 0.20, 0.10),
    (0.45, 0.25, 0.10, 0.20),
    (0.30, 0.10, 0.45, 0.15),
)
_BURSTS_SECONDS: Final = (0.0, 1.0, 5.0)


def settings_grid(fixed: BeaconOptions) -> list[BeaconOptions]:
    """Return the settings that are tried: the fixed ones first, then other weights and lengths of a burst."""
    weights = [(fixed.weight_timer, fixed.weight_symmetry, fixed.weight_size, fixed.weight_counts), *_WEIGHTS]
    bursts = [fixed.burst_seconds, *(seconds for seconds in _BURSTS_SECONDS if seconds != fixed.burst_seconds)]
    return [
        replace(
            fixed,
            burst_seconds=seconds,
            weight_timer=timer,
            weight_symmetry=symmetry,
            weight_size=size,
            weight_counts=counts,
        )
        for seconds in bursts
        for timer, symmetry, size, counts in weights
    ]


def leave_one_capture_out(data: LabelledData, fixed: BeaconOptions, alpha: float) -> dict[str, Any]:
    """Choose settings without each capture in turn, and report what they make of it, beside the fixed settings.

    The best settings find most channels of the other captures, each at the conformal threshold of its own; among
    equals the largest mean margin over the threshold decides, then the order of the grid. Benign hosts that check are
    not looked at. One entry a reading of the false-alarm rate.
    """
    grid = settings_grid(fixed)
    scores = [composite_scores(data, options) for options in grid]
    return {reading: _choose(data, grid, scores, alpha, reading) for reading in TABLE_READINGS}


def _choose(
    data: LabelledData, grid: Sequence[BeaconOptions], scored: Sequence[MethodScores], alpha: float, reading: Reading
) -> dict[str, Any]:
    tried = [
        (scores, threshold_of(scores.benign.take(data.is_calibrating), alpha, reading).threshold) for scores in scored
    ]
    names = np.array(data.channel_names())
    rows = []
    for capture in sorted(set(names.tolist())):
        others, own = names != capture, names == capture
        ranked = max(range(len(grid)), key=lambda index: (*_merit(tried[index], others), -index))
        scores, threshold = tried[ranked]
        fixed_scores, fixed_threshold = tried[0]
        rows.append(
            {
                "capture": capture,
                "chosen": asdict(grid[ranked]),
                "is_fixed_setting": ranked == 0,
                "threshold": threshold if np.isfinite(threshold) else None,
                "score": float(scores.channels[own].max()),
                "is_found": bool((scores.channels[own] > threshold).any()),
                "fixed_threshold": fixed_threshold if np.isfinite(fixed_threshold) else None,
                "fixed_score": float(fixed_scores.channels[own].max()),
                "is_found_by_fixed": bool((fixed_scores.channels[own] > fixed_threshold).any()),
            }
        )
    return {
        "n_settings": len(grid),
        "captures": rows,
        "n_found": sum(row["is_found"] for row in rows),
        "n_found_by_fixed": sum(row["is_found_by_fixed"] for row in rows),
        "n_captures": len(rows),
        "settings": [
            asdict(options) | {"threshold": threshold if np.isfinite(threshold) else None, "n_found": int(merit)}
            for options, (scores, threshold) in zip(grid, tried, strict=True)
            for merit in [np.count_nonzero(scores.channels > threshold)]
        ],
    }


def _merit(result: tuple[MethodScores, float], chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[int, float]:
    """Return how many of some channels settings find, and their mean margin."""
    scores, threshold = result
    if not np.isfinite(threshold) or not chosen.any():
        return 0, 0.0
    margin = scores.channels[chosen] - threshold
    return int(np.count_nonzero(margin > 0.0)), float(margin.mean())
