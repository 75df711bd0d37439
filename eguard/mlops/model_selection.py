"""Which classifier ships: cross-validated average precision, the one-standard-error rule, out-of-fold calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from eguard.detection.model import sigmoid
from eguard.mlops.classifiers import Fitted, Specification
from eguard.mlops.dataset import Dataset
from eguard.mlops.fitted_features import FittedFeatures, PriorOrder
from eguard.mlops.metrics import average_precision, tally
from eguard.mlops.splits import Fold, Mask

Floats = NDArray[np.float64]

#: A calibration never turns a ranking round, whatever noise it is fitted to.
MIN_PLATT_SLOPE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class FittingOptions:
    """How a classifier is fitted to rows of several units.

    Parameters
    ----------
    unit_balance_exponent : float
        A unit of n rows weighs n^(1 - exponent) in all: 0 counts rows, 1 counts units.
    rule_balance_exponent : float
        The same for the rules within a unit, so that the few rules that fire all day do not decide everything.
    prior_order : {"separate_sites", "calendar"}
        Whose adjudications feature 41 may use.
    without : tuple of int
        Features put to 0 in training and scoring, for ablations.
    """

    unit_balance_exponent: float = 0.5
    rule_balance_exponent: float = 0.5
    prior_order: PriorOrder = "separate_sites"
    without: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A classifier with its fitted features: scores rows of units that it was not fitted to."""

    classifier: Fitted
    features: FittedFeatures
    options: FittingOptions

    def raw_logit(self, rows: Mask) -> Floats:
        """Return the uncalibrated logit of rows of the dataset it was fitted in, shape (n_rows,)."""
        return self.classifier.raw_logit(_blanked(self.features.fill(rows), self.options.without))


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Out-of-fold results of one specification.

    Parameters
    ----------
    specification : Specification
        What was fitted.
    fold_average_precision : ndarray of shape (n_folds,)
        Weighted, without scan floods; NaN in folds without attacks.
    raw_logit : ndarray of shape (n,)
        Out-of-fold logits; NaN outside the folds.
    """

    specification: Specification
    fold_average_precision: Floats
    raw_logit: Floats

    @property
    def mean(self) -> float:
        """Mean over the folds that have an answer."""
        return float(np.nanmean(self.fold_average_precision))


def fit_model(data: Dataset, training: Mask, specification: Specification, options: FittingOptions) -> FittedModel:
    """Fit features 7 and 41 and the classifier to the labelled `training` rows."""
    labelled = training & (data.labels >= 0)
    features = FittedFeatures(data, labelled, options.prior_order)
    rows = _blanked(features.fill(labelled), options.without)
    weights = training_weights(data, labelled, options)
    return FittedModel(specification.fit(rows, data.labels[labelled], weights), features, options)


def cross_validate(
    data: Dataset,
    folds: Sequence[Fold],
    specifications: Sequence[Specification],
    options: FittingOptions,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[CrossValidation]:
    """Score every fold by a model of every specification that has seen none of the fold's units."""
    logits = np.full((len(specifications), len(data)), np.nan)
    prepared: dict[bytes, tuple[FittedFeatures, Floats, NDArray[np.int8], Floats]] = {}
    models: dict[tuple[bytes, int], Fitted] = {}
    for done, fold in enumerate(folds, 1):
        key = np.packbits(fold.training).tobytes()
        if key not in prepared:
            labelled = fold.training & (data.labels >= 0)
            features = FittedFeatures(data, labelled, options.prior_order)
            rows = _blanked(features.fill(labelled), options.without)
            weights = training_weights(data, labelled, options)
            prepared = {key: (features, rows, data.labels[labelled], weights)}  # folds of one unit follow one another
        features, rows, labels, weights = prepared[key]
        unseen = _blanked(features.fill(fold.validation), options.without)
        for index, specification in enumerate(specifications):
            if (key, index) not in models:
                models[key, index] = specification.fit(rows, labels, weights)
            logits[index, fold.validation] = models[key, index].raw_logit(unseen)
        if progress is not None:
            progress("cross-validation", done, len(folds))
    return [
        CrossValidation(specification, fold_scores(data, folds, logits[index]), logits[index])
        for index, specification in enumerate(specifications)
    ]


def fold_scores(data: Dataset, folds: Sequence[Fold], scores: Floats) -> Floats:
    """Return each fold's weighted average precision without scan floods."""
    result = np.full(len(folds), np.nan)
    for index, fold in enumerate(folds):
        rows = fold.validation & (data.labels >= 0) & ~data.is_flood
        if rows.any():
            result[index] = float(average_precision(tally(data.labels[rows], scores[rows], data.weights[rows])))
    return result


def simplest_within_one_error(ordered: Sequence[CrossValidation]) -> CrossValidation:
    """Return the first of `ordered` (simplest first) that is no more than one standard error below the best.

    Folds are networks whose base rates differ tenfold, so the error is that of the fold-wise *difference* to the best:
    the spread of the scores themselves would call everything a tie.

    References
    ----------
    T. Hastie, R. Tibshirani, J. Friedman, The Elements of Statistical Learning, 2nd ed., section 7.10.1.
    """
    best = max(ordered, key=lambda candidate: candidate.mean)
    return next(candidate for candidate in ordered if not is_clearly_better(best, candidate))


