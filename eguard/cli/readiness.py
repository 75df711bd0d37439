"""`eguard readiness`: the production readiness gate, and the drills that tick its boxes."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eguard.cli.output import print_facts, print_json, print_table, printable, progress_bar

if TYPE_CHECKING:
    from eguard.evidence.readiness import Readiness
    from eguard.evidence.readiness.course import Course, Progress

app = typer.Typer(help="Whether this deployment is ready for production: each box from a signed record of a drill.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
EXIT_NOT_READY = 1


@app.callback(invoke_without_command=True)
def readiness(
    context: typer.Context,
    *,
    html: Annotated[Path | None, typer.Option("--html", help="Write the gate as a page, too.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the boxes of the operations manual's section 11. Exit 0 only if every one is ticked, else 1.

    A box is ticked by the record of a drill that this tool ran: signed by a key of EGUARD_EVIDENCE_PATH, of this
    version, younger than the box allows, and passed. A record that is deleted, changed or too old unticks it.

    Examples: `eguard readiness`; `eguard readiness drill kill-switch`; `eguard readiness --html readiness.html`
    """
    if context.invoked_subcommand is not None:
        return
    found = _judged()
    if html is not None:
        from eguard.evidence.readiness.page import readiness_page

        html.write_text(readiness_page(found), "utf-8")
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)
    if not found.is_ready:
        raise typer.Exit(EXIT_NOT_READY)


@app.command("list")
def list_drills(*, as_json: JsonOption = False) -> None:
    """List the drills: what each does, which box it is for, and how its record stands."""
    from eguard.evidence.readiness.drills import title_of

    found = _judged()
    rows: list[dict[str, Any]] = [
        {
            "drill": each.drill,
            "does": title_of(each.drill),
            "box": box.box.title,
            "counts": each.counts,
            "why": each.why,
        }
        for box in found.boxes
        for each in box.drills
    ]
    if as_json:
        print_json({"drills": rows})
        return
    table = [(row["drill"], row["does"], "yes" if row["counts"] else "no", printable(row["why"])) for row in rows]
    print_table("drills", ("drill", "what it does", "counts", "why"), table, numbers=False)


@app.command()
def drill(
    name: Annotated[str, typer.Argument(help="Which; `eguard readiness list` names them.")],
    *,
    agent: Annotated[str, typer.Option("--agent", help="Agent to drill with; the one heard last if not given.")] = "",
    policy: Annotated[str, typer.Option("--policy", help="Policy whose rollout is looked at (canary).")] = "",
    pack: Annotated[Path | None, typer.Option("--pack", help="The evidence pack that was archived (evidence).")] = None,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for agents.")] = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Run a drill and keep its signed record, whatever came of it. Exit 0 if it passed, else 1.

    The record holds every command that was run with its output, every row that was looked at, and each check. It
    replaces the record of the run before. Drills of the fleet need the server's settings and EGUARD_API_TOKEN_FILE;
    `sensors`, `bundle` and `mtls` are run on an endpoint, as root. kill-switch and rollback give one agent a policy
    of their own and give it back.

    Example: `sudo -E eguard readiness drill kill-switch --agent web-01`
    """
    from eguard.evidence.readiness import RecordFolder
    from eguard.evidence.readiness.course import DrillOptions
    from eguard.evidence.readiness.drills import run_drill, title_of
    from eguard.evidence.signing import Custody
    from eguard.settings import load_evidence_settings, load_server_settings

    title_of(name)
    custody = Custody(load_evidence_settings().evidence_path)
    custody.signer()
    options = DrillOptions(agent, policy, pack, wait, load_server_settings().aggregation_min_agents)
    records = RecordFolder(custody)
    signal.signal(signal.SIGTERM, _leave)
    with progress_bar(quiet=as_json) as progress, _course(name, custody, progress) as course:
        try:
            record = run_drill(course, options)
        except (KeyboardInterrupt, SystemExit):
            records.write(name, course.record("it was interrupted"))
            raise
    path = records.write(name, record)
    if as_json:
        print_json({"record": str(path), **record})
    else:
        _print_record(record, path)
    if not record["passed"]:
        raise typer.Exit(EXIT_NOT_READY)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The drill.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show the record of a drill's latest run, once its signature holds."""
    from eguard.errors import EvidenceError
    from eguard.evidence.readiness import RecordFolder
    from eguard.evidence.readiness.drills import title_of
    from eguard.evidence.signing import Custody
    from eguard.settings import load_evidence_settings

    title_of(name)
    records = RecordFolder(Custody(load_evidence_settings().evidence_path))
    record = records.read(name)
    if record is None:
        raise EvidenceError(f"{name} was never run here", remedy=f"Run it: eguard readiness drill {name}")
    if as_json:
        print_json({"record": str(records.path_of(name)), **record})
    else:
        _print_record(record, records.path_of(name))


def _leave(number: int, _frame: FrameType | None) -> None:
    """End as on a signal of the terminal, so that an agent is given back before."""
    raise SystemExit(128 + number)


@contextmanager
def _course(name: str, custody: Any, progress: Progress) -> Iterator[Course]:
    from eguard.clock import SystemClock
    from eguard.evidence.readiness.course import Course
    from eguard.evidence.readiness.gate import AUTHORITY
    from eguard.evidence.surroundings import authority_here, fleet_database, redactor_here
    from eguard.settings import load_agent_settings, load_operator_settings, load_server_settings

    database = fleet_database(load_server_settings())
    target = {"administration": load_operator_settings().api, "server of this endpoint": load_agent_settings().server}
    target[AUTHORITY] = authority_here()
    if database is not None:
        target["database"] = database.address
    try:
        yield Course(name, redactor_here(custody), SystemClock(), database=database, target=target, progress=progress)
    finally:
        if database is not None:
            database.dispose()


def _judged() -> Readiness:
    from eguard.evidence.readiness import RecordFolder, judge_readiness
    from eguard.evidence.signing import Custody
    from eguard.evidence.surroundings import authority_here
    from eguard.settings import load_evidence_settings

    records = RecordFolder(Custody(load_evidence_settings().evidence_path))
    return judge_readiness(records, time.time(), authority=authority_here())


def _print(found: Readiness) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for each in found.boxes:
        console.print(f"\\[{'x' if each.is_ticked else ' '}] ", end="", style="green" if each.is_ticked else "red")
        console.print(each.box.title, markup=False)
        for standing in each.drills:
            console.print(f"      {standing.drill}: {printable(standing.why)}", markup=False)
            if not standing.counts:
                console.print(f"      $ {standing.command}", markup=False)
    ticked = sum(each.is_ticked for each in found.boxes)
    console.print(f"\n{'READY' if found.is_ready else 'NOT READY'}: {ticked} of {len(found.boxes)} boxes", style="bold")


def _print_record(record: dict[str, Any], path: Path) -> None:
    for each in record["commands"]:
        typer.echo(f"$ {printable(each['command'])}   (exit {each['exit_code']}, {each['seconds']:.1f} s)")
    rows = [
        (
            "passed" if each["passed"] else "missed",
            printable(each["name"]),
            printable(str(each["observed"])),
            each["asked"],
        )
        for each in record["checks"]
    ]
    print_table("checks", ("", "check", "observed", "asked"), rows, numbers=False)
    shown = {"drill": record["drill"], "started_at": record["started_at"], "record": str(path)}
    if record["error"]:
        shown["error"] = printable(record["error"])
    print_facts({**shown, "passed": "yes" if record["passed"] else "no"})
