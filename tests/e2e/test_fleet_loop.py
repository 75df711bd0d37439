"""`make fleet`: a server and three agents as programs of their own, through the whole loop, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
EGUARD = Path(sys.executable).with_name("eguard")
ROOT = Path(__file__).parents[2]


def test_the_fleets_loop_is_complete_on_sqlite(tmp_path):
    done = subprocess.run(
        [EGUARD, "simulate", "loop", "--folder", tmp_path / "fleet", "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    steps = {step["title"].split(":")[0]: step for step in result["steps"]}
    assert result["complete"] is True
    uploaded = steps["Agents learn real hosts and upload"]["rows"]
    assert len(uploaded) == 3
    assert all(rows >= 50 and status == "learning" for _, status, rows, _ in uploaded)
    published = steps["The server aggregates what they agree on"]
    assert published["facts"]["aggregated"] >= 5
    assert all(agents == 3 for _, agents, _ in published["rows"])
    seeded = steps["Agents take it as a prior"]["rows"]
    assert {generation for _, generation, _, _ in seeded} == {1}
    assert all(profiles == published["facts"]["aggregated"] for *_, profiles in seeded)
    again = steps["They upload their own counts again, and say which seed they use"]["rows"]
    assert [generation for _, generation, _ in again] == [1, 1, 1]
    assert max(seconds for _, seconds in steps["The kill switch"]["rows"]) <= 5.0
    assert "403" in steps["A revoked certificate is refused"]["facts"]["answer"]
    assert steps["The audit log holds"]["facts"]["intact"] is True


def test_a_folder_that_holds_a_run_is_left_alone(tmp_path):
    (tmp_path / "server").mkdir()
    done = subprocess.run(
        [EGUARD, "simulate", "loop", "--folder", tmp_path], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 1
    assert "earlier run" in done.stderr
    assert "remedy" in done.stderr


def test_two_hosts_are_no_fleet(tmp_path):
    command = [EGUARD, "simulate", "loop", "--folder", tmp_path / "a", "--host", "x", "--host", "y"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert "three" in done.stderr
