"""Process trees are counted once an hour, and stand out by their shape alone."""

import math

import numpy as np
import pytest

from eguard.detection import tree_tally
from eguard.detection.alert_builder import Scores
from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions
from eguard.detection.features import FEATURE_NAMES, N_FEATURES, contract_sha256
from eguard.detection.gate import GateDecision
from eguard.detection.model import load_model
from eguard.detection.tree_tally import SHAPE_FEATURES, TreeTally, stands_out
from eguard.events import EventBatch

HOUR = 3600.0
DEPTH, RISK = FEATURE_NAMES.index("tree_depth"), FEATURE_NAMES.index("prefilter_hit")


def model_of(weights, intercept=-2.0, threshold=0.5):
    coefficients = [0.0] * N_FEATURES
    for name, weight in weights.items():
        coefficients[FEATURE_NAMES.index(name)] = weight
    zeros, ones = [0.0] * N_FEATURES, [1.0] * N_FEATURES
    return load_model(
        {
            "format": 1,
            "kind": "logistic",
            "version": "v",
            "contract_sha256": contract_sha256(),
            "n_features": N_FEATURES,
            "threshold": threshold,
            "platt": {"slope": 1.0, "intercept": 0.0},
            "tables": {"class_risk": [0.25] * 8, "rule_precision": {}, "rule_precision_default": 0.1},
            "parameters": {"coefficients": coefficients, "center": zeros, "scale": ones, "intercept": intercept},
        }
    )


MODEL = model_of({"tree_depth": 3.0, "prefilter_hit": 9.0})


def scored(*depths, model=MODEL, risk=0.0, thresholds=None):
    features = np.zeros((len(depths), N_FEATURES))
    features[:, DEPTH], features[:, RISK] = depths, risk
    decision = None
    if thresholds is not None:
        given = np.array(thresholds)
        decision = GateDecision(given > 1.0, given, given)
    return Scores(features, model, None, decision)


def test_the_five_features_of_the_shape_are_27_to_31():
    assert [FEATURE_NAMES.index(name) for name in SHAPE_FEATURES] == [27, 28, 29, 30, 31]


def test_a_tree_counts_once_in_an_hour_whatever_it_does():
    tally = TreeTally()
    tally.count(10.0, [1, 2], [2, 3, "sh#9"], scored(0.0, 0.0, 0.0))
    tally.count(20.0, [1], [3], scored(0.0))
    assert (tally.seen, tally.anomalous) == (4, 0)
    tally.count(HOUR + 1.0, [1], [], scored())
    assert tally.seen == 5
    tally.count(HOUR - 1.0, [4], [], scored())  # late, and no new hour
    tally.count(HOUR + 2.0, [1], [], scored())
    assert tally.seen == 6


def test_the_shape_alone_has_to_exceed_the_threshold():
    # -2 + 3 * depth is above logit(.5) = 0 from a depth of 2/3 on; the other feature's 9 does not count.
    tally = TreeTally()
    tally.count(0.0, [], [1, 2, 3, 2], scored(0.6, 0.7, 0.0, 0.9, risk=1.0))
    assert (tally.seen, tally.anomalous) == (3, 1)
    tally.count(0.0, [], [1], scored(1.0))
    assert tally.anomalous == 2  # a later event of a tree may


@pytest.mark.parametrize(("threshold", "is_odd"), [(0.73, True), (0.74, False), (math.inf, False), (1.0, False)])
def test_a_calibrated_threshold_is_the_one_that_counts(threshold, is_odd):
    tally = TreeTally()
    tally.count(0.0, [], [1], scored(1.0, thresholds=[threshold]))  # 1 / (1 + e^-1) = .7311
    assert tally.anomalous == is_odd


def test_without_a_model_nothing_is_counted():
    tally = TreeTally()
    tally.count(0.0, [1], [2], scored(1.0, model=None))
    assert (tally.seen, tally.anomalous) == (0, 0)


def test_a_shape_that_did_not_change_is_judged_once(monkeypatch):
    judged = []
    monkeypatch.setattr(
        tree_tally,
        "stands_out",
        lambda model, rows, limits: judged.append(len(rows)) or stands_out(model, rows, limits),
    )
    tally = TreeTally()
    for _ in range(50):
        tally.count(0.0, [], [1, 1, 2], scored(0.1, 0.1, 0.1))
    assert judged == [2]
    tally.count(0.0, [], [1], scored(0.2))
    assert judged == [2, 1]


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(tree_tally, "MAX_TREES", 10)
    tally = TreeTally()
    tally.count(0.0, range(100), list(range(50, 150)), scored(*np.linspace(0.0, 0.1, 100)))
    assert tally.seen == 10


def test_the_engine_counts_the_trees_of_all_starts():
    engine = Engine("h", options=EngineOptions(reservoir_events=0), model=MODEL)
    engine.process(
        EventBatch(
            time_unix=[1.0, 2.0, 3.0, 4.0],
            event_class=[0, 0, 0, 0],
            pid=[10, 11, 12, 13],
            parent_pid=[1, 10, 1, 12],
            comm=["sh", "ls", "bash", "id"],
            parent_comm=["sshd", "sh", "sshd", "bash"],
        )
    )
    assert engine.tree_tally.seen == 2  # below sshd: sh with ls, bash with id
    engine.forget_times()
    engine.process(EventBatch(time_unix=[-9e5], event_class=[0], pid=[14], comm=["id"], parent_comm=["sshd"]))
    assert engine.tree_tally.seen == 3
