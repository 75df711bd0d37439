"""The output folder of nightly runs: one run at a time, and `latest` whole or as it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from eguard.bundle.repository import write_durably
from eguard.errors import ConfigError, PipelineBusyError
from eguard.mlops.nightly_process import append
from eguard.mlops.workspace import write_report

if sys.platform != "win32":
    import fcntl

LOCK_NAME: Final = ".nightly.lock"
REPORT_NAME: Final = "report.json"
LATEST_REPORT: Final = "latest-report.json"
#: Run folders that are kept, beside the one that `latest` is.
KEPT_RUNS: Final = 14
#: What a successful run leaves for people and for evidence, by its place in the workspace.
ARTEFACTS: Final = {
    "signature-ml-model.json": "models/signature-ml-model.json",
    "signature-ml-model-metadata.json": "models/signature-ml-model-metadata.json",
    "calibration.json": "models/calibration.json",
    "signature-ml-features.ndjson": "data/processed/signature-ml-features.ndjson",
    "signature-ml-feature-schema.json": "data/processed/feature-schema.json",
    "signature-ml-corpus-report.json": "reports/corpus.json",
    "signature-ml-label-quality-report.json": "reports/label-quality.json",
    "signature-ml-feature-snapshot-report.json": "reports/feature-snapshot.json",
    "signature-ml-training-report.json": "reports/train.json",
    "signature-ml-offline-eval-report.json": "reports/signature-ml-offline-eval-report.json",
    "signature-ml-calibration-report.json": "reports/calibration.json",
    "dvc.yaml": "dvc.yaml",
    "dvc.lock": "dvc.lock",
    "params.yaml": "params.yaml",
}


class OutputRoot:
    """The folder that EGUARD_ML_OUTPUT_ROOT names.

    ::

        latest-report.json       of the run that ended last, whatever became of it
        latest -> runs/ID/artefacts   of the last run that succeeded
        runs/ID/report.json, pipeline.log, workspace/, artefacts/

    Parameters
    ----------
    path : Path
        Made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def latest(self) -> Path:
        """Artefacts of the last run that succeeded; a link, which may not exist."""
        return self.path / "latest"

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the folder for one run; yield the descriptor that holds it, for children to inherit.

        Raises
        ------
        PipelineBusyError
            Another run holds it, or a child that outlived its run.
        ConfigError
            The folder cannot be made or written.
        """
        try:
            (self.path / "runs").mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be used: {error.strerror}",
                remedy="Set EGUARD_ML_OUTPUT_ROOT to a folder that this user may write.",
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise PipelineBusyError(
                    f"another run works in {self.path}", remedy="Wait for its end; latest-report.json will tell of it."
                ) from error
            yield descriptor
        finally:
            os.close(descriptor)

    def begin(self, run_id: str) -> Path:
        """Make a run's folder.

        Raises
        ------
        ConfigError
            It cannot be made.
        """
        folder = self.path / "runs" / run_id
        try:
            (folder / "workspace").mkdir(parents=True)
            (folder / "pipeline.log").touch()
        except OSError as error:
            raise ConfigError(
                f"{folder} cannot be made: {error.strerror}", remedy="Make room, or let this user write there."
            ) from error
        return folder

    def close_broken_off(self) -> list[str]:
        """Write down for runs without a report that they were broken off, and drop what they were making."""
        found = []
        for folder in sorted((self.path / "runs").iterdir()):
            if folder.is_dir() and not (folder / REPORT_NAME).exists():
                shutil.rmtree(folder / "workspace", ignore_errors=True)
                shutil.rmtree(folder / "artefacts", ignore_errors=True)
                report = {
                    "run_id": folder.name,
                    "status": "failed",
                    "cause": "the run was broken off: killed, or power lost",
                }
                try:
                    write_report(folder / REPORT_NAME, report)
                except OSError:
                    continue  # no room for it; the next run tries again
                found.append(folder.name)
        return found

    def runs_of_day(self, run_id: str) -> int:
        """Return how many runs of this run's day there are, itself among them."""
        return sum(folder.name[:8] == run_id[:8] for folder in (self.path / "runs").iterdir())

    def finish(self, run_id: str, report: dict[str, Any], *, is_success: bool) -> None:
        """Keep a run's report and, if it succeeded, turn `latest` to its artefacts in one step.

        `report` gets the digests of the artefacts, or is turned into that of a failure if there is no room for them.

        Raises
        ------
        ConfigError
            Not even the report can be kept.
        """
        folder = self.path / "runs" / run_id
        try:
            if is_success:
                report["artefacts"] = _gather(folder)
                append(folder / "pipeline.log", f"status: success, model {report.get('model_version')}\n")
            elif report["status"] != "skipped":
                append(folder / "pipeline.log", f"status: {report['status']}: {report['cause']}\n")
            if is_success:
                write_report(folder / "artefacts" / REPORT_NAME, report)
                self._turn_latest(folder / "artefacts")
        except OSError as error:
            report |= {
                "status": "failed",
                "cause": f"the artefacts could not be kept: {error.strerror}",
                "remedy": f"Make room on the disk of {self.path}; `latest` is as it was.",
            }
        report["latest_run_id"] = self._latest_run_id()
        data = (json.dumps(report, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
        try:
            (folder / REPORT_NAME).write_bytes(data)
            write_durably(self.path / LATEST_REPORT, data)
        except OSError as error:
            told = f"{report['status']}: {report['cause']}"
            raise ConfigError(
                f"the report of run {run_id} ({told}) could not be kept: {error.strerror}",
                remedy=f"Make room on the disk of {self.path}; `latest` is as it was.",
            ) from error
        self._forget_old()

    def _turn_latest(self, artefacts: Path) -> None:
        temporary = self.path / ".latest.new"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(artefacts.relative_to(self.path))
        temporary.replace(self.latest)
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _latest_run_id(self) -> str | None:
        return self.latest.resolve().parent.name if self.latest.is_symlink() and self.latest.exists() else None

    def _forget_old(self) -> None:
        kept = self._latest_run_id()
        for folder in sorted((self.path / "runs").iterdir(), reverse=True)[KEPT_RUNS:]:
            if folder.name != kept:
                shutil.rmtree(folder, ignore_errors=True)


def _gather(folder: Path) -> dict[str, str]:
    """Link a run's results into one folder, on disk before anybody is told of it; return their SHA-256 by name."""
    artefacts, workspace = folder / "artefacts", folder / "workspace"
    artefacts.mkdir()
    places = {name: workspace / place for name, place in ARTEFACTS.items()}
    targets = workspace / "bundles" / "targets"
    if targets.is_dir():
        found = sorted(path for path in targets.rglob("*") if path.is_file())
        places |= {f"bundle/{path.relative_to(targets).as_posix()}": path for path in found}
    digests = {}
    for name, path in places.items():
        target = artefacts / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(path)
        with target.open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
    (artefacts / "pipeline.log").hardlink_to(folder / "pipeline.log")
    return digests
