"""`eguard fleet health`, `explain`, `freeze`, `resume`, `quarantine`: the runbook of a drift alarm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from eguard.cli.output import print_facts, print_json, print_table, printable

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit log.")]
PolicyOption = Annotated[str | None, typer.Option("--policy", help="Only the rollout of this policy.")]

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_SHOWN_AGENTS: Final = 20


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    for command in (health, explain, freeze, resume, quarantine):
        app.command()(command)


def health(
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=400, help="Comparisons to show.")] = 20,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Also draw both series into this PNG file (needs matplotlib).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how the fleet's baseline moved, where the drift detectors stand, and their alarms.

    Against the generation before, a lasting change shows once; against the approved reference it shows for as long as
    it lasts. An open alarm holds every rollout: `eguard fleet explain` says what moved.

    Examples: `eguard fleet health`; `eguard fleet health --limit 240 --plot drift.png`
    """
    found = _get("/endpoint/fleet/health", limit=limit)
    if plot is not None:
        _draw(found["comparisons"], plot)
    if as_json:
        print_json(found)
        return
    drift = found["drift"]
    print_facts(
        {
            "generation": found["generation"],
            "reference generation": found["reference_generation"],
            "fleet drift": ", ".join(drift["by"]) if drift["fleet_drift"] else "no",
        }
    )
    for name in ("reference", "previous"):
        values = [row["js_mean"] for row in reversed(found["comparisons"]) if row["compared_with"] == name]
        typer.echo(f"JS against {name:<9}  {sparkline(values)}")
    _print_comparisons(found["comparisons"])
    _print_charts(drift["charts"])
    _print_alarms(drift["latest_alarms"])


def _print_comparisons(comparisons: Sequence[dict[str, Any]]) -> None:
    table = [
        (
            row["generation"],
            f"{row['compared_with']} ({row['other_generation']})",
            _number(row["js_mean"]),
            _number(row["js_mean_bias"]),
            _number(row["js_max"]),
            printable(row["js_max_key"] or "-"),
            row["common_keys"],
            row["new_key_count"],
            row["vanished_key_count"],
        )
        for row in comparisons
    ]
    columns = (
        "generation",
        "compared with",
        "mean JS, nats",
        "its bias",
        "largest",
        "of the key",
        "common",
        "new",
        "gone",
    )
    print_table("", columns, table, numbers=False)


def _print_charts(charts: dict[str, dict[str, Any]]) -> None:
    pinned, previous = charts["reference"], charts["previous"]
    learning = f" (learning: {pinned['cycles']} cycles)" if pinned["is_learning"] else ""
    print_facts(
        {
            "CUSUM on the reference": f"{pinned['cusum']:.2f} of {pinned['cusum_threshold']:g}{learning}",
            "ADWIN on its ranks": f"mean {pinned['rank_mean']:.2f} of {pinned['adwin_width']} cycles",
            "ADWIN on the previous": f"mean {previous['adwin_mean_nats']:.5f} nats of {previous['adwin_width']} cycles",
        }
    )


def _print_alarms(alarms: Sequence[dict[str, Any]]) -> None:
    if not alarms:
        typer.echo("no alarms")
        return
    table = [
        (
            alarm["generation"],
            printable(alarm["series"]),
            alarm["compared_with"],
            alarm["kind"],
            f"{alarm['value']:.4g} > {alarm['threshold']:.4g}",
            f"{alarm['resolution']} ({printable(alarm['resolved_by'])})" if alarm["resolution"] else "OPEN",
        )
        for alarm in alarms
    ]
    print_table("alarms", ("generation", "series", "against", "detector", "value", "state"), table, numbers=False)


