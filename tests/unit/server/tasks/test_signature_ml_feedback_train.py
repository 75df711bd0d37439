"""The task that runs a night as a child: what it hands down, what it hands back, how it ends."""

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from eguard.errors import ServerRefusalError
from eguard.server.tasks import TASKS, signature_ml_feedback_train
from eguard.server.tasks.signature_ml_feedback_train import train_on_feedback
from eguard.settings import ServerSettings

REPORT = {"run_id": "r1", "status": "success", "cause": "", "model_version": "m1", "parameters": {"long": 1}}


def no_progress(_label, _done, _total):
    """Take the steps in and go on."""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the task with a script in place of the command."""

    def start(script, progress=no_progress):
        monkeypatch.setattr(signature_ml_feedback_train, "COMMAND", (sys.executable, "-c", script))
        settings = ServerSettings(server_state_path=tmp_path, database_url="sqlite:///there.db")
        return train_on_feedback(SimpleNamespace(settings=settings), progress)

    return start


def printing(report):
    return f"print({json.dumps(report)!r})"


def test_it_runs_each_night_at_two():
    task = next(task for task in TASKS if task.task_id == "signature_ml_feedback_train")
    assert (task.schedule, task.function) == ("0 2 * * *", train_on_feedback)


def test_success_hands_back_what_tells_a_night(run):
    assert run(printing(REPORT)) == {"run_id": "r1", "status": "success", "cause": "", "model_version": "m1"}


def test_too_little_feedback_is_a_task_skipped(run):
    report = {**REPORT, "status": "skipped", "cause": "3 adjudicated events"}
    assert run(printing(report))["skipped"] == "3 adjudicated events"


@pytest.mark.parametrize("status", ["gate_failed", "failed"])
def test_a_night_without_a_model_is_a_task_failed_under_its_status(run, status):
    with pytest.raises(ServerRefusalError, match="run r1: why") as refusal:
        run(printing({**REPORT, "status": status, "cause": "why"}) + "\nraise SystemExit(1)")
    assert refusal.value.reason == status


def test_words_without_a_report_are_the_cause(run):
    with pytest.raises(ServerRefusalError, match=r"ended with 2: another run works") as refusal:
        run("import sys; print('another run works', file=sys.stderr); sys.exit(2)")
    assert refusal.value.reason == "nightly_failed"


def test_a_server_without_the_pipeline_skips_the_night_and_says_so(run):
    detail = run("import sys; print('needs the package pandas', file=sys.stderr); sys.exit(3)")
    assert detail == {"skipped": "the pipeline is not installed: needs the package pandas"}


def test_the_child_reads_the_servers_database_and_is_low_in_priority(run, tmp_path):
    names = ("EGUARD_DATABASE_URL", "EGUARD_SERVER_STATE_PATH")
    script = (
        "import json, os, time; time.sleep(0.3)\n"
        f"said = [os.environ[name] for name in {names!r}] + [os.nice(0)]\n"
        f"print(json.dumps({REPORT!r} | {{'cause': said}}))"
    )
    assert run(script)["cause"] == ["sqlite:///there.db", str(tmp_path), 10]


def test_the_child_and_all_that_it_began_end_with_the_server(run, tmp_path):
    script = f"""
import subprocess, time
child = subprocess.Popen(["sleep", "62.5"])
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
time.sleep(60)
"""

    def stop(_label, _done, _total):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise ServerRefusalError(503, "task_stopped", "the server is stopping")

    began = time.monotonic()
    with pytest.raises(ServerRefusalError, match="stopping"):
        run(script, stop)
    assert time.monotonic() - began < 30.0
    pid = (tmp_path / "pid").read_text()
    for _ in range(100):
        state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False)
        if state.stdout.strip()[:1] in {"", "Z"}:
            return
        time.sleep(0.05)
    pytest.fail("the grandchild outlived the server")
