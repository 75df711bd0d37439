"""The drift stage on one real network, from the shipped file to the report."""

import json
from pathlib import Path

import pandas as pd
import pytest

from eguard.clock import SimulatedClock
from eguard.errors import ConfigError
from eguard.events import EventBatch
from eguard.events.parsers import read_events
from eguard.fleet import FleetStore
from eguard.mlops.drift import DETAILS_NAME, REPORT_NAME, SERIES_NAME, run
from eguard.mlops.drift_params import DriftParams
from eguard.mlops.tables import write_events
from eguard.mlops.workspace import Workspace

RAW = Path(__file__).parents[2] / "data/raw"
WINDOWS = RAW / "alerts-ait/attack_windows.csv"
PARAMS = DriftParams(attack_windows=str(WINDOWS))


@pytest.fixture(scope="module")
def alerts():
    return EventBatch.from_events(read_events(RAW / "alerts-ait/russellmitchell_alerts.csv.xz", "ait"))


def workspace(folder, batch):
    place = Workspace(folder)
    write_events(place.interim / "alerts.parquet", batch)
    write_events(place.interim / "events.parquet", batch.slice(0, 10))
    with FleetStore.create(f"sqlite:///{place.interim}/fleet.db", SimulatedClock(1_772_000_000.0)) as store:
        store.aggregate()
    return place


@pytest.fixture(scope="module")
def place(tmp_path_factory, alerts):
    place = workspace(tmp_path_factory.mktemp("drift"), alerts)
    run(PARAMS, seed=0, workspace=place)
    return place


@pytest.fixture(scope="module")
def report(place):
    return json.loads((place.reports / REPORT_NAME).read_text())


def result(report, detector, scope="network"):
    return next(found for found in report["hourly"][scope] if found["detector"] == detector)


def test_the_network_has_its_two_episodes(report):
    assert [network["name"] for network in report["networks"]] == ["russellmitchell"]
    own = [episode for episode in report["episodes"] if episode["network"] == "russellmitchell"]
    assert [episode["steps"][-1] for episode in own] == ["privilege_escalation", "dnsteal"]


def test_windows_find_the_floods_within_two_hours_of_the_first_scan_and_nothing_without_them(report):
    found = result(report, "Page-Hinkley, KL of windows")["default"]
    assert (found["all"]["found"], found["all"]["found_anyway"]) == (1, 0)
    assert found["all"]["delay_of_found_hours"]["value"] < 2.0
    assert found["all"]["false_alarms"] == 0
    assert found["no_floods"]["found"] == 0


def test_every_detector_is_reported_for_networks_and_hosts(report):
    for scope in ("network", "host"):
        assert len(report["hourly"][scope]) == 12
        assert [found["detector"] for found in report["daily"][scope]] == ["level, previous", "level, pinned"]
    hosts = result(report, "level, pinned", "host")["default"]["all"]
    assert hosts["episodes"] > 2


def test_alerts_of_the_exfiltration_outside_its_episode_are_counted(report):
    (background,) = report["background"]
    assert background["steps"] == {"dnsteal": {"alerts": 4, "hours": 3}}


def test_the_series_are_the_networks_hours_and_days(place, report):
    series = pd.read_parquet(place.interim / SERIES_NAME)
    assert set(series["network"]) == {"russellmitchell"}
    assert set(zip(series["reference"], series["period_hours"], strict=True)) == {
        ("previous", 1),
        ("pinned", 1),
        ("same_hour", 1),
        ("previous", 24),
        ("pinned", 24),
    }
    start = report["networks"][0]["start_unix"]
    assert series.loc[series["reference"] == "pinned", "time_unix"].min() > start + 86_400


def test_details_hold_every_setting(place):
    details = json.loads((place.interim / DETAILS_NAME).read_text())
    assert len(details["hourly_grid"]["network"]) == sum(len(found.grid) for found in PARAMS.detectors())
    assert details["captures"] == []


def test_the_same_alerts_give_the_same_bytes(tmp_path, place, alerts):
    again = workspace(tmp_path, alerts)
    run(PARAMS, seed=1, workspace=again)
    for name in (SERIES_NAME, DETAILS_NAME):
        assert (again.interim / name).read_bytes() == (place.interim / name).read_bytes()
    assert (again.reports / REPORT_NAME).read_bytes() == (place.reports / REPORT_NAME).read_bytes()


def test_a_network_shorter_than_its_reference_is_listed_and_left_out(tmp_path, alerts):
    short = workspace(tmp_path, alerts.slice(0, 500))
    found = run(PARAMS, seed=0, workspace=short)
    assert [network["is_watched"] for network in found["networks"]] == [False]
    assert result(found, "level, pinned")["default"]["all"]["episodes"] == 0


def test_missing_inputs_are_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        run(PARAMS, seed=0, workspace=Workspace(tmp_path))
