import json
import math

import numpy as np
import pytest

from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.detection.gate import CalibrationGroup, ConformalGate, calibration_to_json
from eguard.errors import EstimatorInputError, ModelError
from eguard.wire.canonical import canonical_json

SCORES = np.arange(1, 100) / 100


def document(**groups):
    given = {
        "pooled": CalibrationGroup(0.99, "calibrated", SCORES),
        "alert": CalibrationGroup(0.5, "calibrated", np.array([0.1, 0.5])),
        "login": CalibrationGroup(math.inf, "insufficient_calibration", np.array([0.2])),
        **groups,
    }
    built = calibration_to_json(given, alpha=0.01, guarantee="marginal", model_digest="m", contract_sha256="c")
    return json.loads(canonical_json(built))


def test_each_class_meets_its_own_threshold_and_others_the_pooled_one():
    gate = ConformalGate.from_json(document(), model_digest="m")
    classes = np.array([7, 7, 6, 0, 0, -1])
    decision = gate.judge(np.array([0.5, 0.51, 1.0, 0.99, 0.995, 0.995]), classes)
    assert decision.flagged.tolist() == [False, True, False, False, True, True]
    assert decision.threshold.tolist() == [0.5, 0.5, math.inf, 0.99, 0.99, 0.99]
    assert [gate.status(value) for value in (7, 6, 0)] == ["calibrated", "insufficient_calibration", "calibrated"]


def test_the_beacon_section_is_optional_and_read_with_the_rest():
    assert ConformalGate.from_json(document(), model_digest="m").beacon is None
    beacon = BeaconCalibration(0.65, 0.01, 120, insufficient_calibration=False)
    pooled = {"pooled": CalibrationGroup(0.99, "calibrated", SCORES)}
    built = calibration_to_json(
        pooled, alpha=0.01, guarantee="marginal", model_digest="m", contract_sha256="c", beacon=beacon
    )
    assert ConformalGate.from_json(json.loads(canonical_json(built)), model_digest="m").beacon == beacon


@pytest.mark.parametrize("section", [None, {}, {"threshold": 0.5}, "x"])
def test_a_malformed_beacon_section_refuses_the_calibration(section):
    with pytest.raises(ModelError, match="beacon"):
        ConformalGate.from_json({**document(), "beacon": section}, model_digest="m")


def test_p_values_are_ranks_among_the_calibration_scores():
    gate = ConformalGate.from_json(document(), model_digest="m")
    decision = gate.judge(np.array([0.0, 0.5, 0.99, 1.0]), np.zeros(4, int))
    np.testing.assert_allclose(decision.p_values, [1.0, 51 / 100, 2 / 100, 1 / 100])


def test_infinity_travels_as_null():
    assert document()["groups"]["login"]["threshold"] is None


def test_the_threshold_of_another_model_is_refused():
    with pytest.raises(ModelError, match="uncalibrated") as caught:
        ConformalGate.from_json(document(), model_digest="other")
    assert caught.value.context == {"calibration": "m", "model": "other"}


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"alpha": 0.7},
        {"alpha": None},
        {"groups": {}},
        {"groups": {"alert": {"threshold": 0.5, "status": "calibrated", "scores": [0.5]}}},
        {"groups": {"pooled": {"threshold": 0.5, "status": "calibrated", "scores": [0.5, 0.4]}}},
        {"groups": {"pooled": {"threshold": 0.5, "status": "calibrated", "scores": []}}},
        {"groups": {"pooled": {"threshold": None, "status": "calibrated", "scores": [0.5]}}},
        {"groups": {"pooled": {"threshold": 0.5, "status": "insufficient_calibration", "scores": [0.5]}}},
        {"groups": {"pooled": {"threshold": "nan", "status": "calibrated", "scores": [0.5]}}},
        {"groups": None},
    ],
)
def test_malformed_calibrations_are_refused(change):
    with pytest.raises(ModelError):
        ConformalGate.from_json({**document(), **change}, model_digest="m")


def test_a_calibration_without_pooled_group_is_not_written():
    with pytest.raises(EstimatorInputError, match="groups"):
        calibration_to_json({}, alpha=0.01, guarantee="marginal", model_digest="m", contract_sha256="c")
