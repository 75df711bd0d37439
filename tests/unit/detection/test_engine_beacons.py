"""Beacons in the engine: what alerts, how sure, with which evidence, and what is advisory only."""

import itertools
import json

import numpy as np
import pytest

from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions
from eguard.detection.features import FEATURE_NAMES, N_FEATURES, contract_sha256
from eguard.detection.fleet_context import FleetContext
from eguard.detection.gate import CalibrationGroup, ConformalGate
from eguard.detection.layers import DetectionContent
from eguard.detection.model import load_model
from eguard.detection.prefilter import CommandLinePrefilter
from eguard.events import EventBatch

OPTIONS = EngineOptions(reservoir_events=0)
CALIBRATED = BeaconCalibration(0.65, 0.01, 140, insufficient_calibration=False)
FLEET = FleetContext(n_connecting_hosts=20, destination_hosts={"192.0.2.9:443": 20})
CONTENT = DetectionContent(prefilter=CommandLinePrefilter({"mimikatz": 1}), fleet=FLEET)
PERIODICITY = FEATURE_NAMES.index("beacon_periodicity")


@pytest.fixture(scope="module")
def model():
    return load_model(
        {
            "format": 1,
            "kind": "logistic",
            "version": "test",
            "contract_sha256": contract_sha256(),
            "n_features": N_FEATURES,
            "threshold": 0.5,
            "platt": {"slope": 1.0, "intercept": 0.0},
            "tables": {"class_risk": [0.1] * 8, "rule_precision": {}, "rule_precision_default": 0.1},
            "parameters": {
                "coefficients": [0.0] * N_FEATURES,
                "center": [0.0] * N_FEATURES,
                "scale": [1.0] * N_FEATURES,
                "intercept": -5.0,
            },
        }
    )


def engine(model, calibration=CALIBRATED, content=CONTENT, options=OPTIONS):
    scores = np.linspace(0.0, 1.0, 200)
    gate = ConformalGate({"pooled": CalibrationGroup(1.0, "calibrated", scores)}, 0.01, model.digest, calibration)
    return Engine("h", content, options, model=model, gate=gate)


def calls(n=40, address="192.0.2.1", **columns):
    given = {"time_unix": 1.7e9 + 60.0 * np.arange(n), "event_class": [3] * n, "comm": ["a.exe"] * n}
    given |= {"destination_address": [address] * n, "destination_port": [443] * n, "sent_bytes": [310] * n}
    return EventBatch(**(given | columns))


def test_a_confirmed_beacon_alone_is_one_high_alert_with_its_evidence(model):
    output = engine(model).process(calls(300))
    (alert,) = output.alerts
    assert (alert.confidence, alert.reasons) == ("high", ("beacon to 192.0.2.1:443",))
    assert alert.beacon.score == 1.0
    assert json.loads(alert.to_json())["beacon"]["period_seconds"] == 60.0
    assert output.candidates.positions.tolist() == [19]
    assert (output.candidates.keys, output.candidates.detectors) == (["beacon:a.exe"], ["eguard.beacons"])
    assert output.features[0, PERIODICITY] == 1.0
    assert [(position, found.is_confirmed) for position, found in output.beacon_alarms] == [(19, True)]


def test_what_else_fires_towards_a_confirmed_beacon_is_high_too(model):
    suspicious = [""] * 60
    suspicious[5] = suspicious[50] = "mimikatz"
    output = engine(model).process(calls(60, command_line=suspicious))
    assert [(alert.observed_at_unix - 1.7e9, alert.confidence) for alert in output.alerts] == [
        (19 * 60.0, "high"),
        (50 * 60.0, "high"),
    ]


@pytest.mark.parametrize(
    ("calibration", "content"),
    [
        (BeaconCalibration(0.65, 0.01, 56, insufficient_calibration=True), CONTENT),
        (CALIBRATED, DetectionContent(prefilter=CONTENT.prefilter)),
    ],
    ids=["insufficient calibration", "no fleet table"],
)
def test_an_advisory_makes_no_alert_and_raises_no_confidence(model, calibration, content):
    suspicious = [""] * 60
    suspicious[50] = "mimikatz"
    output = engine(model, calibration, content).process(calls(60, command_line=suspicious))
    assert output.alerts == []
    assert output.candidates.positions.tolist() == [50]
    assert [(position, found.is_confirmed) for position, found in output.beacon_alarms] == [(19, False)]


def test_an_advisory_is_told_beside_what_alerts_by_itself(model):
    few = BeaconCalibration(0.65, 0.01, 56, insufficient_calibration=True)
    host = engine(model, few)
    host.process(calls(30))
    alarmed = host.process(calls(1, time_unix=[1.7e9 + 1800.0]))
    assert alarmed.alerts == []
    low = engine(model, few, options=EngineOptions(reservoir_events=100)).process(calls(30))
    assert low.alerts == []
    assert not low.candidates.has_beacon.any()


def test_common_destinations_no_threshold_and_no_gate_raise_nothing(model):
    assert engine(model).process(calls(address="192.0.2.9")).beacon_alarms == []
    assert engine(model, None).process(calls()).beacon_alarms == []
    assert Engine("h", CONTENT, OPTIONS).process(calls()).beacon_alarms == []


def test_the_allow_list_of_the_options_is_heard(model):
    allowing = engine(model, options=EngineOptions(reservoir_events=0, beacon_allow_list=("192.0.2.1",)))
    assert allowing.process(calls()).beacon_alarms == []
    assert allowing.destinations.judge.counts["allowed"] == 4


def test_a_new_table_of_the_fleet_counts_from_then_on(model):
    host = engine(
        model,
        content=DetectionContent(fleet=FleetContext(n_connecting_hosts=20, destination_hosts={"192.0.2.1:443": 20})),
    )
    assert host.process(calls(40)).beacon_alarms == []
    host.swap(content=CONTENT)
    later = host.process(calls(40, time_unix=1.7e9 + 60.0 * np.arange(40, 80)))
    assert [position for position, _ in later.beacon_alarms] == [6]  # the 47th contact


def test_cutting_the_stream_changes_no_beacon(model):
    rng = np.random.default_rng(9)
    n = 1500
    address = [f"192.0.2.{i}" for i in rng.choice(12, n)]
    times = 1.7e9 + np.cumsum(rng.exponential(20.0, n))
    batch = calls(n, time_unix=times, destination_address=address)
    batch.sent_bytes = np.where(rng.random(n) < 0.9, 310, rng.integers(0, 9000, n))
    whole = engine(model).process(batch)
    assert len(whole.beacon_alarms) >= 3
    host, alarms, alerts = engine(model), [], []
    cuts = [0, *sorted(rng.choice(n, 40, replace=False).tolist()), n]
    for start, stop in itertools.pairwise(cuts):
        output = host.process(batch.slice(start, stop))
        alarms += [(start + position, found) for position, found in output.beacon_alarms]
        alerts += output.alerts
    assert alarms == whole.beacon_alarms
    assert alerts == whole.alerts


def test_destinations_of_the_day_are_counted_scored_and_confirmed(model):
    watched = engine(model)
    for address in ("192.0.2.1", "192.0.2.9"):  # the second is one that every host calls
        watched.process(calls(address=address))
    day = 1.7e9 + 60.0 * 39
    assert watched.destinations.judge.tally.counts(day) == (2, 1)
    unsure = engine(model, BeaconCalibration(0.65, 0.01, 20, insufficient_calibration=True))
    unsure.process(calls())
    assert unsure.destinations.judge.tally.counts(day) == (1, 0)
