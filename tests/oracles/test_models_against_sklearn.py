"""The model JSON scores as scikit-learn does, to 1e-12."""

import json

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from eguard.detection.fitted_tables import FittedTables
from eguard.detection.model import load_model
from eguard.mlops.export_model import ModelHeader, gradient_boosting_to_json, logistic_to_json
from eguard.wire.canonical import canonical_json

HEADER = ModelHeader("v1", "c" * 64, 0.5, FittedTables((0.0,) * 8, {}, 0.0))


@pytest.fixture(autouse=True)
def _one_thread():
    """On a busy machine OpenMP's waiting threads cost more than the fit."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(11)
    rows = rng.random((3000, 43))
    rows[:, 5:9] = np.round(rows[:, 5:9], 1)  # ties on split points
    rows[:, 9] = 0.0
    labels = rng.random(3000) < 1 / (1 + np.exp(-(4 * rows[:, 0] - 3 * rows[:, 1] * rows[:, 6] - 1)))
    return rows, labels.astype(int)


@pytest.mark.parametrize("leaves", [2, 8, 31])
def test_boosted_trees_survive_the_way_through_json(data, leaves):
    rows, labels = data
    estimator = HistGradientBoostingClassifier(max_iter=25, max_leaf_nodes=leaves, random_state=0).fit(rows, labels)
    model = load_model(json.loads(canonical_json(gradient_boosting_to_json(estimator, HEADER))))
    fresh = np.vstack([rows, np.random.default_rng(1).random((2000, 43)), np.zeros((1, 43)), np.ones((1, 43))])
    np.testing.assert_allclose(model.score(fresh), estimator.predict_proba(fresh)[:, 1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.logit(fresh), estimator.decision_function(fresh), rtol=0, atol=1e-12)


def test_rows_on_the_split_points_go_the_same_way(data):
    rows, labels = data
    estimator = HistGradientBoostingClassifier(max_iter=10, max_leaf_nodes=8, random_state=0).fit(rows, labels)
    document = gradient_boosting_to_json(estimator, HEADER)
    splits = [
        (feature, threshold)
        for tree in document["parameters"]["trees"]
        for feature, threshold in zip(tree["feature"], tree["threshold"], strict=True)
        if feature >= 0
    ]
    on_them = np.repeat(rows[: len(splits)], 3, axis=0)
    for row, (feature, threshold) in enumerate(splits):
        on_them[3 * row : 3 * row + 3, feature] = [threshold, np.nextafter(threshold, 0), np.nextafter(threshold, 1)]
    expected = estimator.predict_proba(on_them)[:, 1]
    np.testing.assert_allclose(load_model(document).score(on_them), expected, rtol=0, atol=1e-12)


def test_logistic_regression_survives_the_way_through_json(data):
    rows, labels = data
    scaler = StandardScaler().fit(rows)
    estimator = LogisticRegression(C=0.3, max_iter=500).fit(scaler.transform(rows), labels)
    document = logistic_to_json(estimator, HEADER, center=scaler.mean_, scale=scaler.scale_)
    model = load_model(json.loads(canonical_json(document)))
    expected = estimator.predict_proba(scaler.transform(rows))[:, 1]
    np.testing.assert_allclose(model.score(rows), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["logistic", "trees"])
def test_contributions_sum_to_the_calibrated_logit(data, kind):
    rows, labels = data
    header = ModelHeader("v1", "c" * 64, 0.5, HEADER.tables, platt_slope=1.7, platt_intercept=-0.4)
    if kind == "logistic":
        document = logistic_to_json(LogisticRegression(max_iter=500).fit(rows, labels), header)
    else:
        estimator = HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=6, random_state=0).fit(rows, labels)
        document = gradient_boosting_to_json(estimator, header)
    model = load_model(document)
    contributions, constant = model.contributions(rows[:300])
    np.testing.assert_allclose(contributions.sum(axis=1) + constant, model.logit(rows[:300]), atol=1e-9)
