"""One night: verdicts of the fleet's analysts in, a judged model out, or a sentence that says why not.

A run works in a folder of its own below the output root and touches nothing else until it has succeeded. Then `latest`
is turned to its artefacts in one step. Whoever kills a run, fills its disk or starts it twice finds `latest` as it was.
"""

from __future__ import annotations

import resource
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog

from eguard import __version__
from eguard.errors import EguardError
from eguard.fleet.calibration import BenignSamples, read_benign_samples
from eguard.fleet.database import Database
from eguard.mlops.export import describe, freeze, join_live, live_table, read_shipped
from eguard.mlops.live_events import LiveEvents, Progress, Window, read_live_events
from eguard.mlops.nightly_folder import OutputRoot
from eguard.mlops.nightly_inputs import SHIPPED_CORPUS, Inputs, find_inputs, place_base, place_previous, shipped_reason
from eguard.mlops.nightly_process import Outcome, reproduce
from eguard.mlops.nightly_workspace import make_workspace, night_params, stage_environment
from eguard.mlops.workspace import Workspace, read_json
from eguard.settings import MlopsSettings, NightlySettings

SUCCESS: Final = "success"
SKIPPED: Final = "skipped"
GATE_FAILED: Final = "gate_failed"
FAILED: Final = "failed"
_SECONDS_PER_HOUR: Final = 3600.0
_NO_SPACE: Final = frozenset({28, 122, 27})
_REPORTS: Final = {
    "corpus": "corpus.json",
    "label_gate": "label-quality.json",
    "feature_gate": "feature-snapshot.json",
    "offline_eval": "signature-ml-offline-eval-report.json",
}

_log = structlog.get_logger("eguard.mlops")


@dataclass(slots=True)
class Night:
    """One run under way: where it works, what it is told, and what is to be reported of it."""

    run_id: str
    root: Path
    nightly: NightlySettings
    knobs: MlopsSettings
    now_unix: float
    report: dict[str, Any] = field(default_factory=dict)
    progress: Progress | None = None

    @property
    def workspace(self) -> Workspace:
        """The run's DVC workspace."""
        return Workspace(self.root / "workspace")


