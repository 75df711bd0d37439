"""Ranking files: the fleet is the operator's own hosts, order is by score, calibrations are read where they are."""

import json
from pathlib import Path

import numpy as np
import pytest

from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.errors import ConfigError, ModelError
from eguard.mlops.beacon_file import rank_beacons, read_beacon_calibration

RAW = Path(__file__).parents[3] / "data" / "raw"
CALIBRATION = BeaconCalibration(0.6, 0.01, 300, insufficient_calibration=False)
BEATS = 1_700_000_000 + 300.0 * np.arange(40)


def conn_log(path, rows):
    """Rows of (times, source, destination address)."""
    lines = [f"{time:.3f}\t{host}\t{address}\t443\t80\n" for times, host, address in rows for time in times]
    head = "#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\tid.resp_h\tid.resp_p\torig_bytes\n"
    path.write_text(head + "".join(lines))
    return path


@pytest.mark.parametrize(
    "place", ["beacon-calibration.json", "models/beacon-calibration.json", "models/calibration.json"]
)
def test_a_calibration_is_found_in_folders_of_models_and_bundles(tmp_path, place):
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    document = CALIBRATION.to_json()
    file.write_text(json.dumps({"beacon": document} if file.name == "calibration.json" else document))
    assert read_beacon_calibration(tmp_path) == CALIBRATION
    assert read_beacon_calibration(file) == CALIBRATION


@pytest.mark.parametrize(
    ("content", "error"), [("[", ConfigError), ("[]", ModelError), ("{}", ModelError), ("7", ModelError)]
)
def test_what_is_no_calibration_is_refused(tmp_path, content, error):
    file = tmp_path / "calibration.json"
    file.write_text(content)
    with pytest.raises(error):
        read_beacon_calibration(file)


def test_two_days_of_one_site_are_one_ranking(tmp_path):
    first = conn_log(tmp_path / "first.log", [(BEATS[:15], "10.0.0.1", "192.0.2.1")])
    second = conn_log(tmp_path / "second.log", [(BEATS[15:], "10.0.0.1", "192.0.2.1")])
    alone = rank_beacons([first], calibration=CALIBRATION)
    together = rank_beacons([first, second], calibration=CALIBRATION)
    assert alone["ranking"][0]["verdict"] == "too_few_observations"
    assert (together["ranking"][0]["verdict"], together["ranking"][0]["n_observations"]) == ("beacon", 40)


def test_only_own_hosts_make_a_destination_common(tmp_path):
    rows = [(BEATS, f"10.0.0.{host}", "192.0.2.1") for host in (1, 2)]
    rows += [(BEATS, f"203.0.113.{host}", "192.0.2.1") for host in range(1, 9)]
    log = conn_log(tmp_path / "conn.log", rows)
    private = rank_beacons([log], calibration=CALIBRATION)
    assert (private["fleet_hosts"], private["ranking"][0]["n_hosts_contacting"]) == (2, 2)
    named = rank_beacons([log], calibration=CALIBRATION, networks=["203.0.113.0/24"], direction="all")
    assert named["fleet_hosts"] == 8
    assert named["pairs"] == {"outbound": 8, "inbound": 2}


def test_without_own_hosts_all_pairs_are_outbound_and_rare(tmp_path):
    log = conn_log(tmp_path / "conn.log", [(BEATS, f"203.0.113.{host}", "192.0.2.1") for host in (1, 2)])
    result = rank_beacons([log], calibration=CALIBRATION)
    assert (result["fleet_hosts"], result["pairs"]["inbound"]) == (0, 0)
    assert "taken as 1" in result["rarity"]
    assert {entry["rarity"] for entry in result["ranking"]} == {1.0}


def server_log(path):
    """A server's own view, public addresses alone: scanners keep time and get no answer, one caller is answered."""
    rows = [(BEATS + host, f"203.0.113.{host}", "192.0.2.1", 0) for host in range(1, 9)]
    rows += [(BEATS + 0.5, "198.51.100.7", "192.0.2.1", 327), (BEATS + 0.25, "192.0.2.1", "198.51.100.9", 48)]
    head = "#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\tid.resp_h\tid.resp_p\torig_bytes\tresp_bytes\n"
    lines = [f"{time:.3f}\t{host}\t{to}\t443\t80\t{back}\n" for times, host, to, back in rows for time in times]
    path.write_text(head + "".join(lines))
    return path


