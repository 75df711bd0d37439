"""`eguard simulate loop`: one round of the fleet's loop on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from eguard.cli.output import print_facts, print_json, print_table


def loop(
    *,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", "-f", help="Keep everything here: keys, database, logs. A temporary one if not given."
        ),
    ] = None,
    recording: Annotated[
        Path, typer.Option("--recording", "-r", help="Events of real hosts that the agents replay.")
    ] = Path("data/raw/endpoint-events/events.csv.gz"),
    hosts: Annotated[
        list[str] | None, typer.Option("--host", help="A host of the recording, one agent each; three or more.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Run a server and three agents through enrolment, upload, aggregation, seed, kill switch and revocation.

    Server and agents are programs of their own that speak mutual TLS with certificates made on the spot. The database
    is SQLite in the folder, or the one that EGUARD_DATABASE_URL names: an empty schema of MariaDB, for instance. Every
    step prints the command behind it and rows of the database that prove it.

    Examples: `eguard simulate loop`; `eguard simulate loop --folder build/fleet --json`
    """
    from eguard.settings import load_server_settings
    from eguard.simulate.loop import LoopOptions, Step, run_loop
    from eguard.simulate.loop.course import DEFAULT_HOSTS

    url = load_server_settings().database_url
    steps: list[Step] = []
    with ExitStack() as opened:
        place = folder or Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="eguard-fleet-")))
        options = LoopOptions(place.resolve(), recording.resolve(), tuple(hosts or DEFAULT_HOSTS), url)
        for step in run_loop(options):
            steps.append(step)
            if not as_json:
                print_step(len(steps), step)
    if as_json:
        print_json({"steps": [asdict(step) for step in steps], "complete": True})
    else:
        typer.echo("\nThe loop is complete.")


def print_step(number: int, step: object) -> None:
    """Print what one step did: its command, its facts, its rows."""
    from eguard.simulate.loop import Step

    assert isinstance(step, Step)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"\n[bold]{number}. {step.title}[/bold]")
    if step.command:
        console.print(f"   $ {step.command}", markup=False)
    if step.facts:
        print_facts(step.facts)
    if step.columns:
        print_table("", step.columns, _texts(step.rows))


def _texts(rows: Sequence[Sequence[object]]) -> list[list[str]]:
    return [["" if cell is None else str(cell) for cell in row] for row in rows]
