"""`eguard simulate`: attacks on simulated fleets that run the real code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from eguard.cli import simulate_drill, simulate_fleet, simulate_loop
from eguard.cli.output import print_facts, print_json, print_table, progress_bar

app = typer.Typer(
    help="Attacks on simulated fleets that run the real wire, store and aggregation.",
    no_args_is_help=True,
)


@app.callback()
def group() -> None:
    """Attacks on simulated fleets that run the real wire, store and aggregation."""


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_BAR_CELLS: Final = 40
_NAMED_KEYS: Final = 3
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"


@app.command()
def poison(
    *,
    share: Annotated[
        list[float] | None,
        typer.Option("--share", "-s", help="Share of the agents that lie, below 0.5; over HTTP any number of them."),
    ] = None,
    attack: Annotated[
        str, typer.Option("--attack", "-a", help="one-hot, lie, fang, min-max, min-sum, or all of them.")
    ] = "all",
    agents: Annotated[
        int | None, typer.Option("--agents", "-n", help="Agents of the fleet, liars included.  [50; over HTTP 200]")
    ] = None,
    cycles: Annotated[
        int, typer.Option("--cycles", "-c", help="Aggregations over which liars walk to their vote; 1 is at once.")
    ] = 1,
    aggregator: Annotated[
        str,
        typer.Option("--aggregator", help="trimmed_median (the fleet's), mean, trimmed_mean or geometric_median."),
    ] = "trimmed_median",
    profiles: Annotated[
        Path, typer.Option("--profiles", "-p", help="Real hosts: an event log, or a fleet store such as fleet.db.")
    ] = Path("data/raw/endpoint-events/events.csv.gz"),
    key: Annotated[
        str | None, typer.Option("--key", "-k", help="Process key to attack; that with the most hosts if not given.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the fleet and of the attack.")] = 0,
    over_http: Annotated[
        bool,
        typer.Option("--over-http", help="Start a server, enrol the agents, and do everything over mutual TLS."),
    ] = False,
    dirichlet: Annotated[
        bool, typer.Option("--dirichlet", help="Over HTTP: honest agents of the documented table, not real hosts.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Over HTTP: draw shift against share, with the bound, as PNG.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let some agents of a fleet lie, and see how far they move what the fleet publishes.

    Honest agents are resampled from real hosts; their baselines and the forged ones travel as upload bodies into a
    fleet store and are aggregated as on a server. Printed is what was published with and without the liars, the most
    that theory allows, and what the plain mean would have done.

    Examples: `eguard simulate poison --share 0.2` runs all five attacks; `--attack lie --share 0.1` is the one that
    beats the median; `--attack min-max --share 0.4 --cycles 100` poisons slowly, step by step; `--over-http` runs five
    attacks at five shares against a server program, with 200 agents that each have a certificate.

    The exit code is 1 if a shift exceeds its bound.
    """
    if over_http:
        from eguard.cli.simulate_over_http import run_over_http
        from eguard.simulate.poison_http import SHARES, HttpPoisonSettings

        if cycles != 1 or aggregator != "trimmed_median":
            raise typer.BadParameter("a server aggregates as it does: --cycles and --aggregator are for --share alone")
        run_over_http(
            HttpPoisonSettings(
                shares=tuple(share or SHARES),
                attack=attack,
                agents=200 if agents is None else agents,
                is_dirichlet=dirichlet,
                profiles=profiles,
                process_key=key,
                seed=seed,
            ),
            plot,
            as_json=as_json,
        )
        return
    if dirichlet or plot is not None:
        raise typer.BadParameter("--dirichlet and --plot go with --over-http")
    if share is None or len(share) != 1:
        raise typer.BadParameter("one share of liars is needed, such as --share 0.2", param_hint="--share")
    from eguard.mlops.poison_bounds import aggregator_named
    from eguard.simulate.poison import PoisonSettings, simulate_poison

    settings = PoisonSettings(
        share=share[0],
        attack=attack,
        agents=50 if agents is None else agents,
        cycles=cycles,
        aggregator=aggregator_named(aggregator),
        profiles=profiles,
        process_key=key,
        seed=seed,
    )
    with progress_bar(quiet=as_json) as progress:
        result = simulate_poison(settings, progress=progress)
    if as_json:
        print_json(result)
    else:
        _print_poison(result)
    if not result["within_bound"]:
        raise typer.Exit(1)


