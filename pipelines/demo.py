"""`make demo`: reproduce the pipeline, verify the bundle, and say in a page what came out and where it lies."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from eguard.mlops.workspace import Workspace, read_json


def main() -> int:
    """Run the main job and print its result; return the exit code."""
    console = Console()
    started = time.monotonic()
    bin_dir = Path(sys.executable).parent
    for command in ([str(bin_dir / "dvc"), "repro"], [str(bin_dir / "eguard"), "bundle", "verify"]):
        console.rule(f"[bold]{Path(command[0]).name} {' '.join(command[1:])}")
        completed = subprocess.run(command, check=False)  # noqa: S603 - fixed commands of this environment
        if completed.returncode:
            console.print(f"[bold red]stopped:[/] {' '.join(command)} ended with {completed.returncode}")
            return completed.returncode
    console.rule("[bold]result")
    summarise(console, Workspace())
    console.print(f"done in {time.monotonic() - started:.0f} s")
    return 0


def summarise(console: Console, workspace: Workspace) -> None:
    """Print the headline figures and where to look."""
    bundle = read_json(workspace.reports / "bundle.json")
    evaluation = read_json(workspace.reports / "signature-ml-offline-eval-report.json")
    table = Table(title="Average precision on networks that the model was not trained on", title_justify="left")
    for column in ("", "without scan floods", "95 % interval", "with scan floods"):
        table.add_column(column, justify="right" if column else "left")
    for name, row in headline_rows(evaluation):
        table.add_row(name, *row)
    console.print(table)
    console.print(f"bundle    {bundle['model_version']}, {'promoted' if bundle['promoted'] else 'unpromoted'}")
    for gate in evaluation["gates"]:
        state = "[green]met[/]" if gate["passed"] else "[red]missed[/]"
        console.print(f"gate      {gate['name']}: {gate['value']:.3f} ({gate['rule']} {gate['threshold']}) {state}")
    console.print(f"report    {workspace.reports / 'evidence-report.pdf'}")
    console.print("next      source .venv/bin/activate; dvc metrics show; dvc dag; eguard --help")


def headline_rows(evaluation: dict[str, Any]) -> list[tuple[str, tuple[str, str, str]]]:
    """Return the rows of the headline table: each unseen network, then their mean."""
    rows = []
    for name, figures in evaluation["headline"].items():
        low, high = figures["without_floods_interval"]
        rows.append(
            (
                name,
                (f"{figures['without_floods']:.3f}", f"{low:.3f} to {high:.3f}", f"{figures['with_floods']:.3f}"),
            )
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
