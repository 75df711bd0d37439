"""`eguard doctor` as an operator runs it, on this machine."""

import json
import os
import subprocess
import sys

import pytest

from eguard.operations import CHECKS

pytestmark = pytest.mark.e2e


def doctor(*arguments, **environment):
    command = [sys.executable, "-c", "from eguard.cli.app import main; main()", "doctor", *map(str, arguments)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EGUARD_")}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**kept, "COLUMNS": "120", **environment}, timeout=120
    )


@pytest.fixture
def state(tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    return tmp_path / "state"


def test_every_check_answers_with_a_state_a_cause_and_what_to_do(state):
    answer = doctor("--skip-sensors", "--json", EGUARD_STATE_PATH=str(state), EGUARD_SERVER="http://localhost:1")
    document = json.loads(answer.stdout)
    assert [check["name"] for check in document["checks"]] == list(CHECKS)
    found = {check["name"]: check for check in document["checks"]}
    assert {check["state"] for check in found.values()} <= {"ok", "warning", "failed", "skipped"}
    assert all(check["cause"] for check in found.values())
    assert all(check["remedy"] for check in found.values() if check["state"] in {"warning", "failed"})
    assert found["transport"]["state"] == "failed"
    assert (document["healthy"], answer.returncode) == (False, 1)
    assert sum(document["counts"].values()) == len(CHECKS)
    assert list(state.iterdir()) == []


def test_a_healthy_choice_of_checks_ends_with_0_and_is_readable(state):
    answer = doctor("--check", "python", "--check", "state_folder", EGUARD_STATE_PATH=str(state))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"{state}, mode 0700" in answer.stdout.replace("\n", " ")
    assert "2 ok, 0 warning, 0 failed, 0 skipped" in answer.stdout


def test_settings_that_cannot_be_read_fail_one_check_and_not_the_command(tmp_path):
    (tmp_path / "agent.toml").write_text("sensr = 'ebpf'\n")
    answer = doctor("--skip-sensors", "--config", tmp_path / "agent.toml", "--json")
    assert answer.returncode == 1
    found = {check["name"]: check for check in json.loads(answer.stdout)["checks"]}
    assert (found["settings"]["state"], "sensr" in found["settings"]["cause"]) == ("failed", True)
    assert found["python"]["state"] == "ok"
    assert found["transport"]["state"] == "skipped"


def test_an_unknown_check_is_wrong_usage():
    answer = doctor("--check", "clok")
    assert answer.returncode == 2
    assert "there is no check 'clok'" in answer.stderr


def test_on_an_endpoint_no_check_loads_what_only_a_server_has(state):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from eguard.operations import Examination, run_checks\n"
        "from eguard.settings import AgentSettings, ServerSettings\n"
        f"state = Path({str(state)!r})\n"
        "settings = AgentSettings(state_path=state, server='https://localhost:1')\n"
        "server = ServerSettings(server_state_path=state / 'none')\n"
        "run_checks(Examination(settings, server, skip_sensors=True))\n"
        "heavy = ('sqlalchemy', 'alembic', 'fastapi', 'uvicorn', 'pandas', 'pyarrow', 'sklearn', 'duckdb')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, cwd=state.parent
    )
    assert answer.stdout == "[]\n"
