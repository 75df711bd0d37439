"""`eguard ml drift` as a user runs it: alarms of real alerts, exit codes, hostile names."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ALERTS = Path(__file__).parents[2] / "data/raw/alerts-ait/russellmitchell_alerts.csv.xz"

pytestmark = pytest.mark.e2e


def drift(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", "from eguard.cli.app import main; main()", "ml", "drift", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        check=False,
    )


def test_the_scan_of_a_real_network_is_told_within_two_hours(tmp_path):
    answer = drift("--input", ALERTS, "--json", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    (network,) = json.loads(answer.stdout)["networks"]
    (windows,) = (
        alarm["times_unix"]
        for alarm in network["alarms"]
        if alarm["detector"] == "Page-Hinkley, KL of windows" and not alarm["host"]
    )
    onset = 1_642_994_714  # of network_scans, in attack_windows.csv
    assert len(windows) == 1
    assert onset < windows[0] < onset + 7_200


def test_tables_for_people_name_times_in_utc(tmp_path):
    answer = drift("--input", ALERTS, cwd=tmp_path)
    assert answer.returncode == 0
    assert "2022-01-24T03:57:27Z" in answer.stdout
    assert "russellmitchell" in answer.stdout


def test_a_broken_file_is_exit_code_2_and_a_foreign_one_is_refused(tmp_path):
    data = ALERTS.read_bytes()
    (tmp_path / "cut_alerts.csv.xz").write_bytes(data[: len(data) // 2])
    broken = drift("--input", "cut_alerts.csv.xz", "--json", cwd=tmp_path)
    assert broken.returncode == 2
    assert len(json.loads(broken.stdout)["damage"]) == 1
    (tmp_path / "poem.txt").write_text("roses are red\n")
    foreign = drift("--input", "poem.txt", cwd=tmp_path)
    assert foreign.returncode != 0
    assert "Traceback" not in foreign.stderr


def test_names_cannot_steer_the_terminal(tmp_path):
    rows = "".join(
        f"{60 * i},alert,10.0.0.1,web\x1b[2J,R{i % 3 if i < 2_000 else 9},false_positive,-\n" for i in range(2_500)
    )
    (tmp_path / "site_alerts.csv").write_text("time,name,ip,host,short,time_label,event_label\n" + rows)
    answer = drift("--input", "site_alerts.csv", "--hosts", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "\x1b" not in answer.stdout