def test_without_own_hosts_one_way_callers_are_no_beacons_and_that_is_said(tmp_path):
    result = rank_beacons([server_log(tmp_path / "conn.log")], calibration=CALIBRATION)
    verdicts = {entry["host"]: entry["verdict"] for entry in result["ranking"]}
    assert {host for host, word in verdicts.items() if word == "beacon"} == {"198.51.100.7", "192.0.2.1"}
    assert {word for host, word in verdicts.items() if host.startswith("203.")} == {"not_conversing"}
    assert result["beacons"] == {"outbound": 2, "inbound": 0}
    (warning,) = result["warnings"]
    assert "no private address" in warning
    assert "--network" in warning
    # The reason does not claim to know who calls in.
    assert "--network" in next(entry["reason"] for entry in result["ranking"] if entry["verdict"] == "not_conversing")


def test_whoever_names_the_own_hosts_is_not_warned_and_the_server_calls_out_alone(tmp_path):
    log = server_log(tmp_path / "conn.log")
    result = rank_beacons([log], calibration=CALIBRATION, networks=["192.0.2.0/24"])
    assert result["warnings"] == []
    assert [entry["host"] for entry in result["ranking"]] == ["192.0.2.1"]
    assert result["beacons"] == {"outbound": 1, "inbound": 1}


def test_pings_are_answered_by_the_kernel_and_are_no_beacons(tmp_path):
    def log(back):
        path = tmp_path / f"conn-{back}.log"
        head = "#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\tid.resp_h\tid.resp_p\torig_bytes\tresp_bytes\n"
        path.write_text(head + "".join(f"{time:.3f}\t203.0.113.1\t192.0.2.1\t0\t56\t{back}\n" for time in BEATS))
        return rank_beacons([path], calibration=CALIBRATION)["ranking"][0]["verdict"]

    assert (log(56), log(84)) == ("not_conversing", "beacon")


def test_named_networks_that_no_source_is_in_are_told(tmp_path):
    result = rank_beacons([server_log(tmp_path / "conn.log")], calibration=CALIBRATION, networks=["10.0.0.0/8"])
    (warning,) = result["warnings"]
    assert "no source is in the networks that were named" in warning
    assert result["beacons"]["outbound"] == 2


def test_a_log_without_answers_cannot_tell_who_converses_and_says_so(tmp_path):
    result = rank_beacons([conn_log(tmp_path / "conn.log", [(BEATS, "203.0.113.1", "192.0.2.1")])])
    (warning,) = result["warnings"]
    assert "answers" in warning
    assert result["ranking"][0]["verdict"] == "uncalibrated"


def test_a_public_server_is_not_flooded_by_its_scanners():
    day = RAW / "net-rita-3days" / "conn.2024-04-20.log.gz"
    calibration = BeaconCalibration(0.42, 0.01, 300, insufficient_calibration=False)
    result = rank_beacons([day], calibration=calibration, top=0)
    beacons = [(entry["host"], entry["destination"]) for entry in result["ranking"] if entry["verdict"] == "beacon"]
    assert ("73.54.23.243", "64.225.56.201:80") in beacons[:5]
    assert len(beacons) <= 10
    assert len(beacons) == result["beacons"]["outbound"]
    assert result["warnings"]


def test_the_order_is_by_score_then_observations_then_name(tmp_path):
    rng = np.random.default_rng(0)
    chaos = 1_700_000_000 + np.cumsum(rng.pareto(0.6, 40) + 0.01)
    log = conn_log(
        tmp_path / "conn.log",
        [
            (chaos, "10.0.0.1", "192.0.2.9"),
            (BEATS, "10.0.0.2", "192.0.2.2"),
            (BEATS, "10.0.0.1", "192.0.2.1"),
            (BEATS[:5], "10.0.0.1", "192.0.2.3"),
            (BEATS[:7], "10.0.0.1", "192.0.2.4"),
        ],
    )
    ranking = rank_beacons([log], calibration=CALIBRATION, top=0)["ranking"]
    assert [entry["destination"].split(":")[0][-1] for entry in ranking] == ["1", "2", "9", "4", "3"]
    assert [entry["rank"] for entry in ranking] == [1, 2, 3, 4, 5]
    assert len(rank_beacons([log], top=2)["ranking"]) == 2


def test_progress_tells_rows_and_pairs(tmp_path):
    told = []
    log = conn_log(tmp_path / "conn.log", [(BEATS, "10.0.0.1", "192.0.2.1")])
    rank_beacons([log], progress=lambda label, done, total: told.append((label, done, total)))
    assert told == [("read rows", 40, 40), ("scored pairs", 1, 1)]
