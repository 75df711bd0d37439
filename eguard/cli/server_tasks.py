"""`eguard server task`: what the server does by itself, how it went, and a run at once."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from eguard.cli.api import get, post, tell
from eguard.cli.output import print_json, print_table, printable

app = typer.Typer(
    help=(
        "Maintenance tasks: aggregation, retention, signing of the bundle repository, tidying up.\n\n"
        "Commands talk to the server that EGUARD_API names, with the token of an admin in EGUARD_API_TOKEN or "
        "EGUARD_API_TOKEN_FILE, and EGUARD_TLS_CA."
    ),
    no_args_is_help=True,
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
TaskArgument = Annotated[str, typer.Argument(help="A task, as `eguard server task list` names it.")]

EXIT_FAILED: Final = 1
_POLL_SECONDS: Final = 0.5
#: Characters of a run's detail in the table; `--json` has all of it.
_SHOWN: Final = 100
_TASKS: Final = "/config/maintenance_tasks"


@app.command("list")
def list_tasks(*, as_json: JsonOption = False) -> None:
    """List the tasks: their schedules, when they are due, and how they went last.

    Example: `eguard server task list`
    """
    answer = get(_TASKS)
    if as_json:
        print_json(answer)
        return
    rows = [
        (
            task["task_id"],
            task["schedule"] if task["enabled"] else "disabled",
            _local(task["next_due_unix"]),
            _state(task),
        )
        for task in answer["tasks"]
    ]
    print_table("Maintenance tasks", ("task", "schedule", "due", "last run"), rows, numbers=False)


@app.command()
def run(
    task: TaskArgument,
    *,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Leave when it has begun.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a task now and wait for its end. Exit code 1 if the run failed or was lost.

    A task runs once at a time, on whichever server: while it does, this is refused.

    Example: `eguard server task run fleet_aggregate`
    """
    found = post(f"{_path(task)}/run")
    while found["status"] == "running" and not no_wait:
        time.sleep(_POLL_SECONDS)
        runs = get(f"{_path(task)}/runs", limit="20")["runs"]
        found = next((each for each in runs if each["run_id"] == found["run_id"]), found)
    tell(found, as_json=as_json)
    if found["status"] in {"failed", "lost"}:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def history(
    task: TaskArgument,
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="Runs to show.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show a task's runs, latest first; `--json` has all of what they did.

    `lost` is a run whose server ended before it did; the task ran again when it was due.

    Example: `eguard server task history retention --limit 5`
    """
    answer = get(f"{_path(task)}/runs", limit=str(limit))
    if as_json:
        print_json(answer)
        return
    rows = [_row(each) for each in answer["runs"]]
    print_table(
        f"Runs of {printable(task)}", ("status", "began", "seconds", "started by", "what came"), rows, numbers=False
    )


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    began, ended = found["started_at_unix"], found["finished_at_unix"]
    seconds = "-" if ended is None else f"{ended - began:.1f}"
    detail = json.dumps(found["detail"], ensure_ascii=False) if found["detail"] else ""
    return found["status"], _local(began), seconds, printable(found["started_by"]), printable(detail[:_SHOWN])


def _state(task: dict[str, Any]) -> str:
    if task["running_on"]:
        return f"running on {printable(task['running_on'])}"
    last = task["last_run"]
    return f"{last['status']}, {_local(last['started_at_unix'])}" if last else "never"


def _local(unix: float | None) -> str:
    return "-" if unix is None else datetime.fromtimestamp(unix).astimezone().strftime("%Y-%m-%d %H:%M")


def _path(task: str) -> str:
    return f"/config/maintenance_task/{quote(task, safe='')}"
