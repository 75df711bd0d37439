"""`eguard sensor` as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
EVENTS = ROOT / "data/raw/net-c2-sessions/caldera_manx_tcp.messages.csv"


def sensor(*arguments):
    command = [sys.executable, "-c", "from eguard.cli.app import main; main()", "sensor", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_list_says_of_every_sensor_whether_and_why_not():
    answer = sensor("list", "--json")
    assert answer.returncode == 0
    found = {each["name"]: each for each in json.loads(answer.stdout)["sensors"]}
    assert list(found) == ["ebpf", "proc_connector", "psutil"]
    for each in found.values():
        assert each["works"] != bool(each["reason"])
        assert bool(each["remedy"]) != each["works"]


def test_a_replay_prints_one_document_an_event_and_the_counts_at_the_end():
    answer = sensor("watch", "--sensor", "replay", "--file", str(EVENTS), "--json")
    assert answer.returncode == 0
    *events, last = [json.loads(line) for line in answer.stdout.splitlines()]
    assert last["sensor"] == "replay"
    assert sum(last["counters"]["received"].values()) == len(events) > 0
    assert all(event["event_class"] and event["time_unix"] for event in events)


def test_what_was_printed_can_be_watched_again_and_says_the_same(tmp_path):
    recording = tmp_path / "day.jsonl"
    recording.write_text(sensor("watch", "--sensor", "replay", "--file", str(EVENTS), "--json").stdout)
    again = sensor("watch", "--sensor", "replay", "--file", str(recording), "--json")
    assert again.returncode == 0
    assert again.stdout.splitlines()[:-1] == recording.read_text().splitlines()[:-1]


def test_a_sensor_that_cannot_be_had_is_refused_with_the_remedy():
    missing = sensor("watch", "--sensor", "replay", "--file", "none.csv")
    assert (missing.returncode, "remedy:" in missing.stderr) == (3, True)
    unknown = sensor("watch", "--sensor", "radar")
    assert (unknown.returncode, "proc_connector" in unknown.stderr) == (2, True)


def test_the_portable_sensor_watches_for_as_long_as_it_is_told():
    answer = sensor("watch", "--sensor", "psutil", "--duration", "0.3", "--json")
    assert answer.returncode == 0
    assert json.loads(answer.stdout.splitlines()[-1])["sensor"] == "psutil"


def test_a_log_becomes_a_recording_that_holds_the_same(tmp_path):
    path = tmp_path / "r.egrec"
    made = sensor("record", "--sensor", "replay", "--file", str(EVENTS), "--out", str(path), "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["events"] > 0
    first, again = (sensor("watch", "--sensor", "replay", "--file", str(each), "--json") for each in (EVENTS, path))
    assert first.stdout.splitlines()[:-1] == again.stdout.splitlines()[:-1]
    path.write_bytes(path.read_bytes()[:-3])
    torn = sensor("watch", "--sensor", "replay", "--file", str(path))
    assert (torn.returncode, "breaks off" in torn.stderr, "Traceback" in torn.stderr) == (2, True, False)
