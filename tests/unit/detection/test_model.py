import copy

import numpy as np
import pytest

from eguard.detection.feature_contract import contract_sha256
from eguard.detection.model import load_model, sigmoid
from eguard.errors import ModelError

LOGISTIC = {
    "format": 1,
    "kind": "logistic",
    "version": "rules-2026.03.01.ml.v1",
    "contract_sha256": "ab" * 32,
    "n_features": 3,
    "threshold": 0.7,
    "platt": {"slope": 2.0, "intercept": -1.0},
    "tables": {"class_risk": [0.0] * 8, "rule_precision": {}, "rule_precision_default": 0.1},
    "parameters": {
        "coefficients": [1.0, -2.0, 0.0],
        "center": [0.5, 0.0, 0.0],
        "scale": [0.5, 1.0, 1.0],
        "intercept": 0.25,
    },
}


def changed(path, value):
    document = copy.deepcopy(LOGISTIC)
    target = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return document


def test_score_by_hand():
    model = load_model(LOGISTIC)
    # (1 - .5)/.5 * 1 + .25 * -2 + .25 = .75; Platt: 2 * .75 - 1 = .5
    row = np.array([[1.0, 0.25, 9.0]])
    assert model.logit(row).tolist() == [0.5]
    assert model.score(row)[0] == pytest.approx(0.6224593312018546, abs=1e-15)
    contributions, constant = model.contributions(row)
    assert contributions.tolist() == [[2.0, -1.0, 0.0]]
    assert constant == -0.5


def test_digest_is_of_the_content_not_of_the_spelling():
    reordered = dict(reversed(list(LOGISTIC.items())))
    assert load_model(reordered).digest == load_model(LOGISTIC).digest
    assert load_model(changed(["threshold"], 0.71)).digest != load_model(LOGISTIC).digest


def test_another_contract_is_refused_with_both_hashes():
    load_model(LOGISTIC, expected_contract_sha256="ab" * 32)
    with pytest.raises(ModelError, match="feature contract abab") as caught:
        load_model(LOGISTIC, expected_contract_sha256="cd" * 32)
    assert caught.value.context == {"model": "ab" * 32, "extractor": "cd" * 32}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["format"], 2),
        (["kind"], "pickle"),
        (["n_features"], 4),
        (["n_features"], float("inf")),
        (["contract_sha256"], contract_sha256()),
        (["threshold"], 10**400),
        (["threshold"], 1.5),
        (["threshold"], None),
        (["platt", "slope"], float("nan")),
        (["platt"], []),
        (["parameters", "scale"], [0.0, 1.0, 1.0]),
        (["parameters", "scale"], [1.0, 1.0]),
        (["parameters", "coefficients"], [1.0, float("inf"), 0.0]),
        (["parameters", "coefficients"], []),
        (["parameters"], {}),
        (["tables"], {}),
    ],
)
def test_malformed_models_are_refused(path, value):
    with pytest.raises(ModelError):
        load_model(changed(path, value))


@pytest.mark.parametrize("document", [None, [], "model", {}])
def test_what_is_no_model_is_refused(document):
    with pytest.raises(ModelError):
        load_model(document)


@pytest.mark.parametrize("rows", [np.zeros((2, 4)), np.zeros(3), np.array([[0.0, np.nan, 0.0]])])
def test_rows_that_do_not_fit_are_refused(rows):
    with pytest.raises(ModelError):
        load_model(LOGISTIC).score(rows)


def test_sigmoid_is_symmetric_and_never_overflows():
    logits = np.array([-800.0, -30.0, -1.0, 0.0, 1.0, 30.0, 800.0])
    np.testing.assert_allclose(sigmoid(logits) + sigmoid(-logits), 1.0, atol=1e-15)
