import dataclasses

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from eguard.mlops.baselines import RuleLogistic
from eguard.mlops.classifiers import Logistic
from eguard.mlops.intervals import difference, mean_estimate
from eguard.mlops.model_selection import FittingOptions, calibration_rows, fit_model, fit_platt, probability_of
from eguard.mlops.unseen_networks import (
    average_precisions,
    baseline_scores,
    leave_networks_out,
    networks_to_leave_out,
)

SPECIFICATION, OPTIONS = Logistic(0.01, 50), FittingOptions()


@pytest.fixture(scope="module")
def scores(dataset):
    return leave_networks_out(dataset, range(5), SPECIFICATION, OPTIONS, target_precision=0.75)


def test_each_network_is_scored_by_a_model_of_the_others(dataset, scores):
    rows = dataset.units == 3
    model = fit_model(dataset, ~rows, SPECIFICATION, OPTIONS)
    assert np.array_equal(scores.raw_logit[rows], model.raw_logit(rows))
    assert np.isfinite(scores.probability).all()


def test_a_networks_own_labels_do_not_change_its_scores(dataset, scores):
    rows = dataset.units == 1
    turned = dataclasses.replace(dataset, labels=np.where(rows, 1 - dataset.labels, dataset.labels).astype(np.int8))
    again = leave_networks_out(turned, range(5), SPECIFICATION, OPTIONS, target_precision=0.75)
    assert np.array_equal(again.raw_logit[rows], scores.raw_logit[rows])
    assert (again.raw_logit[~rows] != scores.raw_logit[~rows]).any()


def test_a_networks_calibration_is_fitted_to_the_others(dataset, scores):
    rows = dataset.units == 2
    others, weights = calibration_rows(dataset, np.where(rows, np.nan, scores.raw_logit))
    assert not (others & rows).any()
    platt = fit_platt(scores.raw_logit[others], dataset.labels[others], weights)
    assert np.array_equal(scores.probability[rows], probability_of(scores.raw_logit[rows], platt))


def test_networks_with_few_attacks_are_not_left_out(dataset):
    assert networks_to_leave_out(dataset, ["ait"], 30) == (0, 1, 2, 3, 4)
    assert networks_to_leave_out(dataset, ["live"], 30) == ()
    few = np.where(dataset.units == 2, 0, dataset.labels).astype(np.int8)
    assert networks_to_leave_out(dataclasses.replace(dataset, labels=few), ["ait"], 1) == (0, 1, 3, 4)


def test_average_precision_leaves_floods_out_and_weighs_by_alerts(dataset, scores):
    (estimate,) = average_precisions(dataset, scores.raw_logit, [2], seed=0, n_replicates=20)
    rows = (dataset.units == 2) & ~dataset.is_flood
    expected = average_precision_score(
        dataset.labels[rows], scores.raw_logit[rows], sample_weight=dataset.weights[rows]
    )
    assert estimate.value == pytest.approx(expected)
    (by_signal,) = average_precisions(dataset, scores.raw_logit, [2], seed=0, n_replicates=20, by_signal=True)
    assert by_signal.value == pytest.approx(average_precision_score(dataset.labels[rows], scores.raw_logit[rows]))


def test_differences_are_paired_by_host(dataset, scores):
    first = mean_estimate(average_precisions(dataset, scores.raw_logit, range(5), seed=0, n_replicates=30))
    second = mean_estimate(average_precisions(dataset, 2 * scores.raw_logit, range(5), seed=0, n_replicates=30))
    assert not difference(first, second).replicates.any()


def test_the_rule_baseline_knows_nothing_but_the_rule(dataset):
    fitted = RuleLogistic(dataset, dataset.units != 0, OPTIONS)
    unseen = fitted.scores(dataset, dataset.units == 0)
    rules = dataset.rules[dataset.units == 0]
    assert all(len(set(unseen[rules == rule])) == 1 for rule in np.unique(rules))
    worth = {dataset.names.rules[rule]: unseen[rules == rule][0] for rule in np.unique(rules)}
    assert worth["R8"] > worth["R7"] > worth["R6"] > worth["R0"]


def test_baselines_are_fitted_to_the_other_networks(dataset):
    baselines = baseline_scores(dataset, range(5), OPTIONS)
    rows = dataset.units == 4
    assert np.array_equal(baselines["rule_logistic"][rows], RuleLogistic(dataset, ~rows, OPTIONS).scores(dataset, rows))
    assert np.array_equal(baselines["severity"], dataset.severity)
