"""`eguard simulate drill`: the runbook of a drift alarm, practised on this machine."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from eguard.cli.output import print_json, progress_bar


def drill(
    *,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", "-f", help="Keep everything here: keys, database, logs. A temporary one if not given."
        ),
    ] = None,
    agents: Annotated[int, typer.Option("--agents", min=10, max=500, help="Agents of the fleet.")] = 40,
    liars: Annotated[int, typer.Option("--liars", min=1, help="Agents of these that will lie; a minority.")] = 12,
    keys: Annotated[int, typer.Option("--keys", min=1, max=100, help="Process keys that every agent reports.")] = 8,
    seed: Annotated[int, typer.Option("--seed", help="Of what the agents do.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Run a server and a fleet through two alarms of drift: a change that is approved, an attack that is undone.

    Agents upload over mutual TLS with certificates of their own; each step prints the operator's command and what came
    of it. It exits with 1 if the liars are not named exactly, or a detector alarms in quiet cycles. The database is
    SQLite in the folder, or the empty schema that EGUARD_DATABASE_URL names.

    Examples: `eguard simulate drill`; `eguard simulate drill --agents 60 --liars 9 --json`
    """
    from eguard.cli.simulate_loop import print_step
    from eguard.logs import configure_logging
    from eguard.settings import load_server_settings
    from eguard.simulate.drill import DrillOptions, run_drill

    configure_logging(quiet=True)
    url = load_server_settings().database_url
    steps = []
    with ExitStack() as opened:
        place = folder or Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="eguard-drill-")))
        progress = opened.enter_context(progress_bar(quiet=as_json))
        for step in run_drill(DrillOptions(place.resolve(), agents, liars, keys, seed, url), progress):
            steps.append(step)
            if not as_json:
                print_step(len(steps), step)
    if as_json:
        print_json({"steps": [asdict(step) for step in steps], "complete": True})
    else:
        typer.echo("\nThe drill is complete.")