def _print_poison(result: dict[str, Any]) -> None:
    attacks = result["attacks"]
    print_facts(
        {
            "process key": f"{result['process_key']}, of {result['real_hosts']} real hosts",
            "other keys": ", ".join(result["other_keys"][:_NAMED_KEYS]) or "none",
            "agents": f"{result['agents']}, {result['liars']} of them liars",
            "aggregator": result["settings"]["aggregator"],
            "tolerated": f"{(result['agents'] - 1) // 2} liars among {result['agents']} votes",
        }
    )
    columns = ("attack", "moved", "at most", "mean", "JS nats", "mass", "published")
    title = "total variation caused, its bound, and the mean's"
    print_table(title, columns, [_row(entry) for entry in attacks])
    largest = max([entry["bound_total_variation"] for entry in attacks] + [1e-12])
    for entry in attacks:
        typer.echo(f"{entry['attack']:<8} {_bar(entry['total_variation'] or 0.0, entry, largest)}")
    typer.echo(f"{'':<8} 0 to {largest:.3f} total variation; | is the bound, m the plain mean\n")
    for entry in attacks:
        if len(entry["cycles"]) > 1:
            _print_cycles(entry)
    for entry in attacks:
        typer.echo(f"{entry['attack']}: {entry['verdict']['sentence']}")


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    poisoned = entry["poisoned"]
    return (
        entry["attack"],
        _number(entry["total_variation"]),
        _number(entry["bound_total_variation"]),
        _number(entry["mean_total_variation"]),
        _number(entry["js_nats"]),
        _number(poisoned["mass"]),
        "yes" if poisoned["published"] else poisoned["withheld_because"],
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _bar(moved: float, entry: dict[str, Any], largest: float) -> str:
    """Return a bar of what moved, with the bound and the plain mean marked on its scale."""
    cells = ["█"] * round(moved / largest * _BAR_CELLS)
    cells += ["·"] * (_BAR_CELLS + 1 - len(cells))
    for mark, value in (("m", entry["mean_total_variation"]), ("|", entry["bound_total_variation"])):
        cells[min(round(value / largest * _BAR_CELLS), _BAR_CELLS)] = mark
    return "".join(cells)


def _print_cycles(entry: dict[str, Any]) -> None:
    """Print the walk as the server's health sees it: against the previous generation, and against the pinned one."""
    typer.echo(f"{entry['attack']}: {len(entry['cycles'])} cycles")
    for name, alarm in (("previous", "level_alarm_cycle_previous"), ("reference", "level_alarm_cycle_reference")):
        values = [cycle[f"js_{name}_nats"] or 0.0 for cycle in entry["cycles"]]
        cycle = entry["verdict"][alarm]
        level = "never alarms" if cycle is None else f"alarms in cycle {cycle}"
        typer.echo(f"  JS to {name:<9} {_sparkline(values)}  largest {max(values):.2g} nats, level rule {level}")
    typer.echo("")


def _sparkline(values: Sequence[float]) -> str:
    """Return at most 60 cells, on a scale of 0 to a tenth of a nat, the alert level."""
    step = max(1, -(-len(values) // 60))
    shown = [max(values[start : start + step]) for start in range(0, len(values), step)]
    return "".join(_BLOCKS[min(round(value / 0.1 * (len(_BLOCKS) - 1)), len(_BLOCKS) - 1)] for value in shown)


app.command()(simulate_loop.loop)
app.command()(simulate_drill.drill)
app.command()(simulate_fleet.fleet)
