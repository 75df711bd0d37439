"""`eguard ml nightly`, `ml train` and `ml labels`: from what analysts said to a judged model."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final

import typer

from eguard.cli.output import print_facts, print_json, print_table, printable, progress_bar

labels_app = typer.Typer(help="What analysts said of alerts, as rows to learn from.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_EXIT_CODES: Final = {"success": 0, "skipped": 0, "gate_failed": 1, "failed": 2}
_SHOWN: Final = (
    "run_id",
    "status",
    "cause",
    "remedy",
    "model_version",
    "resource_profile",
    "promoted",
    "latest_run_id",
)


def nightly(
    *,
    ignore_drift: Annotated[
        bool,
        typer.Option(
            "--ignore-drift", help="Do not compare features with the last night: the fleet changed on purpose."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Retrain on what analysts said of the fleet's alerts, judge the model, and keep it if it is good enough.

    Reads the database of EGUARD_DATABASE_URL and works below EGUARD_ML_OUTPUT_ROOT; the server runs the same as the
    maintenance task `signature_ml_feedback_train`. Exit code 0 for success and for `skipped` (too little feedback), 1
    if a gate said no, 2 if the run failed or another one is under way. `latest` changes only on success.

    Example: `EGUARD_ML_OUTPUT_ROOT=/var/lib/eguard-ml eguard ml nightly`
    """
    from eguard.fleet.database import Database
    from eguard.mlops.nightly import run_nightly
    from eguard.settings import load_mlops_settings, load_nightly_settings, load_server_settings

    server, night, knobs = load_server_settings(), load_nightly_settings(), load_mlops_settings()
    signal.signal(signal.SIGTERM, _leave)
    database = Database(server.fleet_url)
    try:
        with progress_bar(quiet=as_json) as progress:
            report = run_nightly(
                database, night, knobs, repository=server.repository, ignore_drift=ignore_drift, progress=progress
            )
    finally:
        database.dispose()
    if as_json:
        print_json(report)
    else:
        _print_report(report, night.output_root)
    raise typer.Exit(_EXIT_CODES[report["status"]])


def _leave(number: int, _frame: FrameType | None) -> None:
    """End as on a signal of the terminal, so that the run's children end with it."""
    raise SystemExit(128 + number)


def _print_report(report: dict[str, Any], root: Path) -> None:
    shown = {name: report.get(name) for name in _SHOWN}
    facts: dict[str, Any] = {name: printable(str(value)) for name, value in shown.items() if value not in {None, ""}}
    facts |= {name.replace("_", " "): value for name, value in report.get("export", {}).items() if value}
    facts["seconds"], facts["report"] = report["seconds"], root / "latest-report.json"
    print_facts(facts)
    gates = report.get("offline_eval", {}).get("gates", [])
    if gates:
        rows = [
            (
                gate["name"],
                "-" if gate["value"] is None else f"{gate['value']:.4f}",
                f"{gate['rule']} {gate['threshold']:g}",
                "met" if gate["passed"] else "missed",
            )
            for gate in gates
        ]
        print_table("gates", ("gate", "value", "asked", ""), rows)


@labels_app.command()
def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="NDJSON file to write.")],
    *,
    hours: Annotated[float | None, typer.Option("--hours", min=0.01, help="Window; EGUARD_ML_LOOKBACK_HOURS.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write adjudicated alerts as NDJSON: what was seen, the label that counts, who gave it, and the 43 features.

    The latest verdict of an alert counts. Alerts that cannot be learned from are counted by reason and left out.

    Example: `eguard ml labels export --out labels.ndjson`
    """
    import time

    from eguard.fleet.database import Database
    from eguard.mlops.export import export_labels
    from eguard.mlops.live_events import Window, read_live_events
    from eguard.settings import load_nightly_settings, load_server_settings

    night = load_nightly_settings()
    window = Window(time.time(), 3600.0 * (hours or night.lookback_hours), night.query_limit)
    database = Database(load_server_settings().fleet_url)
    try:
        with progress_bar(quiet=as_json) as progress:
            facts = export_labels(read_live_events(database, window, progress), out, progress)
    finally:
        database.dispose()
    if as_json:
        print_json(facts)
    else:
        print_facts({name.replace("_", " "): value for name, value in facts.items()})


def train(
    *,
    dataset: Annotated[Path, typer.Option("--dataset", help="Corpus as NDJSON (operations manual 5.2).")],
    feature_schema: Annotated[Path, typer.Option("--feature-schema", help="Schema of the features in the corpus.")],
    labels_report: Annotated[Path, typer.Option("--labels-report", help="Report of the label gate on the corpus.")],
    model_out: Annotated[Path, typer.Option("--model-out", help="Model JSON to write.")],
    metadata_out: Annotated[Path, typer.Option("--metadata-out", help="Metadata JSON to write.")],
    model_version: Annotated[
        str | None,
        typer.Option("--model-version", help="Version written into the model; else after the last row's day."),
    ] = None,
    resource_profile: Annotated[
        str, typer.Option("--resource-profile", help="auto, tiny, modest, balanced or high.")
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train a model on a corpus that a night or `ml labels export` wrote, with the flags of operations manual 5.1.

    Refused are a corpus of another feature contract and labels that the label gate refused. The metadata say for which
    machine training was sized: profile, processors, memory, rows sampled from.

    Example: `eguard ml train --dataset latest/signature-ml-features.ndjson
    --feature-schema latest/signature-ml-feature-schema.json
    --labels-report latest/signature-ml-label-quality-report.json --model-out model.json --metadata-out metadata.json`
    """
    from eguard.mlops.train_file import TrainFiles, train_file
    from eguard.settings import load_mlops_settings

    files = TrainFiles(dataset, feature_schema, labels_report, model_out, metadata_out)
    with progress_bar(quiet=as_json) as progress:
        metadata = train_file(files, load_mlops_settings(), model_version, resource_profile, progress=progress)
    if as_json:
        print_json(metadata)
    else:
        print_facts({name: value for name, value in metadata.items() if not isinstance(value, dict | list)})
