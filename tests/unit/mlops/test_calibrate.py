import json

import numpy as np
import pandas as pd
import pytest

from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.detection.gate import ConformalGate
from eguard.detection.model import load_model
from eguard.errors import ConfigError
from eguard.events import EventClass
from eguard.mlops import calibrate, corpus, train
from eguard.mlops.workspace import Workspace, write_artefact

TRAIN = train.TrainParams(resource_profile="tiny", l2_grid_points=1, bootstrap_replicates=20, boosting_leaf_nodes=())
BEACON = BeaconCalibration(0.4, 0.01, 1234, insufficient_calibration=False)
PARAMS = calibrate.CalibrateParams(alpha=0.05, simulations=50)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory, small_signals):
    workspace = Workspace(tmp_path_factory.mktemp("calibrate"))
    workspace.interim.mkdir(parents=True)
    small_signals.to_parquet(workspace.interim / "features.parquet")
    corpus.run(corpus.CorpusParams(), seed=0, workspace=workspace)
    train.run(TRAIN, seed=1, workspace=workspace)
    write_artefact(workspace.models / calibrate.BEACON_CALIBRATION_NAME, BEACON.to_json())
    return workspace, calibrate.run(PARAMS, seed=1, workspace=workspace)


def model_of(workspace):
    return load_model(json.loads((workspace.models / "signature-ml-model.json").read_text()))


def test_the_gate_reads_what_was_written(calibrated):
    workspace, report = calibrated
    model = model_of(workspace)
    document = json.loads((workspace.models / "calibration.json").read_text())
    gate = ConformalGate.from_json(document, model_digest=model.digest)
    assert gate.alpha == 0.05
    assert gate.status(EventClass.ALERT) == "calibrated"
    assert gate.groups["alert"].threshold == report["groups"]["alert"]["threshold"]
    assert gate.beacon == BEACON


def test_scores_are_of_benign_signals_of_hosts_that_were_held_out(calibrated, small_signals):
    workspace, report = calibrated
    held_out = small_signals[(small_signals["network"] == "n4") & (small_signals["label"] == 0)]
    assert report["groups"]["pooled"]["n"] == len(held_out)
    model = model_of(workspace)
    rows = model.tables.apply(
        held_out[list(train.FEATURE_NAMES)].to_numpy(float), np.full(len(held_out), 7), held_out["rule_id"].tolist()
    )
    document = json.loads((workspace.models / "calibration.json").read_text())
    assert document["groups"]["pooled"]["scores"] == pytest.approx(np.sort(model.score(rows)))


def test_at_most_alpha_of_the_calibration_scores_exceed_the_threshold(calibrated):
    workspace, report = calibrated
    scores = json.loads((workspace.models / "calibration.json").read_text())["groups"]["pooled"]["scores"]
    assert np.mean(np.array(scores) > report["groups"]["pooled"]["threshold"]) <= 0.05


def test_too_few_scores_promise_nothing(calibrated):
    workspace, _ = calibrated
    report = calibrate.run(calibrate.CalibrateParams(alpha=0.001, simulations=10), seed=1, workspace=workspace)
    assert (report["groups"]["pooled"]["status"], report["groups"]["pooled"]["threshold"]) == (
        "insufficient_calibration",
        None,
    )
    assert report["coverage_simulation"]["status"] == "insufficient_calibration"
    calibrate.run(PARAMS, seed=1, workspace=workspace)


def test_without_unseen_benign_signals_there_is_no_calibration(calibrated, tmp_path, small_signals):
    workspace, _ = calibrated
    other = Workspace(tmp_path)
    other.models.mkdir()
    for name in ("signature-ml-model.json", "signature-ml-model-metadata.json"):
        (other.models / name).write_bytes((workspace.models / name).read_bytes())
    other.interim.mkdir(parents=True)
    small_signals[small_signals["network"] != "n4"].to_parquet(other.interim / "features.parquet")
    with pytest.raises(ConfigError, match="no benign signal"):
        calibrate.run(PARAMS, seed=1, workspace=other)


def live_rows(signals, n, *, is_reservoir, depth, host="live-1"):
    """Return benign rows of a host of the fleet that training never saw."""
    rows = signals[signals["label"] == 0].iloc[[0] * n].copy()
    rows["sample_id"] = [f"{host}-{is_reservoir}-{number}" for number in range(n)]
    rows["source"], rows["host_id"], rows["network"], rows["is_reservoir"] = "live", host, "office", is_reservoir
    rows["tree_depth"] = np.linspace(0.0, depth, n)
    return rows


@pytest.mark.parametrize(("drawn", "is_used"), [(19, True), (18, False)])
def test_what_agents_drew_calibrates_alone_as_soon_as_it_supports_a_threshold(
    calibrated, tmp_path, small_signals, drawn, is_used
):
    """Nineteen rows at alpha .05. Adjudicated alerts of the fleet are selected by the alert: none of them."""
    workspace, before = calibrated
    other = Workspace(tmp_path)
    other.models.mkdir()
    for name in ("signature-ml-model.json", "beacon-calibration.json"):
        (other.models / name).write_bytes((workspace.models / name).read_bytes())
    metadata = json.loads((workspace.models / "signature-ml-model-metadata.json").read_text())
    metadata["holdout"]["hosts"] += ["live-1"]
    write_artefact(other.models / "signature-ml-model-metadata.json", metadata)
    other.interim.mkdir(parents=True)
    parts = [
        small_signals,
        live_rows(small_signals, 40, is_reservoir=False, depth=1.0),
        live_rows(small_signals, drawn, is_reservoir=True, depth=0.5),
        live_rows(small_signals, 200, is_reservoir=True, depth=0.5, host="trained-on"),
    ]
    pd.concat(parts).to_parquet(other.interim / "features.parquet")
    report = calibrate.run(PARAMS, seed=1, workspace=other)
    assert report["population"] == (calibrate.DRAWN_BY_AGENTS if is_used else calibrate.ALL_BENIGN)
    assert report["groups"]["pooled"]["n"] == (drawn if is_used else before["groups"]["pooled"]["n"] + 40 + drawn)
    assert report["groups"]["pooled"]["status"] == "calibrated"
