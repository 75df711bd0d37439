"""`eguard nac`: cut this host off from the network, let it go, and say how it stands."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eguard.cli.output import print_facts, print_json, printable

if TYPE_CHECKING:
    from eguard.agent.isolation import HostIsolation, Inspection, Outcome

app = typer.Typer(
    help="Cut this host off from everything but its server, and let it go again. Needs root and nftables.",
    no_args_is_help=True,
)

StateOption = Annotated[
    Path,
    typer.Option(
        "--state", help="Folder of the request that survives restarts.", envvar="EGUARD_NAC_STATE", readable=False
    ),
]
ByOption = Annotated[
    str | None, typer.Option("--by", help="Who asks, for the record; the user who called sudo if not given.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
STATE = Path("/var/lib/eguard/nac")


@app.callback()
def group() -> None:
    """Cut this host off from everything but its server, and let it go again. Needs root and nftables."""


@app.command()
def isolate(
    *,
    server: Annotated[
        list[str] | None,
        typer.Option(
            "--server",
            "-s",
            help="HOST:PORT that stays reachable over TCP; several times for several. IPv6 in brackets.",
        ),
    ] = None,
    resolver: Annotated[
        list[str] | None,
        typer.Option("--resolver", help="DNS resolver for the server's name; those of resolv.conf if not given."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the rules and change nothing; needs no root.")
    ] = False,
    by: ByOption = None,
    state: StateOption = STATE,
    as_json: JsonOption = False,
) -> None:
    """Drop everything in, out and through, but loopback and TCP to the server.

    The rules are one nftables table, inet eguard_isolation, loaded in one transaction; other tables are not touched.
    Repeat the command at any time: names are looked up again, nothing else changes. Without `--server` the request
    that stands is repeated. After a restart, `eguard nac restore` brings it back; `eguard nac allow` ends it.

    Examples: `sudo eguard nac isolate --server server.example:8443`; look first with `--dry-run`; by address, which
    needs no DNS: `--server 192.0.2.7:8443 --server [2001:db8::7]:8443`.
    """
    host = _host(state)
    caller = by or _caller()
    if dry_run:
        rules = host.plan(server or [], resolver or [], by=caller)
        print_json({"rules": rules}) if as_json else typer.echo(rules, nl=False)
        return
    _answer(host.isolate(server or [], resolver or [], by=caller), as_json)


@app.command()
def allow(*, by: ByOption = None, state: StateOption = STATE, as_json: JsonOption = False) -> None:
    """End the isolation: remove our table and the request, and nothing else. Harmless when there is none."""
    _answer(_host(state).allow(by=by or _caller()), as_json)


@app.command()
def restore(*, state: StateOption = STATE, as_json: JsonOption = False) -> None:
    """Bring a requested isolation back after a restart or a firewall's flush; without a request, do nothing.

    Uses the addresses on file, so it works before the network is up: run it early at boot, as
    `deploy/systemd/eguard-isolation.service` does.
    """
    _answer(_host(state).restore(), as_json)


@app.command()
def status(*, state: StateOption = STATE, as_json: JsonOption = False) -> None:
    """Say whether this host is isolated, since when, by whom, and how much was dropped; read from the kernel.

    The exit code is 1 when the isolation is partial or differs from what was requested, and 0 otherwise.
    """
    standing = _host(state).status()
    facts = _facts(standing.inspection) | {"disagreements": list(standing.disagreements)}
    if standing.request is not None:
        facts["request"] = {
            "servers": [pinned.server for pinned in standing.request.servers],
            "requested_at": _time(standing.request.requested_at_unix),
            "requested_by": standing.request.requested_by,
        }
    else:
        facts["request"] = None
    if as_json:
        print_json(facts)
    else:
        _print_state(facts)
    if standing.disagreements or standing.inspection.state == "partial":
        raise typer.Exit(1)


def _host(state: Path) -> HostIsolation:
    from eguard.agent.isolation import HostIsolation, Nft, RequestFile

    return HostIsolation(Nft(), RequestFile(state))


def _caller() -> str:
    """Return who runs this command: the user behind sudo, or the user's own name."""
    if sys.platform == "win32":
        return os.environ.get("USERNAME", "")
    import pwd

    try:
        own = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        own = f"uid {os.getuid()}"
    behind = os.environ.get("SUDO_USER", "")
    return f"{behind} (sudo)" if behind else own


def _answer(outcome: Outcome, as_json: bool) -> None:
    facts = {"action": outcome.action, **_facts(outcome.inspection), "warnings": list(outcome.warnings)}
    if as_json:
        print_json(facts)
    else:
        _print_state(facts)


def _facts(inspection: Inspection) -> dict[str, Any]:
    facts = asdict(inspection)
    return {**facts, "since": _time(inspection.since_unix)}


def _time(unix: int | None) -> str | None:
    """Return ISO 8601, or None for a time that is not known or lies outside the calendar."""
    try:
        return None if unix is None else datetime.fromtimestamp(unix, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return None


def _print_state(facts: dict[str, Any]) -> None:
    lines: dict[str, Any] = {"action": facts["action"].replace("_", " ")} if "action" in facts else {}
    lines["state"] = facts["state"].replace("_", " ")
    if facts["state"] != "not_isolated":
        lines["since"] = facts["since"] or "unknown"
        lines["by"] = printable(facts["requested_by"]) or "unknown"
        lines["servers"] = ", ".join(map(printable, facts["servers"])) or "none"
        lines["resolvers"] = ", ".join(map(printable, facts["resolvers"])) or "none"
        lines["DNS names"] = ", ".join(map(printable, facts["questions"])) or "none"
        for hook, counts in facts["dropped"].items():
            lines[f"dropped, {hook}"] = f"{counts['packets']} packets, {counts['bytes']} bytes"
    if facts.get("request"):
        request = facts["request"]
        lines["request"] = f"{', '.join(request['servers'])} by {printable(request['requested_by'])}"
    print_facts(lines)
    for name in ("defects", "disagreements", "warnings"):
        for sentence in facts.get(name, ()):
            typer.echo(f"{name.removesuffix('s')}: {printable(sentence)}")
