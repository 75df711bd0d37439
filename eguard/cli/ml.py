"""`eguard ml`: the shipped engine and model on your own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from eguard.cli.ml_candidates import candidates_app, promote, rollback
from eguard.cli.ml_drift import drift
from eguard.cli.ml_nightly import labels_app, nightly, train
from eguard.cli.output import print_facts, print_json, print_table, progress_bar

app = typer.Typer(
    help="The engine and the model on your own data. `formats` lists what can be read.",
    no_args_is_help=True,
)
app.command()(drift)
app.command()(nightly)
app.command()(train)
app.command()(promote)
app.command()(rollback)
app.add_typer(candidates_app, name="candidates")
app.add_typer(labels_app, name="labels")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
MODEL = Path("models/signature-ml-model.json")
BEACON_CALIBRATION = Path("models/beacon-calibration.json")
_BY_SIDE = ("pairs", "pairs_scored", "beacons")


@app.command()
def formats(as_json: JsonOption = False) -> None:
    """List the formats that `replay` reads."""
    from eguard.events.parsers import FORMATS

    if as_json:
        print_json({name: parser.title for name, parser in sorted(FORMATS.items())})
    else:
        print_facts({name: parser.title for name, parser in sorted(FORMATS.items())})


@app.command()
def replay(
    source: Annotated[str, typer.Option("--source", "-s", help="Format of the input; see `eguard ml formats`.")],
    input_path: Annotated[Path, typer.Option("--input", "-i", help="File to read: plain, gzip, xz, zip or tar.gz.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for features, scores and alerts.")],
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="Folder of the bundle to detect with.")] = Path(
        "bundles/targets"
    ),
    as_json: JsonOption = False,
) -> None:
    """Run the detection engine over a file that it has never seen: features, scores, p-values and alerts.

    Bad rows are counted by reason. A file that breaks off is reported after everything before the damage was
    replayed; the exit code is then 2 and the results are kept.
    """
    from eguard.mlops.replay_file import replay_file

    with progress_bar(quiet=as_json) as progress:
        summary = replay_file(source, input_path, out, bundle, progress=progress)
    if as_json:
        print_json(summary)
    else:
        print_facts({name: value for name, value in summary.items() if not isinstance(value, dict)})
        for name, table in summary.items():
            if isinstance(table, dict) and table:
                print_table(name, (name, "n"), sorted(table.items()))
    if summary["damage"]:
        raise typer.Exit(2)


@app.command("eval")
def evaluate(
    features: Annotated[Path, typer.Option("--features", "-f", help="features.parquet of `eguard ml replay`.")],
    labels: Annotated[
        Path, typer.Option("--labels", "-l", help="CSV or NDJSON with the columns sample_id and label (0 or 1).")
    ],
    model: Annotated[Path, typer.Option("--model", "-m", help="Model JSON to judge.")] = MODEL,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap intervals.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Judge a model on labelled features: average precision, ROC-AUC, Brier and more, with intervals over hosts."""
    from eguard.mlops.evaluate_file import evaluate_file

    result: dict[str, Any] = evaluate_file(model, features, labels, seed=seed)
    if as_json:
        print_json(result)
        return
    print_facts({name: value for name, value in result.items() if not isinstance(value, dict)})
    rows = []
    for name, figure in result["metrics"].items():
        low, high = figure["interval"] or (None, None)
        interval = "-" if low is None else f"{low:.4f} to {high:.4f}"
        rows.append((name, "-" if figure["value"] is None else f"{figure['value']:.4f}", interval))
    print_table("metrics", ("metric", "value", "95 % interval over hosts"), rows)


@app.command()
def beacons(
    *,
    input_paths: Annotated[
        list[Path],
        typer.Option("--input", "-i", help="Zeek log (conn, http, ssl, dns) or message table; may be given again."),
    ],
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            "-c",
            help="Threshold: beacon-calibration.json, or the folder of a bundle. models/beacon-calibration.json if it "
            "exists; otherwise pairs are ranked without a verdict.",
        ),
    ] = None,
    networks: Annotated[
        list[str] | None,
        typer.Option(
            "--network",
            "-n",
            help="Network of your own hosts (CIDR); may be given again. Private networks if left out.",
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", "-s", help="Format of the input; recognised if left out.")
    ] = None,
    direction: Annotated[
        Literal["auto", "outbound", "inbound", "all"],
        typer.Option(
            "--direction",
            help="Calls of your own hosts, calls to them by others, or both. By itself: outbound, or inbound where no "
            "outbound pair can be scored.",
        ),
    ] = "auto",
    top: Annotated[int, typer.Option("--top", min=0, help="Pairs to show, 0 for all.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Rank the (source, destination) pairs of network logs by how much they look like beacons, each with its reason.

    Bad rows are counted. A file that breaks off is ranked up to the damage; the exit code is then 2. A beacon found is
    no error: the exit code stays 0.
    """
    from eguard.mlops.beacon_file import rank_beacons, read_beacon_calibration

    chosen = calibration or (BEACON_CALIBRATION if BEACON_CALIBRATION.exists() else None)
    with progress_bar(quiet=as_json) as progress:
        result = rank_beacons(
            input_paths,
            calibration=read_beacon_calibration(chosen) if chosen else None,
            networks=networks or (),
            source_format=source,
            direction=direction,
            top=top,
            progress=progress,
        )
    if as_json:
        print_json(result)
    else:
        _print_ranking(result)
    if result["damage"]:
        raise typer.Exit(2)


def _print_ranking(result: dict[str, Any]) -> None:
    print_facts({name: value for name, value in result.items() if not isinstance(value, dict | list)})
    print_facts({f"{name.replace('_', ' ')} {side}": result[name][side] for name in _BY_SIDE for side in result[name]})
    print_facts({f"left out: {name}": count for name, count in result["excluded"].items()})
    for text in result["warnings"]:
        print_facts({"warning": text})
    for text in result["damage"]:
        print_facts({"damage": text})
    rows = [
        (
            _printable(entry["host"]),
            _printable(entry["destination"]),
            f"{entry['score']:.3f}",
            "-" if entry["period_seconds"] is None else f"{entry['period_seconds']:.1f}",
            entry["n_observations"],
            f"{entry['rarity']:.2f}",
            entry["verdict"].replace("_", " "),
        )
        for entry in result["ranking"]
    ]
    print_table("pairs", ("source", "destination", "score", "period s", "n", "rarity", "verdict"), rows)
    for entry in result["ranking"]:
        if entry["verdict"] == "beacon":
            pair = _printable(f"{entry['host']} > {entry['destination']}")
            typer.echo(f"{pair} ({entry['explanation']}): {entry['reason']}")


def _printable(text: str) -> str:
    """Return a name from the network without what would steer a terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
