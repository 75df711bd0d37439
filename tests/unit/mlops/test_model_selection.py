import dataclasses

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from eguard.detection.fitted_tables import RULE_PRECISION_INDEX
from eguard.mlops.classifiers import Boosting, Logistic
from eguard.mlops.fitted_features import FittedFeatures
from eguard.mlops.model_selection import (
    MIN_PLATT_SLOPE,
    CrossValidation,
    FittingOptions,
    calibration_rows,
    cross_validate,
    fit_model,
    fit_platt,
    is_clearly_better,
    operating_point,
    probability_of,
    simplest_within_one_error,
    training_weights,
)
from eguard.mlops.splits import plan_folds

LOGISTIC = Logistic(0.01, 50)


def candidate(scores, name=0.0):
    return CrossValidation(Logistic(name + 1.0, 1), np.array(scores), np.empty(0))


@pytest.fixture(scope="module")
def validated(dataset):
    folds = plan_folds(dataset, dataset.networks != 4, 5)
    boosting = Boosting(15, 0.3, 4, 20, 1.0)
    return folds, cross_validate(dataset, folds, [LOGISTIC, boosting], FittingOptions())


def test_out_of_fold_scores_are_those_of_models_without_the_fold(dataset, validated):
    folds, (linear, _) = validated
    fold = folds[2]
    model = fit_model(dataset, fold.training, LOGISTIC, FittingOptions())
    assert linear.raw_logit[fold.validation] == pytest.approx(model.raw_logit(fold.validation), abs=1e-12)
    assert np.isnan(linear.raw_logit[dataset.networks == 4]).all()
    assert np.isfinite(linear.raw_logit[dataset.networks != 4]).all()


def test_a_folds_score_is_weighted_average_precision_without_floods(dataset, validated):
    folds, (linear, _) = validated
    rows = folds[0].validation & ~dataset.is_flood
    expected = average_precision_score(
        dataset.labels[rows], linear.raw_logit[rows], sample_weight=dataset.weights[rows]
    )
    assert linear.fold_average_precision[0] == pytest.approx(expected)
    assert linear.mean > 0.4


def test_labels_of_a_fold_do_not_touch_its_scores(dataset, validated):
    folds, (linear, boosted) = validated
    fold = folds[1]
    turned = np.where(fold.validation, 1 - dataset.labels, dataset.labels).astype(np.int8)
    again = cross_validate(
        dataclasses.replace(dataset, labels=turned),
        folds,
        [LOGISTIC, boosted.specification],
        FittingOptions(),
    )
    for before, after in zip((linear, boosted), again, strict=True):
        assert np.array_equal(before.raw_logit[fold.validation], after.raw_logit[fold.validation])


def test_blanked_features_are_not_used(dataset):
    training = dataset.networks != 4
    options = FittingOptions(without=(RULE_PRECISION_INDEX,))
    model = fit_model(dataset, training, LOGISTIC, options)
    assert model.classifier.estimator.coef_[0, RULE_PRECISION_INDEX] == 0.0
    assert fit_model(dataset, training, LOGISTIC, FittingOptions()).classifier.estimator.coef_[0, RULE_PRECISION_INDEX]


def test_the_simplest_candidate_within_one_error_is_chosen():
    simple, middle, best = candidate([0.3, 0.5, 0.7]), candidate([0.4, 0.52, 0.8]), candidate([0.42, 0.5, 0.81])
    # The best leads the simple one by .12, 0 and .11 (mean .077, error .038), the middle one by .003 (error .012).
    assert simplest_within_one_error([simple, middle, best]) is middle
    noisy = candidate([0.1, 0.9, 0.68])
    assert simplest_within_one_error([noisy, best]) is noisy
    assert simplest_within_one_error([best]) is best


def test_only_folds_with_an_answer_are_compared():
    first, second = candidate([0.5, 0.6, np.nan]), candidate([0.4, 0.5, np.nan])
    assert is_clearly_better(first, second)
    assert not is_clearly_better(second, first)
    assert first.mean == pytest.approx(0.55)


def test_training_weights_balance_units_and_rules(dataset):
    rows = np.ones(len(dataset), bool)
    even = training_weights(dataset, rows, FittingOptions(1.0, 0.0))
    sums = np.bincount(dataset.units, even)
    assert sums == pytest.approx(np.full(5, len(dataset) / 5))
    assert training_weights(dataset, rows, FittingOptions(0.0, 0.0)) == pytest.approx(1.0)
    by_rule = training_weights(dataset, rows, FittingOptions(0.0, 1.0))
    of_unit = dataset.units == 0
    assert np.ptp(np.bincount(dataset.rules[of_unit], by_rule[of_unit])) == pytest.approx(0.0, abs=1e-9)


def test_platt_recovers_slope_and_intercept():
    rng = np.random.default_rng(4)
    raw = rng.normal(0, 2, 60_000)
    labels = (rng.random(raw.size) < probability_of(raw, (0.7, -1.1))).astype(np.int8)
    slope, intercept = fit_platt(raw, labels, np.ones(raw.size))
    assert (slope, intercept) == pytest.approx((0.7, -1.1), abs=0.05)


def test_calibration_never_turns_the_ranking_round():
    raw = np.linspace(-1, 1, 200)
    slope, intercept = fit_platt(raw, (raw < 0).astype(np.int8), np.ones(200))
    assert slope == MIN_PLATT_SLOPE
    assert probability_of(raw, (slope, intercept)).mean() == pytest.approx(0.5, abs=0.01)


def test_platt_has_an_answer_where_scores_separate_the_labels():
    raw = np.linspace(-1, 1, 200)
    slope, intercept = fit_platt(raw, (raw > 0).astype(np.int8), np.ones(200))
    probability = probability_of(raw, (slope, intercept))
    assert probability[-1] == pytest.approx(101 / 102, abs=0.02)
    assert np.diff(probability).min() > 0


def test_calibration_rows_leave_floods_out_and_count_units_alike(dataset):
    scores = np.where(dataset.networks == 4, np.nan, 0.5)
    rows, weights = calibration_rows(dataset, scores)
    assert not (rows & (dataset.is_flood | (dataset.networks == 4))).any()
    sums = np.bincount(dataset.units[rows], weights)
    assert sums[:4] == pytest.approx(sums[0])


def test_the_operating_point_has_the_highest_recall_at_the_precision():
    probability = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    labels = np.array([1, 0, 1, 1, 0, 1], np.int8)
    point = operating_point(probability, labels, np.ones(6), 0.75)
    assert (point.threshold, point.precision, point.recall) == (0.6, 0.75, 0.75)


def test_without_the_precision_the_best_f1_is_taken():
    probability, labels = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 1, 1, 0], np.int8)
    point = operating_point(probability, labels, np.ones(4), 0.99)
    assert point.rule == "highest F1"
    assert point.threshold == 0.7


def test_features_of_left_out_rows_never_see_their_labels(dataset):
    training = dataset.networks != 4
    fitted = FittedFeatures(dataset, training)
    model = fit_model(dataset, training, LOGISTIC, FittingOptions())
    assert np.array_equal(model.features.fill(~training), fitted.fill(~training))
