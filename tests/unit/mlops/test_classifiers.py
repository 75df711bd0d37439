import numpy as np
import pytest

from eguard.detection.feature_contract import FEATURE_NAMES, contract_sha256
from eguard.detection.fitted_tables import FittedTables
from eguard.detection.model import load_model
from eguard.mlops.classifiers import Boosting, Logistic, specification_from_json
from eguard.mlops.export_model import ModelHeader

WIDTH = len(FEATURE_NAMES)
BOOSTING = Boosting(max_iterations=20, learning_rate=0.2, max_leaf_nodes=4, min_samples_leaf=10, l2=1.0, rising=(3,))


def rows_and_labels(n=1500, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.random((n, WIDTH))
    rows[:, 10] = 0.5  # constant
    odds = 6 * (rows[:, 3] - 0.5) - 4 * (rows[:, 5] - 0.5)
    labels = (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(np.int8)
    return rows, labels


def header():
    tables = FittedTables((0.1,) * 8, {"R": 0.5}, 0.2)
    return ModelHeader("v1", contract_sha256(), 0.5, tables, platt_slope=1.3, platt_intercept=-0.2)


@pytest.mark.parametrize("specification", [Logistic(0.01, 50), BOOSTING], ids=["logistic", "boosting"])
def test_the_json_scores_as_the_classifier_does(specification):
    rows, labels = rows_and_labels()
    fitted = specification.fit(rows, labels, np.ones(len(rows)))
    model = load_model(fitted.to_json(header()), expected_contract_sha256=contract_sha256())
    assert model.kind == specification.kind
    assert model.logit(rows) == pytest.approx(1.3 * fitted.raw_logit(rows) - 0.2, abs=1e-12)


@pytest.mark.parametrize("specification", [Logistic(0.01, 50), BOOSTING], ids=["logistic", "boosting"])
def test_a_fit_is_repeatable(specification):
    rows, labels = rows_and_labels()
    weights = np.random.default_rng(1).random(len(rows)) + 0.5
    first, second = (specification.fit(rows, labels, weights).to_json(header()) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("specification", [Logistic(0.01, 50), BOOSTING], ids=["logistic", "boosting"])
def test_a_specification_survives_json(specification):
    assert specification_from_json(specification.to_json()) == specification


def test_a_stronger_penalty_shrinks_the_coefficients():
    rows, labels = rows_and_labels()
    norms = [
        np.linalg.norm(Logistic(l2, 50).fit(rows, labels, np.ones(len(rows))).estimator.coef_)
        for l2 in (1e-4, 1e-1, 10.0)
    ]
    assert norms[0] > norms[1] > norms[2]


def test_the_penalty_does_not_depend_on_how_many_rows_there_are():
    rows, labels = rows_and_labels()
    once = Logistic(0.05, 80).fit(rows, labels, np.ones(len(rows)))
    twice = Logistic(0.05, 80).fit(np.tile(rows, (2, 1)), np.tile(labels, 2), np.ones(2 * len(rows)))
    assert once.raw_logit(rows) == pytest.approx(twice.raw_logit(rows), abs=1e-6)


def test_a_rising_feature_never_lowers_a_boosted_score():
    rows, labels = rows_and_labels(seed=2)
    labels = np.where(rows[:, 3] > 0.8, 0, labels).astype(np.int8)  # the data say otherwise
    low, high = rows.copy(), rows.copy()
    low[:, 3], high[:, 3] = 0.7, 0.95
    held = BOOSTING.fit(rows, labels, np.ones(len(rows)))
    assert (held.raw_logit(high) >= held.raw_logit(low)).all()
    free = Boosting(20, 0.2, 4, 10, 1.0).fit(rows, labels, np.ones(len(rows)))
    assert (free.raw_logit(high) < free.raw_logit(low)).mean() > 0.9
