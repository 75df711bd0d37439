"""The stage on the shipped captures: what is found, what is missed and why, and the same bytes every time."""

import json
from pathlib import Path

import numpy as np
import pytest

from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.events import EventBatch
from eguard.events.parsers import read_batches
from eguard.mlops.beacon_pairs import PAIR_COLUMNS
from eguard.mlops.beacon_synthetic import SweepParams
from eguard.mlops.beacons import BeaconsParams, run
from eguard.mlops.ingest_sources import SHIPPED_SOURCES
from eguard.mlops.tables import read_events_table, write_events
from eguard.mlops.workspace import Workspace

RAW = Path(__file__).parents[2] / "data" / "raw"
PARAMS = BeaconsParams(
    random_halves=5,
    sweep=SweepParams(
        jitter_fractions=(0.0, 0.5),
        missed_fractions=(0.0, 0.5),
        periods_seconds=(60.0, 3600.0),
        size_noise_fractions=(0.0,),
    ),
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A workspace that holds the connections of the shipped captures as the ingest stage writes them."""
    space = Workspace(tmp_path_factory.mktemp("beacons"))
    (space.root / "data").mkdir()
    space.raw.symlink_to(RAW)
    batches = [
        EventBatch(**{name: getattr(batch, name) for name in PAIR_COLUMNS})
        for source in SHIPPED_SOURCES
        if source.table == "connections"
        for batch in read_batches(RAW / source.path, source.format, None, source.group)
    ]
    write_events(space.interim / "connections.parquet", EventBatch.concatenate(batches))
    return space


@pytest.fixture(scope="module")
def report(workspace):
    return run(PARAMS, seed=7, workspace=workspace)


def test_the_labelled_channels_are_found_at_the_threshold_that_ships(report):
    found = {row["capture"] for row in report["channels"]["scored"] if row["by_reading"]["destination"]["is_found"]}
    assert {"rita-3days", "apt29-nashua", "slips", "remcos", "caldera"} <= found
    assert report["channels"]["n_channels"] == 6


def test_five_of_six_are_found_under_the_stricter_reading_too(report):
    assert report["channels"]["n_found"]["scored_pair"] >= 5


def test_channels_with_too_few_connections_stand_apart_with_their_reason(report):
    below = report["channels"]["below_minimum"]
    assert {row["capture"] for row in below} == {"apt29-scranton"}
    assert {row["by_reading"]["destination"]["verdict"] for row in below} == {"too_few_observations"}
    assert sorted(row["n_observations"] for row in below) == [1, 2, 5, 5, 6]


def test_the_threshold_keeps_its_promise_on_the_other_half_of_the_hosts(report):
    for reading in ("destination", "scored_pair"):
        checked = report["calibration"]["readings"][reading]["first_half_checked_on_second"]
        low, high = checked["false_alarms"]["destinations"]["interval"]
        assert low <= report["alpha"] <= high or high < report["alpha"]
        assert checked["n"] >= 99
    assert report["calibration"]["readings"]["scored_destination"]["all_hosts"]["threshold"] is None


def test_without_rarity_hardly_any_channel_is_found(report):
    rows = [row for row in report["ablation"] if row["variant"] == "without rarity"]
    assert all(len(row["found"]) <= 1 for row in rows)


def test_plain_information_is_no_detector(report):
    fixed = [row for row in report["comparison"] if row["reading"] == "fixed"]
    assert all(len(row["found"]) <= 2 for row in fixed)
    answers = next(row for row in fixed if row["method"] == "plain_information_of_answers")
    assert answers["false_alarms"]["scored_pairs"]["rate"] > 0.4


def test_the_rita_style_score_finds_the_beacon_that_rita_publishes(report):
    row = next(row for row in report["channels"]["scored"] if row["capture"] == "rita-3days")
    assert round(row["rita_style_score"], 3) == 0.963
    table = {(row["method"], row["reading"]): row for row in report["comparison"]}
    assert "rita-3days" in table["rita_style", "destination"]["found"]


def test_benign_timers_are_explained_by_name_and_period(report):
    timers = {row["destination"]: row for rows in report["benign_timers"].values() for row in rows}
    assert timers["www.alexa.com"]["period_seconds"] == pytest.approx(300.0, abs=1.0)
    assert (timers["www.alexa.com"]["n_hosts_contacting"], timers["www.alexa.com"]["alarms"]) == (10, [])
    assert timers["91.189.91.157:123"]["explanation"] == "time synchronisation (NTP)"
    assert timers["tile-service.weather.microsoft.com"]["period_seconds"] == pytest.approx(1800.0, abs=1.0)


def test_multicast_is_left_out_and_counted(report):
    assert report["excluded_observations"]["multicast"] > 100


def test_unlabelled_pairs_have_counts_and_no_rate(report):
    text = json.dumps(report["unlabelled"])
    assert '"rate"' not in text
    assert report["unlabelled"]["rita-3days"]["inbound"]["scored"] > 600


def test_the_bundle_can_read_the_calibration(workspace, report):
    document = json.loads((workspace.models / "beacon-calibration.json").read_bytes())
    calibration = BeaconCalibration.from_json(document)
    assert calibration.threshold == report["threshold"]
    assert (
        calibration.n_destinations
        == report["calibration"]["readings"]["destination"]["first_half_checked_on_second"]["n"]
    )


def test_the_report_names_the_settings_and_their_revision(report):
    assert report["settings_commit"] == PARAMS.settings_commit
    assert report["settings"]["min_observations"] == 20


def test_a_second_run_writes_the_same_bytes(workspace, report):
    paths = sorted([*workspace.reports.rglob("*.json"), *workspace.models.glob("*.json")])
    before = {path: path.read_bytes() for path in paths}
    run(PARAMS, seed=7, workspace=workspace)
    assert {path: path.read_bytes() for path in paths} == before
    assert len(paths) == 6


def test_another_seed_moves_the_synthetic_channels_only(workspace, report, tmp_path):
    (tmp_path / "data").symlink_to(workspace.root / "data")
    other = run(PARAMS, seed=8, workspace=Workspace(tmp_path))
    same = ("threshold", "comparison", "ablation", "leave_one_capture_out", "benign_timers", "unlabelled")
    assert {name: other[name] for name in same} == {name: report[name] for name in same}
    assert other["sweep"]["operating_points"] != report["sweep"]["operating_points"]


@pytest.mark.parametrize("rows", [20, 300, 4000])
def test_little_data_gives_a_report_that_says_so(workspace, tmp_path, rows):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "raw").symlink_to(RAW)
    events = read_events_table(workspace.interim / "connections.parquet", PAIR_COLUMNS)
    groups = np.array(events.group)
    kept = np.concatenate([np.flatnonzero(groups == name)[:rows] for name in np.unique(groups)])
    small = Workspace(tmp_path)
    write_events(small.interim / "connections.parquet", events.take(np.sort(kept)))
    report = run(PARAMS, seed=7, workspace=small)
    if rows < 4000:
        assert (report["threshold"], report["status"]) == (None, "insufficient_calibration")
        document = json.loads((small.models / "beacon-calibration.json").read_bytes())
        assert BeaconCalibration.from_json(document).insufficient_calibration
        assert all(not channel["by_reading"]["destination"]["is_found"] for channel in report["channels"]["scored"])
    assert report["thresholds"]["scored_pair"] is None
