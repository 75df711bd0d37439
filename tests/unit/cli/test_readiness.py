"""`eguard readiness` and `eguard evidence` on the command line: exit codes, and what an operator is told."""

import json
import signal

import pytest
from typer.testing import CliRunner

from eguard.cli.app import app
from eguard.errors import EvidenceError
from eguard.evidence.readiness import RecordFolder
from eguard.evidence.readiness.drills import DRILLS
from eguard.evidence.signing import PUBLIC_NAME, Custody


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EGUARD_EVIDENCE_PATH", str(tmp_path / "evidence"))
    monkeypatch.setenv("EGUARD_SERVER_STATE_PATH", str(tmp_path / "server"))
    monkeypatch.setenv("EGUARD_ML_OUTPUT_ROOT", str(tmp_path / "ml"))
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


def eguard(*arguments):
    return CliRunner().invoke(app, list(arguments))


def passing(course, _options):
    course.check("seen", "<script>", "all", passed=True)
    return course.record()


def test_a_machine_without_records_is_not_ready_and_says_what_to_run(folder):
    done = eguard("readiness")
    assert done.exit_code == 1
    assert done.output.count("[ ]") == 9
    assert "$ eguard readiness drill kill-switch" in done.output
    assert "NOT READY: 0 of 9 boxes" in done.output
    assert not (folder / "evidence").exists()


def test_when_every_drill_has_passed_it_is_ready(folder, monkeypatch):
    monkeypatch.setattr("eguard.evidence.readiness.drills.run_drill", passing)
    for drill in DRILLS:
        assert eguard("readiness", "drill", drill).exit_code == 0
    done = eguard("readiness", "--json", "--html", "page.html")
    assert (done.exit_code, json.loads(done.output)["ready"]) == (0, True)
    assert "<script>" not in (folder / "page.html").read_text()
    assert "READY: 9 of 9 boxes" in eguard("readiness").output
    listed = json.loads(eguard("readiness", "list", "--json").output)["drills"]
    assert [each["drill"] for each in listed if each["counts"]] == [each["drill"] for each in listed]


def test_a_drill_that_fails_exits_with_1_and_its_record_is_kept_and_shown(folder):
    done = eguard("readiness", "drill", "evidence", "--json")
    assert done.exit_code == 1
    assert "no evidence pack was named" in json.loads(done.output)["error"]
    shown = eguard("readiness", "show", "evidence")
    assert shown.exit_code == 0
    assert "no evidence pack was named" in shown.output


def test_a_drill_that_is_interrupted_leaves_a_record_that_says_so(folder, monkeypatch):
    def told_to_end(_course, _options):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("eguard.evidence.readiness.drills.run_drill", passing)
    assert eguard("readiness", "drill", "runbook").exit_code == 0
    monkeypatch.setattr("eguard.evidence.readiness.drills.run_drill", told_to_end)
    assert eguard("readiness", "drill", "runbook").exit_code == 128 + signal.SIGTERM
    record = RecordFolder(Custody(folder / "evidence")).read("runbook")
    assert (record["error"], record["passed"]) == ("it was interrupted", False)


def test_unknown_drills_and_missing_records_are_refused(folder):
    assert "no drill 'luup'" in str(eguard("readiness", "drill", "luup").exception)
    assert isinstance(eguard("readiness", "show", "loop").exception, EvidenceError)


def test_a_pack_is_believed_here_and_elsewhere_by_the_key_that_was_handed_out(folder, monkeypatch):
    done = eguard("evidence", "collect", "--out", "pack", "--journal-since", "")
    assert done.exit_code == 0, done.output
    assert "no access token" in " ".join(done.output.split())
    key = folder / "evidence" / PUBLIC_NAME
    assert json.loads(eguard("evidence", "verify", "pack", "--json").output)["verified"] is True
    monkeypatch.setenv("EGUARD_EVIDENCE_PATH", str(folder / "elsewhere"))
    assert isinstance(eguard("evidence", "verify", "pack").exception, EvidenceError)
    assert eguard("evidence", "verify", "pack", "--key", str(key)).exit_code == 0
    (folder / "pack" / "versions" / "software.json").write_text("{}")
    refused = eguard("evidence", "verify", "pack", "--key", str(key)).exception
    assert "versions/software.json was changed" in str(refused)
