"""`eguard simulate poison --over-http`: five attacks on a server program, and its table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from eguard.cli.output import print_facts, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from eguard.simulate.poison_http import HttpPoisonSettings


def run_over_http(settings: HttpPoisonSettings, plot: Path | None, *, as_json: bool) -> None:
    """Run the campaign and print what every attack moved.

    Raises
    ------
    typer.Exit
        1 if a shift exceeded its bound.
    """
    from eguard.logs import configure_logging
    from eguard.simulate.poison_plot import draw
    from eguard.simulate.poison_server import simulate_poison_over_http

    configure_logging(quiet=True)
    with progress_bar(quiet=as_json) as progress:
        result = simulate_poison_over_http(settings, progress)
    if plot is not None:
        draw(result, plot)
    if as_json:
        print_json(result)
    else:
        _print(result, plot)
    if not result["within_bound"]:
        raise typer.Exit(1)


def _print(result: dict[str, Any], plot: Path | None) -> None:
    rows = result["rows"]
    hosts = f"{result['real_hosts']} real hosts" if result["real_hosts"] else "Dirichlet, as in the documented table"
    print_facts(
        {
            "process key": f"{result['process_key']}, {hosts}",
            "agents": f"{result['agents']}, enrolled with {result['enrolment_tokens']} tokens",
            "server": f"{result['server']}, mutual TLS",
            "generations": max(row["generation"] for row in rows),
            "seconds": f"{result['seconds']:.0f}",
        }
    )
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    table = []
    for share in sorted({row["share"] for row in rows}):
        mine = {row["attack"]: row for row in rows if row["share"] == share}
        moved = [_cell(mine[attack]) for attack in attacks]
        bound = max(row["bound_total_variation"] for row in mine.values())
        mean = max(row["mean_total_variation"] for row in mine.values())
        table.append((f"{mine[attacks[0]]['liars']}, {share:.0%}", *moved, f"{bound:.4f}", f"{mean:.4f}"))
    # No wider than a terminal.
    print_table("total variation of what the server publishes", ("liars", *attacks, "bound", "mean"), table)
    for reason in sorted({row["withheld_because"] for row in rows if row["withheld_because"]}):
        typer.echo(f"withheld: the liars keep the key from being published ({reason}); nothing is steered")
    typer.echo("mean: what the worst attack does to a plain mean of the same votes")
    typer.echo("every shift is within its bound" if result["within_bound"] else "a shift EXCEEDS its bound")
    if plot is not None:
        typer.echo(f"drawn: {plot}")


def _cell(row: dict[str, Any]) -> str:
    moved = row["total_variation"]
    if moved is None:
        return "withheld"
    return f"{moved:.4f}" + ("" if row["within_bound"] else " !")