def run_nightly(
    database: Database,
    nightly: NightlySettings,
    knobs: MlopsSettings,
    *,
    repository: Path | None = None,
    now_unix: float | None = None,
    ignore_drift: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Export, reproduce, judge and, if all of it succeeds, turn `latest` to the result; return the run's report.

    Parameters
    ----------
    database : Database
        The fleet's database; it is read only.
    nightly, knobs : NightlySettings, MlopsSettings
        The environment (operations manual 5.2).
    repository : Path, optional
        Bundle repository that agents are served: rules and indicators of the new bundle are its.
    now_unix : float, optional
        End of the window; the machine's clock by default.
    ignore_drift : bool
        Whether features are not compared with last night's: a change of the fleet that was looked into.
    progress : callable, optional
        Told of the export and of each stage. What it raises ends the run; `latest` stays as it was.

    Returns
    -------
    dict
        The report, also ``latest-report.json``. Its `status` is ``success``, ``skipped`` (too little feedback),
        ``gate_failed`` (a gate said no) or ``failed``; `cause` and `remedy` say why.

    Raises
    ------
    PipelineBusyError
        Another run works in the output folder.
    ConfigError
        The output folder cannot be written.
    """
    output = OutputRoot(nightly.output_root)
    with output.locked() as lock:
        moment = time.time() if now_unix is None else now_unix
        run_id = f"{datetime.fromtimestamp(moment, UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
        output.close_broken_off()
        night = Night(run_id, output.begin(run_id), nightly, knobs, moment, _begun(run_id, moment), progress)
        _log.info("nightly run began", run_id=run_id, folder=str(night.root))
        began = time.monotonic()
        try:
            _run(night, output, database, repository, lock=lock, ignore_drift=ignore_drift)
        except EguardError as error:
            _close(night, FAILED, error.message, error.remedy)
        except OSError as error:
            _close(night, FAILED, *_explain(error, night))
        night.report |= {"seconds": round(time.monotonic() - began, 2)} | _usage()
        output.finish(night.run_id, night.report, is_success=night.report["status"] == SUCCESS)
        _log.info("nightly run ended", run_id=run_id, status=night.report["status"], cause=night.report["cause"])
        return night.report


def _begun(run_id: str, moment: float) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "status": FAILED,
        "cause": "",
        "remedy": "",
        "eguard_version": __version__,
        "started_at_utc": f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}",
    }


def _close(night: Night, status: str, cause: str, remedy: str = "") -> None:
    night.report |= {"status": status, "cause": cause, "remedy": remedy}


def _run(
    night: Night, output: OutputRoot, database: Database, repository: Path | None, *, lock: int, ignore_drift: bool
) -> None:
    window = Window(night.now_unix, night.nightly.lookback_hours * _SECONDS_PER_HOUR, night.nightly.query_limit)
    live = read_live_events(database, window, night.progress)
    if _is_too_little(night, live):
        return
    inputs = find_inputs(night.nightly, repository)
    version = f"rules-{datetime.fromtimestamp(night.now_unix, UTC):%Y.%m.%d}.ml.v{output.runs_of_day(night.run_id)}"
    params = night_params(inputs, night.knobs, version)
    night.report["parameters"] = params
    with database.read() as connection:
        samples = read_benign_samples(connection, window.start_unix, window.now_unix)
    _freeze(night, inputs, live, samples, takes_shipped=_takes_shipped(params))
    night.report["calibration_samples"] = samples.facts
    has_base = place_base(inputs, night.workspace)
    night.report["bundle"] = {"is_built": has_base, "from": inputs.bundle_from}
    night.report["compared_with"] = place_previous(inputs, output.latest, night.workspace, ignore_snapshot=ignore_drift)
    stages = make_workspace(night.workspace.root, inputs, params, has_base=has_base)
    outcome = reproduce(
        night.workspace.root,
        stages,
        stage_environment(inputs),
        night.root / "pipeline.log",
        progress=night.progress,
        keep_open=(lock,),
    )
    night.report["stage_seconds"] = outcome.seconds
    _judge(night, outcome)


def _is_too_little(night: Night, live: LiveEvents) -> bool:
    least = night.nightly.min_feedback_rows
    night.report["export"] = describe(live, join_live(live_table(live), live.verdicts))
    if len(live) >= least:
        return False
    _close(
        night,
        SKIPPED,
        f"{len(live)} adjudicated events that can be learned from in the last {night.nightly.lookback_hours:g} h, "
        f"asked for {least}",
        "Give verdicts on alerts, or lower EGUARD_ML_MIN_FEEDBACK_ROWS.",
    )
    return True


def _takes_shipped(params: dict[str, Any]) -> bool:
    return bool(params["corpus"]["external_sample_cap"] != 0)


def _freeze(night: Night, inputs: Inputs, live: LiveEvents, samples: BenignSamples, *, takes_shipped: bool) -> None:
    reason = "there is none" if inputs.shipped is None else shipped_reason(inputs.shipped)
    mixed = None
    if inputs.shipped is not None and not reason:
        shipped = read_shipped(inputs.shipped)
        golden = night.workspace.root / SHIPPED_CORPUS
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_bytes(inputs.shipped.read_bytes())
        mixed = shipped if takes_shipped else None
    night.report["shipped"] = {
        "from": None if inputs.shipped is None else str(inputs.shipped),
        "rows": 0 if mixed is None else len(mixed),
        "left_out_because": reason,
    }
    freeze(join_live(live_table(live, samples), live.verdicts), mixed, live.verdicts, night.workspace)


def _judge(night: Night, outcome: Outcome) -> None:
    """Say how the reproduction ended, with what its reports have to say."""
    reports = night.workspace.reports
    for stage, name in _REPORTS.items():
        if stage in outcome.seconds and (reports / name).is_file():
            night.report[stage] = _shown(stage, read_json(reports / name))
    if outcome.returncode == 0:
        metadata = read_json(night.workspace.models / "signature-ml-model-metadata.json")
        night.report |= {
            "model_version": metadata["model_version"],
            "resource_profile": metadata["resource_profile"],
            "promoted": night.report["offline_eval"]["promoted"],
        }
        _close(night, SUCCESS, "")
    elif outcome.is_out_of_space:
        _close(night, FAILED, *_no_space(night, outcome.failed_stage))
    elif outcome.is_gate:
        night.report["failed_stage"] = outcome.failed_stage
        _close(night, GATE_FAILED, outcome.message, outcome.remedy)
    else:
        where = outcome.failed_stage or "dvc repro"
        exited = outcome.stage_exit if outcome.stage_exit is not None else outcome.returncode
        how = f"was ended by signal {-exited}" if exited < 0 else f"ended with {exited}"
        night.report["failed_stage"] = outcome.failed_stage
        remedy = outcome.remedy or f"Read {night.root / 'pipeline.log'}."
        _close(night, FAILED, f"{where} {how}: {outcome.message}", remedy)


def _shown(stage: str, report: dict[str, Any]) -> Any:
    """Return of a stage's report what tells a night from another."""
    if stage == "corpus":
        return {"rows": report["rows"], "by_source": report["by_source"], "analysts": report["analysts"]}
    if stage == "label_gate":
        return {"passed": report["passed"], "checks": report["checks"]}
    if stage == "feature_gate":
        return {"passed": report["passed"], "failures": report["failures"], "span_days": report["span_days"]}
    return {"promoted": report["promoted"], "gates": report["gates"], "golden": report.get("golden")}


def _explain(error: OSError, night: Night) -> tuple[str, str]:
    if error.errno in _NO_SPACE:
        return _no_space(night, "")
    return f"{error.strerror or error}: {error.filename or night.root}", f"Read {night.root / 'pipeline.log'}."


def _no_space(night: Night, stage: str) -> tuple[str, str]:
    where = f" in stage {stage}" if stage else ""
    return (
        f"the disk or quota of {night.nightly.output_root} was full{where}",
        "Make room, or set EGUARD_ML_OUTPUT_ROOT to another disk; `latest` is as it was.",
    )


def _usage() -> dict[str, Any]:
    """Return processor time and the largest resident set of this process and of any child."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu_seconds": round(own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 2),
        "peak_rss_bytes": max(own.ru_maxrss, children.ru_maxrss) * 1024,
    }
