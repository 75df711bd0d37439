"""A damaged model, calibration or fleet table loads and works, or raises `ModelError`: it never crashes a host."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eguard.detection.fleet_context import FleetContext
from eguard.detection.gate import ConformalGate
from eguard.detection.model import load_model
from eguard.errors import ModelError

TABLES = {"class_risk": [0.1] * 8, "rule_precision": {"R": 0.5}, "rule_precision_default": 0.1}
HEAD = {
    "format": 1,
    "version": "v1",
    "contract_sha256": "ab",
    "n_features": 3,
    "threshold": 0.5,
    "platt": {"slope": 1.0, "intercept": 0.0},
    "tables": TABLES,
}
LOGISTIC = {
    **HEAD,
    "kind": "logistic",
    "parameters": {"coefficients": [1.0, 0.0, -1.0], "center": [0.0] * 3, "scale": [1.0] * 3, "intercept": 0.5},
}
TREES = {
    **HEAD,
    "kind": "gradient_boosting",
    "parameters": {
        "baseline": 0.1,
        "trees": [
            {
                "feature": [0, 1, -1, -1, -1],
                "threshold": [0.5, 0.3, 0.0, 0.0, 0.0],
                "left": [1, 2, 0, 0, 0],
                "right": [4, 3, 0, 0, 0],
                "value": [0.0, 0.0, -2.0, 1.0, 3.0],
                "cover": [10, 6, 2, 4, 4],
            }
        ],
    },
}
CALIBRATION = {
    "format": 1,
    "alpha": 0.01,
    "guarantee": "marginal",
    "model_digest": "m",
    "contract_sha256": "ab",
    "groups": {"pooled": {"threshold": 0.5, "status": "calibrated", "scores": [0.1, 0.5]}},
}
FLEET = FleetContext(3.0, 2, {"R": 1}, {443: 1}, {"sh": {"ls": 2}}).to_json()
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([10**400, 2**63, float("nan"), float("inf"), -0.0, 1e308, 0.5]),
    st.text(max_size=3),
    st.just([]),
    st.just({}),
    st.lists(st.integers(-2, 6), max_size=6),
)


def places(value, path=()):
    """Return the paths to all parts of a JSON value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in parts for place in places(part, (*path, key)))]


@st.composite
def damaged(draw, document):
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(places(document)))
        junk = draw(JUNK)
        if not path:
            return junk
        target = document
        for key in path[:-1]:
            target = target[key]
        if draw(st.booleans()):
            target[path[-1]] = junk
        else:
            del target[path[-1]]
    return document


def score(document):
    model = load_model(document)
    rows = np.array([[0.0, 0.3, 1.0], [0.5, 0.31, 0.0]])
    if model.scorer.n_features != rows.shape[1]:
        return
    scores = model.score(rows)
    assert np.all((scores >= 0.0) & (scores <= 1.0))
    contributions, constant = model.contributions(rows)
    logits = model.logit(rows)
    largest = 1.0 + abs(constant) + np.abs(contributions).sum()
    np.testing.assert_allclose(contributions.sum(axis=1) + constant, logits, rtol=0, atol=1e-12 * largest)


def judge(document):
    decision = ConformalGate.from_json(document, model_digest="m").judge(np.array([0.2, 0.9]), np.array([0, -1]))
    assert np.all((decision.p_values > 0.0) & (decision.p_values <= 1.0))


def ask(document):
    fleet = FleetContext.from_json(document)
    for rarity in (
        fleet.rule_rarity(["R"]),
        fleet.port_rarity(np.array([443])),
        fleet.parent_child_rarity(["sh"], ["a"]),
    ):
        assert np.all((rarity >= 0.0) & (rarity <= 1.0))


@pytest.mark.parametrize(("use", "document"), [(score, LOGISTIC), (score, TREES), (judge, CALIBRATION), (ask, FLEET)])
def test_the_undamaged_file_works(use, document):
    use(document)


@pytest.mark.parametrize(("use", "document"), [(score, LOGISTIC), (score, TREES), (judge, CALIBRATION), (ask, FLEET)])
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_damaged_file_works_or_is_refused(use, document, data):
    broken = data.draw(damaged(document))
    try:
        use(broken)
    except ModelError as error:
        assert error.message  # noqa: PT017 - both outcomes are right; anything else propagates
