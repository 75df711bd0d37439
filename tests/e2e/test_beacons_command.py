"""`eguard ml beacons` as a user runs it: rankings, reasons, exit codes, damaged and foreign files."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eguard.detection.beacon_calibration import BeaconCalibration

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
RAW = ROOT / "data" / "raw"
REMCOS = RAW / "net-c2-sessions" / "remcos_ctu_sme11.conn.log.labeled.gz"
MESSAGES = RAW / "net-c2-sessions" / "caldera_manx_tcp.messages.csv"


def beacons(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", "from eguard.cli.app import main; main()", "ml", "beacons", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def calibration(tmp_path):
    path = tmp_path / "beacon-calibration.json"
    path.write_text(json.dumps(BeaconCalibration(0.5, 0.01, 300, insufficient_calibration=False).to_json()))
    return path


def test_a_labelled_channel_ranks_first_with_its_reason(tmp_path, calibration):
    answer = beacons("--input", REMCOS, "--calibration", calibration, "--json", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    first = result["ranking"][0]
    assert (first["destination"], first["verdict"], first["rank"]) == ("66.63.168.35:5888", "beacon", 1)
    assert "is above 0.500" in first["reason"]
    assert (result["beacons"]["outbound"], result["excluded"]["multicast"]) == (1, 7)
    assert result["ranking"][1]["verdict"] == "too_few_observations"


def test_people_get_a_table_and_the_reasons(tmp_path, calibration):
    answer = beacons("-i", MESSAGES, "-c", calibration, cwd=tmp_path)
    assert answer.returncode == 0
    assert "172.18.0.3 > 172.18.0.2:7010 (not known): score 0.774 is above 0.500" in answer.stdout


def test_a_folder_of_a_bundle_gives_the_threshold(tmp_path, calibration):
    models = tmp_path / "bundle" / "models"
    models.mkdir(parents=True)
    section = json.loads(calibration.read_text())
    (models / "calibration.json").write_text(json.dumps({"format": 1, "beacon": section}))
    result = json.loads(beacons("-i", MESSAGES, "-c", tmp_path / "bundle", "--json", cwd=tmp_path).stdout)
    assert result["threshold"] == 0.5


def test_without_a_calibration_there_is_a_ranking_and_no_verdict(tmp_path):
    answer = beacons("-i", MESSAGES, "--json", cwd=tmp_path)
    result = json.loads(answer.stdout)
    assert (answer.returncode, result["threshold"], result["is_advisory"]) == (0, None, True)
    assert result["ranking"][0]["verdict"] == "uncalibrated"


def test_a_file_that_breaks_off_is_ranked_up_to_the_damage(tmp_path, calibration):
    cut = tmp_path / "cut.log.gz"
    cut.write_bytes(REMCOS.read_bytes()[:15_000])
    answer = beacons("-i", cut, "-c", calibration, "--json", cwd=tmp_path)
    assert answer.returncode == 2
    result = json.loads(answer.stdout)
    assert "cut.log.gz" in result["damage"][0]
    assert result["ranking"][0]["destination"] == "66.63.168.35:5888"
    assert 20 < result["ranking"][0]["n_observations"] < 719


@pytest.mark.parametrize("content", [b"", b"\x00\x01\xff garbage" * 99, b"a,b,c\n1,2,3\n", gzip.compress(b"")])
def test_garbage_is_refused_with_a_remedy(tmp_path, content):
    path = tmp_path / "garbage.log"
    path.write_bytes(content)
    answer = beacons("-i", path, "--json", cwd=tmp_path)
    assert answer.returncode == 2
    assert "remedy" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_one_unreadable_file_of_two_is_named_and_the_other_ranked(tmp_path):
    junk = tmp_path / "junk.log"
    junk.write_bytes(b"\x00\x01" * 500)
    answer = beacons("-i", junk, "-i", MESSAGES, "--json", cwd=tmp_path)
    result = json.loads(answer.stdout)
    assert answer.returncode == 2
    assert "junk.log" in result["damage"][0]
    assert result["ranking"][0]["destination"] == "172.18.0.2:7010"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--network", "everywhere", "no network"),
        ("--calibration", "absent.json", "cannot read the calibration"),
        ("--calibration", ".", "holds no beacon-calibration.json"),
        ("--source", "pcap", "there is no format"),
        ("--input", "absent.log", "absent.log"),
    ],
)
def test_wrong_usage_says_what_to_do(tmp_path, option, value, message):
    given = {"--input": str(MESSAGES)} | {option: value}
    answer = beacons(*(word for pair in given.items() for word in pair), "--json", cwd=tmp_path)
    assert answer.returncode == 2
    assert message in answer.stderr + answer.stdout
    assert "Traceback" not in answer.stderr


def test_a_threshold_of_other_settings_is_refused(tmp_path, calibration):
    document = json.loads(calibration.read_text())
    document["options"]["burst_seconds"] = 9.0
    calibration.write_text(json.dumps(document))
    answer = beacons("-i", MESSAGES, "-c", calibration, cwd=tmp_path)
    assert answer.returncode == 2
    assert "other settings" in answer.stderr


def test_calls_by_strangers_are_ranked_on_demand_only(tmp_path, calibration):
    times = 1_700_000_000 + 300.0 * np.arange(40)
    rows = [f"{time:.3f}\t203.0.113.5\t10.0.0.1\t443\t80\n" for time in times]
    rows += [f"{time + 1:.3f}\t10.0.0.1\t198.51.100.7\t443\t80\n" for time in times]
    log = tmp_path / "conn.log"
    log.write_text(
        "#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\tid.resp_h\tid.resp_p\torig_bytes\n" + "".join(rows)
    )
    outbound = json.loads(beacons("-i", log, "-c", calibration, "--json", cwd=tmp_path).stdout)
    assert [entry["host"] for entry in outbound["ranking"]] == ["10.0.0.1"]
    assert outbound["beacons"] == {"inbound": 1, "outbound": 1}
    both = json.loads(beacons("-i", log, "--direction", "all", "--json", cwd=tmp_path).stdout)
    assert {entry["direction"] for entry in both["ranking"]} == {"inbound", "outbound"}


def test_strangers_are_ranked_where_no_call_of_ones_own_can_be_and_scanners_come_last(tmp_path, calibration):
    times = 1_700_000_000 + 300.0 * np.arange(40)
    rows = [f"{time:.3f}\t203.0.113.5\t10.0.0.1\t443\t80\t0\n" for time in times]
    rows += [f"{time + 7 * (time % 2):.3f}\t203.0.113.6\t10.0.0.1\t443\t80\t900\n" for time in times + np.arange(40)]
    rows.append("1700000001.000\t10.0.0.1\t198.51.100.7\t443\t80\t900\n")
    log = tmp_path / "conn.log"
    fields = "ts\tid.orig_h\tid.resp_h\tid.resp_p\torig_bytes\tresp_bytes"
    log.write_text(f"#separator \\x09\n#path\tconn\n#fields\t{fields}\n" + "".join(rows))
    answer = json.loads(beacons("-i", log, "-c", calibration, "--network", "10.0.0.0/8", "--json", cwd=tmp_path).stdout)
    assert answer["direction"] == "inbound"
    found = [(entry["host"], entry["verdict"]) for entry in answer["ranking"]]
    assert found == [("203.0.113.6", "beacon"), ("203.0.113.5", "not_conversing")]
    assert answer["beacons"] == {"inbound": 1, "outbound": 0}


def test_hosts_of_the_fleet_make_a_destination_common(tmp_path, calibration):
    times = 1_700_000_000 + 300.0 * np.arange(40)
    rows = [f"{time:.3f}\t10.0.0.{host}\t198.51.100.7\t443\t80\n" for host in range(1, 6) for time in times]
    rows += [f"{time:.3f}\t10.0.0.1\t198.51.100.8\t443\t80\n" for time in times]
    log = tmp_path / "conn.log"
    log.write_text(
        "#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\tid.resp_h\tid.resp_p\torig_bytes\n" + "".join(rows)
    )
    result = json.loads(beacons("-i", log, "-c", calibration, "--json", cwd=tmp_path).stdout)
    verdicts = {(entry["host"], entry["destination"]): entry["verdict"] for entry in result["ranking"]}
    assert verdicts["10.0.0.1", "198.51.100.8:443"] == "beacon"
    assert verdicts["10.0.0.3", "198.51.100.7:443"] == "ordinary"
    assert result["fleet_hosts"] == 5
