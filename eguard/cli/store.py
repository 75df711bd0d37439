"""`eguard store`: look into an endpoint's baseline store, and try out the disk it lives on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from eguard.cli.output import print_facts, print_json, print_table, printable

app = typer.Typer(
    help="The baseline that an endpoint has learned: check it, read it, exercise it.", no_args_is_help=True
)

FolderArgument = Annotated[Path, typer.Argument(help="Folder of baselines.bin, or that file itself.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_SNAPSHOT: Final = "baselines.bin"
_CLASSES: Final = ("exec", "exit", "file", "net", "dns", "module", "login", "alert")


@app.callback()
def group() -> None:
    """Look into the baseline that an endpoint has learned: check it, read it, exercise it."""


def _folder(path: Path) -> Path:
    return path.parent if path.name == _SNAPSHOT else path


@app.command()
def verify(path: FolderArgument, *, as_json: JsonOption = False) -> None:
    """Check every byte of a store and say what starting the agent on it would do. Nothing is changed.

    A last write that was interrupted is no damage: it is cut off on the next start, and nothing acknowledged is in it.
    Damage is a file whose checksum fails, a journal that breaks off in its middle or does not follow its snapshot.
    The exit code is then 1; the agent would set the file aside and go on from what is intact.
    """
    from eguard.baseline.store_dump import read_store

    found, report = read_store(_folder(path))
    if as_json:
        print_json(report)
    else:
        print_facts({name: value for name, value in report.items() if name != "problems"})
        for problem in found.problems:
            typer.echo(f"{problem.file}: {problem.kind}: {problem.reason}")
        typer.echo("sound" if report["is_sound"] else "damaged")
    if not report["is_sound"]:
        raise typer.Exit(1)


@app.command()
def dump(path: FolderArgument, *, as_json: JsonOption = False) -> None:
    """Print what a store holds: profiles with counts and priors, status, sequence numbers, seeds, held windows.

    The table has the profiles seen last first. With `--json` everything is printed, profiles in the order in which they
    would be evicted. A damaged store is printed as far as it is intact; the exit code is then 1.
    """
    from eguard.baseline.store_dump import dump_state, read_store

    found, report = read_store(_folder(path))
    state = dump_state(found.table, found.facts)
    whole = {name: report[name] for name in ("incarnation", "generation", "operation")} | state
    if as_json:
        print_json(whole)
    else:
        _print_state(whole)
    if not report["is_sound"]:
        raise typer.Exit(1)


def _print_state(state: dict[str, Any]) -> None:
    print_facts({name: value for name, value in state.items() if not isinstance(value, list | dict)})
    rows = [
        (printable(row["process_key"]), _named_counts(row["counts"]), row["prior_generation"] or "-", row["seq"])
        for row in reversed(state["profiles"])
    ]
    print_table(f"{len(rows)} profiles", ("process key", "events", "seed", "seq"), rows)
    typer.echo(f"{len(state['seeds'])} seeds, {len(state['held'])} windows held back")


def _named_counts(counts: list[int]) -> str:
    found = [f"{count} {name}" for name, count in zip(_CLASSES, counts, strict=True) if count]
    return ", ".join(found) or "none"


@app.command()
def exercise(
    path: FolderArgument,
    *,
    operations: Annotated[int, typer.Option("--ops", min=1, help="Operations to do.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Names the workload.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Try out a folder and its disk: random durable operations, each announced before and acknowledged after.

    Prints `START i` before and `ACK i` once operation i is on the disk. Kill it at any moment, even by taking the
    power: `eguard store dump` then shows the state after some operation, not before the last ACK and not after the last
    START. The same seed gives the same operations, and a second run goes on where the first one stopped. Use an empty
    folder; it learns invented processes. With `--json` each line is a JSON object.
    """
    from eguard.baseline.exercise import EXERCISE_CAPACITY
    from eguard.baseline.exercise import exercise as run
    from eguard.baseline.store import BaselineStore

    def announce(what: str, number: int) -> None:
        line = f'{{"{what.lower()}": {number}}}\n' if as_json else f"{what} {number}\n"
        # Past every buffer: what a reader of the pipe or file has seen must not die with this process.
        os.write(sys.stdout.fileno(), line.encode())

    folder = _folder(path)
    with BaselineStore.open(folder, EXERCISE_CAPACITY) as store:
        run(store, operations, seed, announce)
