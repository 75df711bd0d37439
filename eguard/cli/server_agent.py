"""`eguard server agent`: the endpoints, on the server's side."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from eguard.cli.output import print_facts, print_json, print_table
from eguard.cli.server_console import JsonOption, ReasonOption, day, open_console, shown

app = typer.Typer(
    help="The fleet's agents: list them, take one out, move it to a group, take its votes.", no_args_is_help=True
)

AgentState = Literal["active", "silent", "lost", "quarantined", "decommissioned"]
AgentArgument = Annotated[str, typer.Argument(help="Name of the agent.")]


def _show(as_json: bool, view: dict[str, Any]) -> None:
    if as_json:
        print_json(view)
        return
    facts = {
        name.removesuffix("_unix"): day(value) if name.endswith("_unix") else shown(value)
        for name, value in view.items()
        if name not in {"facts", "certificates"}
    }
    print_facts(facts)


@app.command("list")
def list_agents(
    *,
    q: Annotated[str, typer.Option("--search", "-q", help="Part of a name, an address or a version.")] = "",
    status: Annotated[
        AgentState | None, typer.Option("--status", "-s", help="silent: over 5 minutes; lost: over 7 days.")
    ] = None,
    group: Annotated[str, typer.Option("--group", "-g", help="Of this group alone.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List agents by name, with what they last said.

    Example: `eguard server agent list --status lost`
    """
    with open_console() as (context, _principal):
        page = context.inventory.rows(q=q, status=status, group=group, limit=limit)
    if as_json:
        print_json({"rows": page.rows, "next_cursor": page.next_cursor, "total": page.total})
        return
    print_table(
        f"{len(page.rows)} of {page.total} agents",
        ("agent", "status", "group", "system", "agent version", "last heard of", "cloned"),
        [
            (
                shown(view["agent_id"]),
                view["status"],
                shown(view["group"]),
                shown(view["os_version"]),
                shown(view["agent_version"]),
                day(view["last_heartbeat_unix"]),
                "yes" if view["cloned"] else "",
            )
            for view in page.rows
        ],
        numbers=False,
    )


@app.command()
def show(agent_id: AgentArgument, *, as_json: JsonOption = False) -> None:
    """Show one agent; with `--json` its certificates as well."""
    with open_console() as (context, _principal):
        view = context.inventory.endpoint(agent_id)
        view["certificates"] = context.certificates.list(agent_id)
    _show(as_json, view)


@app.command()
def decommission(agent_id: AgentArgument, *, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Take an agent out of the fleet: its certificates are revoked, and it is refused until it is enrolled again."""
    with open_console() as (context, principal):
        _show(as_json, context.endpoints.decommission(principal, agent_id, reason))


@app.command()
def move(
    agent_id: AgentArgument,
    group: Annotated[str, typer.Argument(help="Group that it goes into.")],
    *,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Put an agent into a group; it is sent that group's policy."""
    with open_console() as (context, principal):
        _show(as_json, context.endpoints.move(principal, agent_id, group, reason))


@app.command()
def quarantine(agent_id: AgentArgument, *, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Keep an agent's profiles and take its votes: it goes on reporting, and counts in no aggregate."""
    with open_console() as (context, principal):
        _show(as_json, context.endpoints.quarantine(principal, agent_id, reason))


@app.command()
def release(agent_id: AgentArgument, *, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Give a quarantined agent its votes back."""
    with open_console() as (context, principal):
        _show(as_json, context.endpoints.release(principal, agent_id, reason))