def is_clearly_better(first: CrossValidation, second: CrossValidation) -> bool:
    """Tell whether `first` beats `second` by more than one standard error of the fold-wise difference."""
    gain = first.fold_average_precision - second.fold_average_precision
    gain = gain[np.isfinite(gain)]
    if first is second or len(gain) < 2:
        return False
    return bool(gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)))


def training_weights(data: Dataset, rows: Mask, options: FittingOptions) -> Floats:
    """Return weights of mean 1 by which large units, and loud rules within a unit, do not drown others; (n_rows,)."""
    units = data.units[rows]
    rules_of_units = units * len(data.names.rules) + data.rules[rows]
    raw = _group_sizes(units) ** -options.unit_balance_exponent
    raw *= _group_sizes(rules_of_units) ** -options.rule_balance_exponent
    weights: Floats = raw / raw.mean()
    return weights


def _group_sizes(codes: NDArray[np.intp]) -> Floats:
    _, position, size = np.unique(codes, return_inverse=True, return_counts=True)
    sizes: Floats = size[position].astype(np.float64)
    return sizes


def calibration_rows(data: Dataset, scores: Floats) -> tuple[Mask, Floats]:
    """Return the rows that calibrate, and their weights: adjudicated, scored, no scan flood; all units weigh alike.

    Rows count once and not by the alerts they stand for: one capped flood that the models misjudge would otherwise
    decide the calibration of everything. Units without an attack are left out: nobody knows how their attacks would
    score, and a dozen of them, weighing alike, would turn the calibration into a constant.
    """
    rows = np.isfinite(scores) & (data.labels >= 0) & ~data.is_flood
    attacked = np.unique(data.units[rows & (data.labels == 1)])
    rows &= np.isin(data.units, attacked)
    return rows, training_weights(data, rows, FittingOptions(1.0, 0.0))


def fit_platt(raw_logit: Floats, labels: NDArray[np.int8], weights: Floats) -> tuple[float, float]:
    """Return slope and intercept that turn a raw logit into the logit of a probability.

    With Platt's targets, (N1 + 1)/(N1 + 2) and 1/(N0 + 2) in the place of 1 and 0, a finite answer exists even where
    the scores separate the labels.

    References
    ----------
    J. Platt, Probabilistic outputs for support vector machines, 1999, section 2.2.
    """
    center, scale = float(raw_logit.mean()), float(raw_logit.std()) or 1.0
    is_attack = labels == 1
    n_attacks, n_others = float(weights[is_attack].sum()), float(weights[~is_attack].sum())
    target = np.where(is_attack, (n_attacks + 1.0) / (n_attacks + 2.0), 1.0 / (n_others + 2.0))
    standardised = np.tile((raw_logit - center) / scale, 2)[:, np.newaxis]
    estimator = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8, max_iter=200)
    estimator.fit(
        standardised,
        np.repeat([1, 0], len(raw_logit)),
        sample_weight=np.concatenate([weights * target, weights * (1.0 - target)]),
    )
    slope = float(estimator.coef_[0, 0]) / scale
    intercept = float(estimator.intercept_[0]) - slope * center
    if slope < MIN_PLATT_SLOPE:
        base = (n_attacks + 1.0) / (n_attacks + n_others + 2.0)
        return MIN_PLATT_SLOPE, float(np.log(base / (1.0 - base))) - MIN_PLATT_SLOPE * center
    return slope, intercept


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where the classifier says attack, and what that gave on the rows it was chosen on.

    Parameters
    ----------
    threshold : float
        Probability from which on, in [0, 1].
    rule : str
        How it was chosen.
    target_precision : float
        Precision that was wanted.
    precision, recall : float
        On the rows it was chosen on.
    """

    threshold: float
    rule: str
    target_precision: float
    precision: float
    recall: float


def operating_point(
    probability: Floats, labels: NDArray[np.int8], weights: Floats, target_precision: float
) -> OperatingPoint:
    """Choose the highest recall whose precision is `target_precision`; where nothing reaches it, the best F1.

    Examples
    --------
    >>> point = operating_point(np.array([0.9, 0.8, 0.7, 0.1]), np.array([1, 1, 0, 1], np.int8), np.ones(4), 0.9)
    >>> point.threshold, point.precision, round(point.recall, 3)
    (0.8, 1.0, 0.667)
    """
    counts = tally(labels, probability, weights)
    found, false = np.cumsum(counts.attacks), np.cumsum(counts.others)
    precision, recall = found / (found + false), found / found[-1]
    reaches = np.flatnonzero((precision >= target_precision) & (found > 0.0))
    if len(reaches):
        at, rule = int(reaches[-1]), "highest recall at the target precision"
    else:
        at, rule = int(np.argmax(precision * recall / np.maximum(precision + recall, 1e-12))), "highest F1"
    return OperatingPoint(float(counts.scores[at]), rule, target_precision, float(precision[at]), float(recall[at]))


def probability_of(raw_logit: Floats, platt: tuple[float, float]) -> Floats:
    """Return calibrated probabilities."""
    return sigmoid(platt[0] * raw_logit + platt[1])


def _blanked(rows: Floats, without: tuple[int, ...]) -> Floats:
    rows[:, list(without)] = 0.0
    return rows
