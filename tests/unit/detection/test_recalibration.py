"""Recalibration: kept feature rows are scored with the model that is loaded, and its thresholds set anew from that."""

import numpy as np
import pytest
from attacks.agent_place import model_document

from eguard.detection.feature_contract import FEATURE_NAMES, N_FEATURES
from eguard.detection.gate import CalibrationGroup, ConformalGate
from eguard.detection.model import load_model
from eguard.detection.recalibration import CalibrationRows, recalibrate, rescore
from eguard.errors import ModelError
from eguard.events import EventClass

DEPTH = FEATURE_NAMES.index("tree_depth")
PRECISION = FEATURE_NAMES.index("rule_precision_prior")


def model(slope=1.0, version="m", rule_weight=0.0):
    """Return a model whose logit is `slope` times the tree depth (and a weight of the rule's precision)."""
    document = model_document(version, coefficient=rule_weight)
    document["parameters"]["coefficients"][DEPTH] = slope
    document["parameters"]["intercept"] = 0.0
    return load_model(document)


def rows(depths, event_class=0, signals=None):
    features = np.zeros((len(depths), N_FEATURES))
    features[:, DEPTH] = depths
    return CalibrationRows(
        features, np.broadcast_to(np.int8(event_class), len(depths)).copy(), signals or ["r"] * len(depths)
    )


def sigmoid(values):
    return 1.0 / (1.0 + np.exp(-np.asarray(values)))


def gate_of(a_model, scores, alpha=0.01, guarantee="marginal", **others):
    def group(values):
        ordered = np.sort(values)
        rank = int(np.ceil((1 - alpha) * (len(ordered) + 1) - 1e-9))
        if rank > len(ordered):
            return CalibrationGroup(np.inf, "insufficient_calibration", ordered)
        return CalibrationGroup(float(ordered[rank - 1]), "calibrated", ordered)

    groups = {"pooled": group(scores)} | {name: group(values) for name, values in others.items()}
    return ConformalGate(groups, alpha, a_model.digest, None, guarantee)


def test_the_threshold_is_the_rank_of_the_rows_under_the_new_model():
    """199 rows at alpha .01: the 198th smallest, by hand."""
    loaded = model(slope=2.0)
    depths = np.random.default_rng(1).permutation(np.arange(199)) / 200.0
    gate = recalibrate(gate_of(loaded, sigmoid(np.linspace(0.0, 2.0, 5000))), loaded, rows(depths))
    assert gate.groups["pooled"].threshold == pytest.approx(float(sigmoid(2.0 * 197 / 200)), abs=1e-15)
    assert gate.groups["pooled"].status == "calibrated"
    assert gate.groups["pooled"].scores == pytest.approx(sigmoid(2.0 * np.arange(199) / 200.0))


def test_the_columns_that_a_model_brings_are_its_own():
    loaded = model(slope=0.0, rule_weight=3.0)  # its table: S-Bad has precision 1
    kept = rows([0.1, 0.1], signals=["S-Bad", "other"])
    kept.features[:, PRECISION] = 0.7  # what an earlier model had filled in
    assert rescore(loaded, kept) == pytest.approx(sigmoid([3.0, 0.0]))
    assert (kept.features[:, PRECISION] == 0.7).all()


def test_thresholds_of_another_model_are_refused():
    old, new = model(1.0), model(2.0)
    with pytest.raises(ModelError, match="uncalibrated"):
        recalibrate(gate_of(old, np.linspace(0.0, 1.0, 500)), new, rows(np.linspace(0.0, 1.0, 500)))


@pytest.mark.parametrize("count", [0, 1, 98])
def test_too_few_rows_leave_the_fleets_threshold(count):
    loaded = model()
    before = gate_of(loaded, np.linspace(0.5, 0.8, 1000))
    assert recalibrate(before, loaded, rows(np.linspace(0.0, 1.0, count))).groups == before.groups


def test_each_event_class_that_has_rows_enough_gets_its_own():
    loaded = model()
    before = gate_of(loaded, sigmoid(np.linspace(0.0, 1.0, 5000)))
    kept = rows(np.concatenate([np.full(99, 0.97), np.full(98, 0.99), np.full(1000, 0.96)]))
    kept.event_class[:99] = EventClass.LOGIN
    kept.event_class[99:197] = EventClass.DNS_QUERY
    kept.event_class[197:] = -1
    gate = recalibrate(before, loaded, kept)
    assert gate.groups["login"].threshold == pytest.approx(float(sigmoid(0.97)))
    assert sorted(gate.groups) == ["login", "pooled"]
    assert gate.groups["pooled"].threshold == pytest.approx(float(sigmoid(0.99)))  # 98 of 1197: rank 1187


@pytest.mark.parametrize(("depth", "fleet_alpha"), [(0.0, 0.05), (50.0, 0.002)])
def test_a_hosts_own_rows_move_its_threshold_no_further_than_the_bounds(depth, fleet_alpha):
    """Quieter than anything of the fleet's, or as loud as an intruder can make them."""
    loaded = model()
    scores = sigmoid(np.linspace(0.0, 1.0, 5000))
    gate = recalibrate(gate_of(loaded, scores), loaded, rows(np.full(500, depth)))
    rank = int(np.ceil((1 - fleet_alpha) * 5001 - 1e-9))
    assert gate.groups["pooled"].threshold == np.sort(scores)[rank - 1]
    assert gate.groups["pooled"].scores is not scores
    assert len(gate.groups["pooled"].scores) == 5000


def test_a_fleet_too_small_for_a_threshold_does_not_bind_a_host():
    loaded = model()
    before = gate_of(loaded, np.full(10, 0.5))
    assert before.groups["pooled"].status == "insufficient_calibration"
    gate = recalibrate(before, loaded, rows(np.linspace(0.0, 1.0, 150)))
    assert gate.groups["pooled"].status == "calibrated"
    assert gate.groups["pooled"].threshold == pytest.approx(float(sigmoid(np.linspace(0.0, 1.0, 150)[149])))


def test_what_was_promised_stays_promised():
    """For 95 % of calibrations: 299 rows give their largest, where the marginal rank is the 297th."""
    loaded = model()
    fleet = sigmoid(np.linspace(0.0, 1.0, 5000))
    depths = np.arange(299) / 299.0
    by_guarantee = {
        guarantee: recalibrate(gate_of(loaded, fleet, guarantee=guarantee), loaded, rows(depths)).groups["pooled"]
        for guarantee in ("marginal", "pac")
    }
    assert by_guarantee["pac"].threshold == pytest.approx(float(sigmoid(298 / 299)))
    assert by_guarantee["marginal"].threshold == pytest.approx(float(sigmoid(296 / 299)))


@pytest.mark.parametrize("depth", [0.0, 0.9, 50.0])
def test_p_values_never_contradict_the_threshold(depth):
    loaded = model()
    kept = rows(np.concatenate([np.linspace(0.0, 1.0, 400), np.full(20, depth)]))
    gate = recalibrate(gate_of(loaded, sigmoid(np.linspace(0.0, 1.0, 5000))), loaded, kept)
    scores = np.sort(sigmoid(np.random.default_rng(2).normal(0.8, 0.3, 2000)))
    decision = gate.judge(scores, np.full(2000, -1))
    assert decision.p_values[decision.flagged].max(initial=0.0) < decision.p_values[~decision.flagged].min(initial=1.0)
