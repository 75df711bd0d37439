"""`eguard policy`: what agents are told to do, who is told what, and how far a rollout has come."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from eguard.cli.api import fact_text, get, post, tell
from eguard.cli.output import print_facts, print_json, print_table, printable
from eguard.errors import ConfigError

app = typer.Typer(
    help=(
        "Policies of the fleet: switches, shares, modes; who has which; and rollouts in stages.\n\n"
        "Commands talk to the server that EGUARD_API names, with EGUARD_API_TOKEN or EGUARD_API_TOKEN_FILE and "
        "EGUARD_TLS_CA. `eguard policy bucket` works without one."
    ),
    no_args_is_help=True,
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
AgentOption = Annotated[str | None, typer.Option("--agent", help="An agent's id.")]
GroupOption = Annotated[str | None, typer.Option("--group", help="A group of agents.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the audit log.")]
PolicyFile = Annotated[
    Path, typer.Argument(help="JSON file with policy_id, policy_version and policy_json; - reads standard input.")
]


@app.command("list")
def list_policies(*, as_json: JsonOption = False) -> None:
    """List the policies, whom they are assigned to, and how many agents each governs."""
    answer = get("/endpoint/policy")
    if as_json:
        print_json(answer)
        return
    rows = [
        (each["policy_id"], each["policy_version"], each["revision"], json.dumps(each["policy_json"]))
        for each in answer["policies"]
    ]
    print_table("Policies, latest revision of each version", ("policy", "version", "revision", "says"), rows)
    given = [
        (f"{each['scope']} {each['scope_id']}", each["policy_id"], each["policy_version"] or "latest")
        for each in answer["assignments"]
    ]
    print_table("Assignments", ("who", "policy", "version"), given, numbers=False)
    print_table("Active agents", ("policy", "agents"), sorted(answer["agents"].items()))


@app.command()
def show(
    policy_id: Annotated[str | None, typer.Argument(help="A policy, with its history.")] = None,
    *,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one policy with its history, or what one agent is sent.

    Example: `eguard policy show --agent web-01`
    """
    if (policy_id is None) == (agent is None):
        raise typer.BadParameter("name a policy, or an agent with --agent")
    answer = get("/endpoint/policy", policy_id=policy_id, agent_id=agent)
    if as_json:
        print_json(answer)
        return
    history = answer.pop("history", [])
    print_facts({name: fact_text(value) for name, value in answer.items()})
    if history:
        rows = [
            (each["revision"], each["policy_version"], each["created_by"], json.dumps(each["policy_json"]))
            for each in history
        ]
        print_table("History, newest first", ("revision", "version", "by", "says"), rows, numbers=False)


@app.command()
def create(file: PolicyFile, *, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Post a policy. One that says what the latest revision says already changes nothing.

    Example: `echo '{"policy_id": "mlops-rollout", "policy_version": "v1", "policy_json":
    {"baseline_upload_canary_percent": 0, "fleet_seed_canary_percent": 0}}' | eguard policy create -`
    """
    body = _read_object(file)
    tell(post("/endpoint/policy", **(body | ({"reason": reason} if reason else {}))), as_json=as_json)


@app.command()
def assign(
    policy_id: Annotated[str, typer.Argument(help="The policy.")],
    *,
    agent: AgentOption = None,
    group: GroupOption = None,
    version: Annotated[
        str | None, typer.Option("--version", help="Stay with this version; without it the latest, now and later.")
    ] = None,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Give an agent or a group a policy. An agent's own beats its group's, and that beats `default`."""
    body = {"agent_id": agent, "group": group, "policy_id": policy_id, "policy_version": version, "reason": reason}
    tell(post("/endpoint/policy/assign", **body), as_json=as_json)


@app.command()
def withdraw(
    *, agent: AgentOption = None, group: GroupOption = None, reason: ReasonOption = "", as_json: JsonOption = False
) -> None:
    """Take an assignment back: what is left is the group's policy, or `default`."""
    tell(post("/endpoint/policy/withdraw", agent_id=agent, group=group, reason=reason), as_json=as_json)


@app.command()
def preview(
    *,
    percent: Annotated[float | None, typer.Option("--percent", help="A share of agents, in percent.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="JSON file of a policy; - reads standard input.")] = None,
    policy_id: Annotated[str | None, typer.Option("--policy", help="Only agents that this policy governs.")] = None,
    rollout_id: Annotated[
        str | None, typer.Option("--rollout", help="Salt of the buckets; the policy's id without it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count the agents that a share or a policy would mean today. Nothing is changed.

    Example: `eguard policy preview --percent 5 --policy mlops-rollout`
    """
    if (percent is None) == (file is None):
        raise typer.BadParameter("give --percent or --file")
    body: dict[str, Any] = {"rollout_id": rollout_id, "policy_id": policy_id}
    if file is not None:
        read = _read_object(file)
        body["policy_json"] = read.get("policy_json", read)
    else:
        body["percent"] = percent
    answer = post("/endpoint/policy/preview", **body)
    if as_json:
        print_json(answer)
        return
    sizes = [(name, answer[name]["percent"], answer[name]["size"]) for name in ("upload", "seed", "bundle")]
    print_table(f"Of {answer['agents']} active agents", ("direction", "percent", "agents"), sizes)
    for name in answer["cohort"]:
        typer.echo(printable(name))


@app.command()
def reissue(*, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Send every agent its policy anew, above any revision that an agent has reported.

    For a database that was restored from a copy: it counts on from where the copy was made, and agents refuse
    revisions below their own.
    """
    tell(post("/endpoint/policy/reissue", reason=reason), as_json=as_json)


@app.command("rotate-key")
def rotate_key(*, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Announce a new signing key to all agents; it takes over after seven days."""
    tell(post("/endpoint/policy/rotate-key", reason=reason), as_json=as_json)


@app.command()
def bucket(
    *,
    salt: Annotated[str, typer.Option("--salt", help="The rollout id.")],
    percent: Annotated[float, typer.Option("--percent", help="The share, in percent.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Read agents' ids, one a line, and print each with its bucket and whether it is in. Needs no server.

    Example: `echo agent-31bbb93f38b4 | eguard policy bucket --salt mlops-rollout --percent 5`
    """
    from eguard.policy import check_percent, check_rollout_id, deal_lines

    try:
        check_rollout_id(salt)
        check_percent(percent)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    out = sys.stdout.buffer
    for names, buckets, limit in deal_lines(sys.stdin.buffer, salt, percent):
        if as_json:
            rows = (
                msgspec.json.encode({"agent_id": name.decode(errors="replace"), "bucket": each, "is_in": each < limit})
                for name, each in zip(names, buckets, strict=True)
            )
        else:
            rows = (
                b"%s\t%d\t%s" % (name, each, b"in" if each < limit else b"out")
                for name, each in zip(names, buckets, strict=True)
            )
        out.write(b"".join(row + b"\n" for row in rows))
    out.flush()


def _read_object(file: Path) -> dict[str, Any]:
    raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} is not JSON: {error}", remedy="See section 12.1 of the manual for a template."
        ) from error
    if not isinstance(value, dict):
        raise ConfigError(f"{file} holds no JSON object", remedy="See section 12.1 of the manual for a template.")
    return value
