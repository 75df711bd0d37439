"""`eguard store` as an operator uses it."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e


def store(*arguments):
    command = [sys.executable, "-c", "from eguard.cli.app import main; main()", "store", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_exercise_verify_dump_and_damage(tmp_path):
    folder = tmp_path / "state"
    answer = store("exercise", folder, "--ops", 20, "--seed", 4)
    assert answer.stdout.split("\n")[:4] == ["START 1", "ACK 1", "START 2", "ACK 2"]
    assert answer.stdout.count("ACK") == 20
    state = json.loads(store("dump", folder / "baselines.bin", "--json").stdout)
    assert state["operation"] == 20
    assert state["profiles"]
    journal = folder / "baselines.journal"
    data = bytearray(journal.read_bytes())
    data[100] ^= 1
    journal.write_bytes(data)
    answer = store("verify", folder, "--json")
    assert answer.returncode == 1
    report = json.loads(answer.stdout)
    assert [problem["kind"] for problem in report["problems"]] == ["damaged_middle"]
    assert journal.read_bytes() == data


def test_a_missing_folder_is_told_with_a_remedy(tmp_path):
    answer = store("verify", tmp_path / "nowhere")
    assert answer.returncode == 2
    assert "remedy" in answer.stderr
