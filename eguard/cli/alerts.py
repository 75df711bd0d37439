"""`eguard alerts`: what an agent has found and not handed on yet."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from eguard.cli.output import print_json, print_table, printable

app = typer.Typer(
    help="Alerts that an agent keeps until a server has them: read them, judge them.", no_args_is_help=True
)

STATE = Path("/var/lib/eguard")
StateOption = Annotated[
    Path, typer.Option("--state", help="State folder of the agent, or its alerts.db.", envvar="EGUARD_STATE_PATH")
]
#: Alerts among which a judged one is looked for, newest first.
_SEARCHED = 100_000


@app.callback()
def group() -> None:
    """Read and judge the alerts that an agent keeps until a server has them."""


@app.command("list")
def list_alerts(
    *,
    state: StateOption = STATE,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="Most alerts, newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document with everything known.")] = False,
) -> None:
    """Print the newest alerts, the last one first. Safe while the agent runs; nothing is changed.

    `--json` prints each alert whole: contributions, rules with their authors, ancestors, techniques. The buffer is
    bounded; `dropped` counts the oldest alerts that gave way to newer ones.
    """
    from eguard.agent.buffer_reader import read_buffer

    found = read_buffer(_file(state), limit)
    alerts: list[dict[str, Any]] = [json.loads(alert.body) for alert in found.newest]
    if as_json:
        counts = {"waiting": found.waiting, "appended": found.appended_total, "dropped": found.dropped_total}
        print_json({**counts, "alerts": alerts})
        return
    columns = ("id", "observed (UTC)", "confidence", "process key", "reasons")
    print_table(f"{len(alerts)} of {found.waiting} alerts", columns, [_row(alert) for alert in alerts])
    typer.echo(f"{found.appended_total} appended, {found.dropped_total} dropped since the buffer was made")


@app.command()
def judge(
    alert_id: Annotated[str, typer.Argument(help="The alert's id, or its first characters if no other begins so.")],
    verdict: Annotated[str, typer.Argument(help="true_positive, false_positive or benign.")],
    *,
    state: StateOption = STATE,
    by: Annotated[str, typer.Option("--by", help="Who judges, for the log.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Say what an alert was, so that the agent can learn from what it held back for it, or drop it.

    Events of a window in which something alerted High are not learned until somebody says that they are ordinary.
    `benign` and `false_positive` let them be learned, `true_positive` drops them; without a verdict they are dropped
    after a day. The agent does it within seconds, or at its next start.
    """
    from eguard.agent.buffer_reader import read_buffer
    from eguard.agent.verdicts import FOLDER_NAME, Verdict, VerdictBox
    from eguard.errors import ConfigError

    if verdict not in list(Verdict):
        raise ConfigError(f"there is no verdict {verdict!r}", remedy=f"Choose one of: {', '.join(Verdict)}.")
    newest = read_buffer(_file(state), _SEARCHED).newest
    matching = {alert.alert_id: alert for alert in newest if alert.alert_id.startswith(alert_id)}
    if len(matching) != 1 or not alert_id:
        raise ConfigError(
            f"{len(matching)} alerts begin with {alert_id!r}",
            remedy="Give more of the id; `eguard alerts list` shows it.",
        )
    alert = json.loads(matching.popitem()[1].body)
    folder = (state if state.is_dir() else state.parent) / FOLDER_NAME
    VerdictBox(folder).give(alert["alert_id"], alert["window_id"], Verdict(verdict), by=by)
    answer = {"alert_id": alert["alert_id"], "verdict": verdict, "window_id": alert["window_id"]}
    print_json(answer) if as_json else typer.echo(f"{answer['alert_id'][:12]}: {verdict}; the agent takes it from here")


def _file(state: Path) -> Path:
    from eguard.agent.buffer import FILE_NAME

    return state / FILE_NAME if state.is_dir() else state


def _row(alert: dict[str, Any]) -> tuple[str, ...]:
    cells = (alert["confidence"], alert["process_key"], ", ".join(alert["reasons"]))
    return (alert["alert_id"][:12], _time(alert["observed_at_unix"]), *(printable(cell) for cell in cells))


def _time(unix_seconds: float) -> str:
    try:
        return datetime.fromtimestamp(unix_seconds, UTC).isoformat(" ", "seconds").removesuffix("+00:00")
    except (OverflowError, ValueError, OSError):
        return f"{unix_seconds:.0f}"