def explain(
    key: Annotated[str | None, typer.Argument(help="A process key; those that moved most if not given.")] = None,
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=50, help="Keys to look at.")] = 20,
    generation: Annotated[
        int | None, typer.Option("--generation", help="Where to look for moved keys; the current one if not given.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what moved away from the reference: which keys, which agents moved them, and what speaks for which cause.

    A median hardly moves when one agent is left out, so single influence says little; what counts is how few agents
    have to be left out together until the shift is gone. No line of evidence is a verdict: read them side by side.

    Examples: `eguard fleet explain`; `eguard fleet explain curl:bash --json`
    """
    found = _get("/endpoint/fleet/explain", key=key, limit=limit, generation=generation)
    if as_json:
        print_json(found)
        return
    print_facts({"generation": found["generation"], "against reference": found["reference_generation"]})
    moved = [
        (
            printable(row["process_key"]),
            row["agent_count"],
            f"{row['js_excess_nats']:.4f}",
            f"{row['total_variation']:.3f}",
        )
        for row in found["keys"]
    ]
    title = f"keys that moved ({found['moved_keys']} of {found['common_keys']} by more than chance)"
    print_table(title, ("process key", "agents", "JS - bias, nats", "total variation"), moved)
    if found["influence"] is not None:
        _print_influence(found)


def _print_influence(found: dict[str, Any]) -> None:
    agents = [
        (
            printable(agent["agent_id"]),
            "yes" if agent["in_group"] else "",
            f"{agent['score']:+.1f}",
            f"{agent['undone_alone']:+.1%}",
            agent["keys"],
            printable(agent["token"] or "-"),
            printable(agent["group"]),
            printable(agent["subnet"] or "-"),
            agent["alerts"],
        )
        for agent in found["agents"][:_SHOWN_AGENTS]
    ]
    columns = ("agent", "in group", "towards it", "undoes alone", "keys", "token", "of group", "network", "alerts")
    print_table("agents, those first that stand furthest towards the shift", columns, agents)
    left_out = [(row["agents"], f"{row['undone']:.0%}") for row in found["influence"]["left_out"]]
    print_table("agents left out together, and how much of the shift is undone", ("agents", "undone"), left_out)
    evidence = [
        (line["name"], line["measured"], _p_value(line["p_value"]), line["points"], line["cannot_tell"])
        for line in found["evidence"]
    ]
    print_table("evidence", ("what", "measured", "p", "points", "cannot tell"), evidence, numbers=False)
    points = found["evidence_points"]
    typer.echo(f"{points['organic']} lines point at an organic change, {points['adversarial']} at liars.")


def freeze(*, reason: ReasonOption, policy: PolicyOption = None, as_json: JsonOption = False) -> None:
    """Hold rollouts at the stage where they are; an alarm of drift does this by itself.

    Example: `eguard fleet freeze --reason "looking into the alerts of last night"`
    """
    answer = _post("/endpoint/fleet/freeze", _hold(reason, policy))
    _show(
        answer, lambda: typer.echo(f"frozen: {', '.join(answer['frozen']) or 'nothing was running'}"), as_json=as_json
    )


def resume(*, reason: ReasonOption, policy: PolicyOption = None, as_json: JsonOption = False) -> None:
    """Let frozen rollouts go on; refused as long as an alarm of drift is open.

    An alarm is resolved by `eguard fleet approve` (the change is wanted), `eguard fleet rollback` or
    `eguard fleet quarantine --resolve` (it is not).

    Example: `eguard fleet resume --reason "the new office suite was approved"`
    """
    answer = _post("/endpoint/fleet/resume", _hold(reason, policy))
    _show(
        answer, lambda: typer.echo(f"resumed: {', '.join(answer['resumed']) or 'nothing was frozen'}"), as_json=as_json
    )


def quarantine(
    agent_ids: Annotated[list[str], typer.Argument(help="The agents, all or none.", metavar="AGENT...")],
    *,
    reason: ReasonOption,
    resolve: Annotated[
        bool, typer.Option("--resolve", help="They explain every open alarm of drift: resolve these as adversarial.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take agents' votes away; what they uploaded stays to be looked at.

    Example: `eguard fleet quarantine web-07 web-09 --reason "moved 40 keys overnight"`
    """
    body = {"agent_ids": agent_ids, "reason": reason, "resolve_alarms": resolve}
    answer = _post("/endpoint/fleet/quarantine", body)
    facts = {"quarantined": ", ".join(answer["quarantined"]), "alarms resolved": len(answer["resolved_alarms"])}
    _show(answer, lambda: print_facts(facts), as_json=as_json)


def sparkline(values: Sequence[float | None]) -> str:
    """Return a line of blocks, the largest value the highest; a blank where there is none.

    Examples
    --------
    >>> sparkline([0.0, 0.5, None, 1.0])
    '▁▅ █'
    """
    highest = max((value for value in values if value is not None), default=0.0) or 1.0
    top = len(_BLOCKS) - 1
    return "".join(" " if value is None else _BLOCKS[round(top * value / highest + 1e-9)] for value in values)


def _draw(comparisons: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    for name in ("reference", "previous"):
        rows = [row for row in reversed(comparisons) if row["compared_with"] == name and row["js_mean"] is not None]
        axes.semilogy([row["generation"] for row in rows], [row["js_mean"] + 1e-6 for row in rows], label=f"to {name}")
    axes.axhline(0.1, color="0.5", linewidth=0.8, linestyle=":")
    axes.set(xlabel="generation", ylabel="mean JS divergence, nats", title="How far the fleet's baseline moved")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _p_value(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _hold(reason: str, policy: str | None) -> dict[str, str]:
    return {"reason": reason} | ({} if policy is None else {"policy_id": policy})


def _get(path: str, **query: Any) -> dict[str, Any]:
    from eguard.operations.server_api import ServerApi

    with ServerApi.from_settings() as api:
        return api.get(path, **query)


def _post(path: str, body: dict[str, Any]) -> dict[str, Any]:
    from eguard.operations.server_api import ServerApi

    with ServerApi.from_settings() as api:
        return api.post(path, body)


def _show(answer: dict[str, Any], say: Callable[[], None], *, as_json: bool) -> None:
    print_json(answer) if as_json else say()
