"""`eguard alerts`: what an agent has found and not handed on yet."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from eguard.cli.output import print_json, print_table, printable

app = typer.Typer(help="Alerts that an agent keeps until a server has them.", no_args_is_help=True)

STATE = Path("/var/lib/eguard")


@app.callback()
def group() -> None:
    """Look at the alerts that an agent keeps until a server has them."""


@app.command("list")
def list_alerts(
    *,
    state: Annotated[
        Path, typer.Option("--state", help="State folder of the agent, or its alerts.db.", envvar="EGUARD_STATE_PATH")
    ] = STATE,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="Most alerts, newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document with everything known.")] = False,
) -> None:
    """Print the newest alerts, the last one first. Safe while the agent runs; nothing is changed.

    `--json` prints each alert whole: contributions, rules with their authors, ancestors, techniques. The buffer is
    bounded; `dropped` counts the oldest alerts that gave way to newer ones.
    """
    from eguard.agent.buffer import FILE_NAME
    from eguard.agent.buffer_reader import read_buffer

    found = read_buffer(state / FILE_NAME if state.is_dir() else state, limit)
    alerts: list[dict[str, Any]] = [json.loads(alert.body) for alert in found.newest]
    if as_json:
        counts = {"waiting": found.waiting, "appended": found.appended_total, "dropped": found.dropped_total}
        print_json({**counts, "alerts": alerts})
        return
    columns = ("observed (UTC)", "confidence", "process key", "reasons")
    print_table(f"{len(alerts)} of {found.waiting} alerts", columns, [_row(alert) for alert in alerts])
    typer.echo(f"{found.appended_total} appended, {found.dropped_total} dropped since the buffer was made")


def _row(alert: dict[str, Any]) -> tuple[str, ...]:
    cells = (alert["confidence"], alert["process_key"], ", ".join(alert["reasons"]))
    return (_time(alert["observed_at_unix"]), *(printable(cell) for cell in cells))


def _time(unix_seconds: float) -> str:
    try:
        return datetime.fromtimestamp(unix_seconds, UTC).isoformat(" ", "seconds").removesuffix("+00:00")
    except (OverflowError, ValueError, OSError):
        return f"{unix_seconds:.0f}"
