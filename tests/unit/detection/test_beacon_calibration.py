"""The bundle's beacon threshold: what is read, what is refused, and how it travels in a calibration."""

import json
import math
from dataclasses import asdict

import pytest

from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.errors import ModelError
from eguard.estimators import BeaconOptions
from eguard.wire.canonical import canonical_json

DOCUMENT = {
    "threshold": 0.651,
    "alpha": 0.01,
    "n_destinations": 140,
    "insufficient_calibration": False,
    "unit": "destination",
    "options": asdict(BeaconOptions()),
}


def test_it_is_read_and_written_unchanged():
    calibration = BeaconCalibration.from_json(DOCUMENT)
    assert calibration == BeaconCalibration(0.651, 0.01, 140, insufficient_calibration=False)
    assert json.loads(canonical_json(calibration.to_json())) == DOCUMENT


def test_too_few_destinations_may_have_a_threshold_or_none():
    few = BeaconCalibration.from_json({**DOCUMENT, "n_destinations": 56, "insufficient_calibration": True})
    assert few.threshold == 0.651
    none = BeaconCalibration.from_json({**DOCUMENT, "threshold": None, "insufficient_calibration": True})
    assert none.threshold is None


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": None},
        {"threshold": "0.6"},
        {"threshold": True},
        {"threshold": math.nan},
        {"threshold": math.inf, "insufficient_calibration": True},
        {"threshold": 1.01},
        {"threshold": -0.1},
        {"alpha": 0.0},
        {"alpha": 0.7},
        {"alpha": None},
        {"n_destinations": -1},
        {"n_destinations": 1.5},
        {"n_destinations": True},
        {"insufficient_calibration": 1},
        {"unit": "pair"},
        {"unit": None},
        {"options": None},
        {"options": []},
        {"options": {"min_observations": 20, "volume": 11}},
        {"options": {**asdict(BeaconOptions()), "min_observations": "20"}},
        {"options": {**asdict(BeaconOptions()), "weight_size": 0.9}},
        {"more": 1},
    ],
    ids=str,
)
def test_a_malformed_section_is_refused(change):
    with pytest.raises(ModelError):
        BeaconCalibration.from_json({**DOCUMENT, **change})


@pytest.mark.parametrize("missing", sorted(DOCUMENT))
def test_a_section_that_lacks_a_key_is_refused(missing):
    with pytest.raises(ModelError, match="keys"):
        BeaconCalibration.from_json({key: value for key, value in DOCUMENT.items() if key != missing})


@pytest.mark.parametrize("other", [None, [], "beacon", 3])
def test_something_else_is_refused(other):
    with pytest.raises(ModelError):
        BeaconCalibration.from_json(other)


def test_a_threshold_of_other_settings_is_refused_with_a_remedy():
    options = {**asdict(BeaconOptions()), "burst_seconds": 5.0}
    with pytest.raises(ModelError, match="other settings") as caught:
        BeaconCalibration.from_json({**DOCUMENT, "options": options})
    assert "dvc repro" in caught.value.remedy
