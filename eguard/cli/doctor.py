"""`eguard doctor`: what is wrong with this machine, and what to do about it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from eguard.cli.output import print_json, printable, progress_bar

if TYPE_CHECKING:
    from eguard.operations import Check

_COLOURS: Final = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}


def doctor(
    *,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="TOML file of the agent; EGUARD_CONFIG names it by default.")
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option("--check", help="Run only the check of this name; several times for several."),
    ] = None,
    skip_sensors: Annotated[
        bool, typer.Option("--skip-sensors", help="Do not open the sensors; opening eBPF takes seconds.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check everything that an agent needs on this machine; each finding has its cause and its remedy.

    Run it as the agent runs: as root, with the environment of the service. Nothing is changed; one small file is
    written to the state folder and removed again, to see that writes survive. Exit code 0: nothing failed (there may
    be warnings). Exit code 1: a check failed. `docs/how-to/troubleshoot.md` goes from symptoms to checks.

    Examples: `sudo eguard doctor`; `sudo eguard doctor --check baseline_upload --check fleet_seed --json`.
    """
    from eguard.errors import ConfigError
    from eguard.operations import Examination, State, run_checks
    from eguard.settings import ServerSettings, load_agent_settings, load_server_settings

    settings, server_settings, settings_error = None, ServerSettings(), None
    try:
        server_settings = load_server_settings()
        settings = load_agent_settings(config)
    except ConfigError as error:
        settings_error = error
    examination = Examination(
        settings, server_settings, settings_error=settings_error, config=config, skip_sensors=skip_sensors
    )
    with progress_bar(quiet=as_json) as progress:
        checks = run_checks(examination, check or (), progress)
    counts = Counter(str(each.state) for each in checks)
    is_healthy = not counts[State.FAILED]
    if as_json:
        totals = {str(state): counts[state] for state in State}
        print_json({"healthy": is_healthy, "counts": totals, "checks": [each.to_dict() for each in checks]})
    else:
        _print_checks(checks)
        typer.echo(", ".join(f"{counts[state]} {state}" for state in State))
    if not is_healthy:
        raise typer.Exit(1)


def _print_checks(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title="this machine" + (f", as user {os.geteuid()}" if hasattr(os, "geteuid") else ""), title_justify="left"
    )
    table.add_column("check", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("cause, and what to do", overflow="fold")
    for each in checks:
        said = Text(printable(each.cause))
        if each.remedy:
            said.append("\n→ ", style="bold")
            said.append(printable(each.remedy), style="bold")
        table.add_row(each.name, Text(str(each.state), style=_COLOURS[each.state]), said)
    Console(highlight=False).print(table)
