"""`eguard ml drift`: when the alerts of your own networks began to look different."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from eguard.cli.output import print_facts, print_json, print_table, printable, progress_bar


def drift(
    *,
    input_paths: Annotated[
        list[Path],
        typer.Option("--input", "-i", help="Alerts: a log, or alerts.parquet of the pipeline; may be given again."),
    ],
    source: Annotated[
        str | None, typer.Option("--source", "-s", help="Format of the input; recognised if left out.")
    ] = None,
    reference_days: Annotated[
        int, typer.Option("--reference-days", min=1, help="First days of a network that count as ordinary.")
    ] = 1,
    hosts: Annotated[bool, typer.Option("--hosts", help="Show the alarms of single hosts too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Tell when the mix of rules in alerts drifted from a network's first days, by every detector at its default.

    Loud events show within the hour, quiet ones do not: docs/explanation/drift.md has the rates. Bad rows are counted.
    A file that breaks off is evaluated up to the damage; the exit code is then 2. An alarm is no error.
    """
    from eguard.mlops.drift_file import drift_of_files
    from eguard.mlops.drift_params import DriftParams

    params = DriftParams(reference_days=reference_days)
    with progress_bar(quiet=as_json) as progress:
        result = drift_of_files(input_paths, params, source_format=source, progress=progress)
    if as_json:
        print_json(result)
    else:
        _print(result, hosts=hosts)
    if result["damage"]:
        raise typer.Exit(2)


def _print(result: dict[str, Any], *, hosts: bool) -> None:
    print_facts({name: value for name, value in result.items() if not isinstance(value, list)})
    for text in result["damage"]:
        print_facts({"damage": text})
    rows = [
        (
            printable(network["network"]),
            network["status"].replace("_", " "),
            network["hosts"],
            network["hours"],
            network["alerts"],
            *(_nats(network["latest"].get(name)) for name in ("previous", "pinned", "same_hour")),
        )
        for network in result["networks"]
    ]
    columns = ("network", "status", "hosts", "hours", "alerts", "to previous", "to first days", "to same hour")
    print_table("latest hour, nats beyond chance", columns, rows)
    alarms = sorted(
        (time, network["network"], alarm["host"], alarm["detector"])
        for network in result["networks"]
        for alarm in network["alarms"]
        for time in alarm["times_unix"]
        if hosts or not alarm["host"]
    )
    print_table(
        "alarms",
        ("time", "network", "host", "detector"),
        [(_utc(time), printable(network), printable(host) or "-", name) for time, network, host, name in alarms],
    )


def _nats(latest: dict[str, float] | None) -> str:
    return "-" if latest is None else f"{latest['excess_nats']:.3f}"


def _utc(time_unix: float) -> str:
    return datetime.fromtimestamp(time_unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
