"""`eguard ml nightly` and `eguard ml labels export`, as people and programs see them."""

import json
import signal
import time

import pytest
from live_fleet import fill, past_fleet
from typer.testing import CliRunner

from eguard.cli.app import app
from eguard.fleet import FleetStore
from eguard.mlops import nightly

REPORT = {
    "run_id": "r1",
    "cause": "why \x1b[31m",
    "remedy": "",
    "seconds": 1.5,
    "export": {"rows": 7, "left_out": {}},
    "offline_eval": {"gates": [{"name": "recall", "value": None, "rule": ">=", "threshold": 0.7, "passed": False}]},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("EGUARD_DATABASE_URL", f"sqlite:///{tmp_path}/fleet.db")
    monkeypatch.setenv("EGUARD_ML_OUTPUT_ROOT", str(tmp_path / "out"))
    yield lambda *arguments: CliRunner().invoke(app, ["ml", *arguments])
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize(("status", "code"), [("success", 0), ("skipped", 0), ("gate_failed", 1), ("failed", 2)])
def test_the_exit_code_is_the_status(run, monkeypatch, status, code):
    monkeypatch.setattr(nightly, "run_nightly", lambda *_args, **_named: REPORT | {"status": status})
    answer = run("nightly", "--json")
    assert (answer.exit_code, json.loads(answer.stdout)["status"]) == (code, status)


def test_people_see_the_cause_and_each_gate_and_no_terminal_codes(run, monkeypatch):
    monkeypatch.setattr(nightly, "run_nightly", lambda *_args, **_named: REPORT | {"status": "gate_failed"})
    answer = run("nightly")
    assert "gate_failed" in answer.stdout
    assert "recall" in answer.stdout
    assert "missed" in answer.stdout
    assert "\x1b[31m" not in answer.stdout


def test_labels_are_written_as_rows_of_the_manual(run, tmp_path):
    url = f"sqlite:///{tmp_path}/fleet.db"
    FleetStore.create(url).close()
    fill(url, past_fleet(time.time(), n=50)).dispose()
    answer = run("labels", "export", "--out", str(tmp_path / "labels.ndjson"), "--json")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["rows"] == 50
    rows = [json.loads(line) for line in (tmp_path / "labels.ndjson").read_text().splitlines()]
    assert len(rows) == 50
    assert rows[0]["sample_id"] == "event-00000"
    assert rows[0]["analyst"] == "analyst-0"
    assert {row["label"] for row in rows} == {0, 1}
