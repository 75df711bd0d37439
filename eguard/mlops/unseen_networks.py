"""Leave one network out: every network scored by a model that was fitted to the others and to nothing of it.

The question is how the procedure does on a network it has never met, so everything is fitted anew for each: features 7
and 41, the classifier, and (on the other networks' left-out scores) the calibration and the operating point. Only the
hyperparameters are shared; they were chosen by cross-validation that had some of these networks among its folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.mlops.baselines import RuleLogistic, severity_scores
from eguard.mlops.classifiers import Specification
from eguard.mlops.dataset import Dataset
from eguard.mlops.intervals import Estimate, HostSample, bootstrap_hosts
from eguard.mlops.metrics import average_precision
from eguard.mlops.model_selection import (
    FittingOptions,
    calibration_rows,
    fit_model,
    fit_platt,
    operating_point,
    probability_of,
)
from eguard.mlops.splits import Mask

Floats = NDArray[np.float64]

#: Models fitted side by side; the result does not depend on it.
_FITS_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class UnseenScores:
    """Scores of left-out networks.

    Parameters
    ----------
    units : tuple of int
        The networks, as unit codes.
    raw_logit, probability : ndarray of shape (n,)
        NaN outside these networks.
    thresholds : dict of int to float
        Operating point of each network, chosen on the others.
    """

    units: tuple[int, ...]
    raw_logit: Floats
    probability: Floats
    thresholds: dict[int, float] = field(default_factory=dict)


def networks_to_leave_out(data: Dataset, sources: Sequence[str], min_attacks: int) -> tuple[int, ...]:
    """Return the units of the given sources that hold enough attacks beside scan floods for a figure to mean much."""
    eligible = np.isin(data.sources, list(sources)) & ~data.is_flood
    attacks = np.bincount(data.units[eligible & (data.labels == 1)], minlength=len(data.names.units))
    others = np.bincount(data.units[eligible & (data.labels == 0)], minlength=len(data.names.units))
    return tuple(int(unit) for unit in np.flatnonzero((attacks >= min_attacks) & (others > 0)))


def leave_networks_out(
    data: Dataset,
    units: Sequence[int],
    specification: Specification,
    options: FittingOptions,
    *,
    target_precision: float,
    progress: Callable[[str, int, int], None] | None = None,
) -> UnseenScores:
    """Score each unit by a model of all the others, calibrated on the other units' left-out scores."""
    raw = left_out_logits(data, units, specification, options, progress)
    probability = np.full(len(data), np.nan)
    thresholds = {}
    for unit in units:
        rows = data.units == unit
        others, weights = calibration_rows(data, np.where(rows, np.nan, raw))
        platt = fit_platt(raw[others], data.labels[others], weights)
        probability[rows] = probability_of(raw[rows], platt)
        thresholds[unit] = operating_point(
            probability_of(raw[others], platt), data.labels[others], weights, target_precision
        ).threshold
    return UnseenScores(tuple(units), raw, probability, thresholds)


def left_out_logits(
    data: Dataset,
    units: Sequence[int],
    specification: Specification,
    options: FittingOptions,
    progress: Callable[[str, int, int], None] | None = None,
) -> Floats:
    """Return the raw logit of each unit's rows by a model of all the others, NaN elsewhere; shape (n,)."""

    def logit_of(unit: int) -> Floats:
        rows = data.units == unit
        return fit_model(data, ~rows, specification, options).raw_logit(rows)

    raw = np.full(len(data), np.nan)
    with ThreadPoolExecutor(_FITS_AT_ONCE) as pool:
        for done, (unit, logit) in enumerate(zip(units, pool.map(logit_of, units), strict=True), 1):
            raw[data.units == unit] = logit
            if progress is not None:
                progress("unseen networks", done, len(units))
    return raw


def baseline_scores(data: Dataset, units: Sequence[int], options: FittingOptions) -> dict[str, Floats]:
    """Return the scores of the two baselines on left-out units; NaN elsewhere."""
    severity, rule = np.full(len(data), np.nan), np.full(len(data), np.nan)
    for unit in units:
        rows = data.units == unit
        severity[rows] = severity_scores(data, rows)
        fitted = RuleLogistic(data, ~rows, options)
        rule[rows] = fitted.scores(data, rows)
    return {"severity": severity, "rule_logistic": rule}


def sample_of(data: Dataset, scores: Floats, rows: Mask, *, by_signal: bool = False) -> HostSample:
    """Return scored rows as a sample; `by_signal` counts each kept row once, else all alerts it stands for."""
    weights = np.ones(int(rows.sum())) if by_signal else data.weights[rows]
    return HostSample(data.labels[rows], scores[rows], weights, data.hosts[rows])


def average_precisions(
    data: Dataset,
    scores: Floats,
    units: Sequence[int],
    *,
    seed: int,
    n_replicates: int,
    by_signal: bool = False,
    with_floods: bool = False,
) -> list[Estimate]:
    """Return average precision on each unit; equal seeds draw equal hosts, so that differences are paired."""
    results = []
    for unit in units:
        rows = (data.units == unit) & (data.labels >= 0) & (with_floods | ~data.is_flood)
        sample = sample_of(data, scores, rows, by_signal=by_signal)
        rng = np.random.default_rng([seed, unit])
        estimates = bootstrap_hosts(
            sample, lambda counts: {"average_precision": average_precision(counts)}, rng, n_replicates
        )
        results.append(estimates["average_precision"])
    return results
