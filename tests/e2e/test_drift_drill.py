"""`eguard simulate drill`: both alarms of the runbook, as a user runs it, with a smaller fleet."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
EGUARD = Path(sys.executable).with_name("eguard")


def run(*arguments):
    return subprocess.run(
        [EGUARD, "simulate", "drill", *arguments, "--json"], capture_output=True, text=True, timeout=600, check=False
    )


def test_the_drill_ends_with_the_liars_out_and_the_rollout_under_way(tmp_path):
    done = run("--folder", tmp_path / "drill", "--agents", "16", "--liars", "4", "--keys", "4")
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout)
    facts = {step["title"].split(":")[0]: step["facts"] for step in result["steps"]}
    assert result["complete"] is True
    assert facts["Organic"]["cycles until the alarm"] <= 4
    assert facts["Organic"]["rollout"].startswith("frozen by system")
    assert (facts["Who moved it"]["precision"], facts["Who moved it"]["recall"]) == (1.0, 1.0)
    assert facts["Take the liars' votes"]["quarantined"] == 4
    assert facts["Every step is on record"]["intact"] is True


def test_a_majority_of_liars_is_no_drill(tmp_path):
    done = run("--folder", tmp_path, "--agents", "10", "--liars", "5")
    assert done.returncode == 1
    assert "minority" in done.stderr
