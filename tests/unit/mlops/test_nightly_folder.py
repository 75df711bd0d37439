"""One run at a time, and `latest` whole or as it was."""

import errno
import json
import os
from pathlib import Path

import pytest

from eguard.errors import ConfigError, PipelineBusyError
from eguard.mlops import nightly_folder
from eguard.mlops.nightly_folder import ARTEFACTS, KEPT_RUNS, OutputRoot


def finished(output, run_id, text="model"):
    """Do what a run that succeeds does with its folder."""
    folder = output.begin(run_id)
    for place in ARTEFACTS.values():
        path = folder / "workspace" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    report = {"run_id": run_id, "status": "success", "cause": "", "model_version": text}
    output.finish(run_id, report, is_success=True)
    return report


@pytest.fixture
def output(tmp_path):
    found = OutputRoot(tmp_path / "out")
    with found.locked():
        pass
    return found


def latest_report(output):
    return json.loads((output.path / "latest-report.json").read_text())


def test_a_second_run_is_refused_while_the_first_works(output):
    with output.locked(), pytest.raises(PipelineBusyError, match="another run"), output.locked():
        pass
    with output.locked():
        pass


def test_a_child_that_outlives_its_run_still_holds_the_folder(output):
    with output.locked() as lock:
        inherited = os.dup(lock)
    try:
        with pytest.raises(PipelineBusyError), output.locked():
            pass
    finally:
        os.close(inherited)


def test_latest_holds_what_the_manual_lists(output):
    report = finished(output, "20260301T020000Z-0001")
    for name in (
        "pipeline.log",
        "signature-ml-model.json",
        "signature-ml-model-metadata.json",
        "signature-ml-offline-eval-report.json",
        "signature-ml-features.ndjson",
        "report.json",
    ):
        assert (output.latest / name).is_file(), name
    assert latest_report(output) == report
    assert report["latest_run_id"] == "20260301T020000Z-0001"
    assert set(report["artefacts"]) == set(ARTEFACTS)


def test_a_run_that_fails_tells_so_and_leaves_latest(output):
    finished(output, "20260301T020000Z-0001", "first")
    output.begin("20260302T020000Z-0002")
    output.finish("20260302T020000Z-0002", {"status": "gate_failed", "cause": "why"}, is_success=False)
    assert (output.latest / "signature-ml-model.json").read_text() == "first"
    assert latest_report(output)["status"] == "gate_failed"
    assert latest_report(output)["latest_run_id"] == "20260301T020000Z-0001"


def test_no_room_for_the_artefacts_is_a_failure_that_leaves_latest(output, monkeypatch):
    finished(output, "20260301T020000Z-0001", "first")

    def full(_self, _other):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "hardlink_to", full)
    report = finished(output, "20260302T020000Z-0002", "second")
    assert report["status"] == "failed"
    assert "No space left" in report["cause"]
    assert (output.latest / "signature-ml-model.json").read_text() == "first"
    assert latest_report(output)["status"] == "failed"


def test_no_room_even_for_the_report_is_said(output, monkeypatch):
    output.begin("20260302T020000Z-0002")

    def full(_path, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nightly_folder, "write_durably", full)
    with pytest.raises(ConfigError, match=r"gate_failed: why.*No space left"):
        output.finish("20260302T020000Z-0002", {"status": "gate_failed", "cause": "why"}, is_success=False)


def test_a_run_that_was_broken_off_is_found_and_cleared(output):
    finished(output, "20260301T020000Z-0001")
    broken = output.begin("20260302T020000Z-0002")
    (broken / "workspace" / "half.parquet").write_text("half")
    assert output.close_broken_off() == ["20260302T020000Z-0002"]
    assert not (broken / "workspace").exists()
    assert json.loads((broken / "report.json").read_text())["status"] == "failed"
    assert output.close_broken_off() == []
    assert latest_report(output)["run_id"] == "20260301T020000Z-0001"


def test_old_runs_go_and_the_one_in_latest_stays(output):
    finished(output, "20260101T020000Z-0000")
    for number in range(KEPT_RUNS + 3):
        run_id = f"202602{number + 1:02d}T020000Z-0000"
        output.begin(run_id)
        output.finish(run_id, {"status": "skipped", "cause": "little"}, is_success=False)
    kept = sorted(folder.name for folder in (output.path / "runs").iterdir())
    assert len(kept) == KEPT_RUNS + 1
    assert kept[0] == "20260101T020000Z-0000"
    assert (output.latest / "signature-ml-model.json").exists()


def test_a_folder_that_cannot_be_made_names_its_setting(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be used") as caught, OutputRoot(tmp_path / "file" / "out").locked():
        pass
    assert "EGUARD_ML_OUTPUT_ROOT" in caught.value.remedy
