"""`eguard server pki`: the certificate authority of the fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from eguard.cli.output import print_facts, print_json
from eguard.cli.server_console import JsonOption, ReasonOption, day, open_console, shown, write_secret
from eguard.errors import ConfigError

app = typer.Typer(
    help="The fleet's certificate authority: make it, issue, revoke, renew. Every change is audited.",
    no_args_is_help=True,
)


def _answer(as_json: bool, facts: dict[str, Any]) -> None:
    if as_json:
        print_json(facts)
        return
    print_facts(
        {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in facts.items()}
    )


@app.command()
def init(
    name: Annotated[
        list[str],
        typer.Option("--name", "-n", help="DNS name or IP address by which agents call the server; several times."),
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Make the authority and the server's certificate. It is done once; an authority that is there is never replaced.

    Agents are given the file that is printed as `agents_trust`, with their enrolment token. EGUARD_PKI_PASSPHRASE, if
    set, encrypts the authority's key.

    Example: `eguard server pki init --name eguard.example --name 192.0.2.10`
    """
    from eguard.server.pki.files import pki_folder
    from eguard.server.services.pki_changes import PkiChanges

    with open_console() as (context, principal):
        folder = pki_folder(context.settings)
        PkiChanges(context.database, context.clock, folder).create(principal, name)
        _answer(
            as_json,
            {
                "authority": str(folder.authority_file),
                "server_certificate": str(folder.server_file),
                "agents_trust": str(folder.trust_file),
                "names": folder.server_names(),
            },
        )


@app.command()
def issue(
    agent_id: Annotated[str, typer.Argument(help="Name of the agent; the certificate says it and nothing else.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for agent.pem, agent.key and ca.pem.")],
    *,
    csr: Annotated[
        Path | None, typer.Option("--csr", help="Request (PKCS#10, PEM) of a key that stays where it is.")
    ] = None,
    days: Annotated[float, typer.Option("--days", min=0.01, max=3650, help="How long the certificate holds.")] = 90.0,
    as_json: JsonOption = False,
) -> None:
    """Issue a certificate to a machine that cannot enrol. Its first heartbeat makes it an agent.

    Without `--csr` the key is made here: carry the folder to the machine by a way that nobody reads along.

    Example: `eguard server pki issue web-7 --out /media/stick/web-7`
    """
    from eguard.server.pki.files import pki_folder
    from eguard.server.pki.request import make_key_and_request

    files = {"certificate": out / "agent.pem", "key": out / "agent.key", "authority": out / "ca.pem"}
    for path in files.values():
        if path.exists():
            raise ConfigError(f"{path} is there already", remedy="Name another folder: --out")
    if csr is None:
        key, request = make_key_and_request(agent_id)
    else:
        key, request = None, csr.read_text(encoding="ascii", errors="replace")
        del files["key"]
    with open_console() as (context, principal):
        issued = context.enrolment.issue(principal, agent_id, request, days)
        if key is not None:
            write_secret(files["key"], key)
        write_secret(files["certificate"], issued.pem.encode())
        write_secret(files["authority"], pki_folder(context.settings).trust_pem().encode())
    _answer(
        as_json,
        {
            "agent_id": agent_id,
            "serial": issued.serial,
            "not_after": day(issued.not_after),
            **{name: str(path) for name, path in files.items()},
        },
    )


@app.command()
def revoke(
    agent_id: Annotated[str | None, typer.Argument(help="Agent, all of whose certificates are revoked.")] = None,
    *,
    serial: Annotated[str | None, typer.Option("--serial", "-s", help="Serial number of one certificate.")] = None,
    reason: ReasonOption,
    as_json: JsonOption = False,
) -> None:
    """Revoke an agent's certificates, or one. It counts within five seconds, on connections that are open as well.

    The agent stays in the inventory; to take it out, use `eguard server agent decommission`.

    Example: `eguard server pki revoke web-7 --reason "laptop stolen"`
    """
    if (agent_id is None) == (serial is None):
        raise ConfigError("name either an agent or a serial number", remedy="eguard server pki revoke --help")
    with open_console() as (context, principal):
        serial = serial.lower().lstrip("0") if serial is not None else None
        serials = context.certificates.revoke(principal, agent_id=agent_id, serial=serial, reason=reason)
    _answer(as_json, {"revoked": serials})


@app.command()
def rotate(
    *,
    authority: Annotated[
        bool, typer.Option("--authority", help="Put a new authority in the present one's place; both are trusted.")
    ] = False,
    retire: Annotated[
        bool, typer.Option("--retire", help="Stop trusting earlier authorities: their certificates end.")
    ] = False,
    name: Annotated[
        list[str] | None, typer.Option("--name", "-n", help="New names of the server; those that it has if not given.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Retire even if agents still use certificates of an earlier authority.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Give the server a new key and certificate; with `--authority`, the authority too.

    A running server takes its new certificate over within seconds. A new authority is believed at once by agents that
    know only the old one, as the server shows what the old one says of it; they learn it when they renew their own
    certificate, after 60 of 90 days. Retire the old one after that, and restart the server.

    Examples: `eguard server pki rotate`; `eguard server pki rotate --authority`, three months later with `--retire`
    """
    from eguard.server.pki.files import pki_folder
    from eguard.server.services.pki_changes import PkiChanges

    if authority and retire:
        raise ConfigError("a new authority and the end of the old one are steps months apart", remedy="Give one.")
    with open_console() as (context, principal):
        folder = pki_folder(context.settings)
        changes = PkiChanges(context.database, context.clock, folder)
        retired: list[str] = []
        if authority:
            changes.succeed(principal)
        elif retire:
            retired = changes.retire(principal, is_forced=force)
        if name or not (authority or retire):
            changes.renew_server(principal, name)
        _answer(as_json, {**_describe(context), "retired": retired})


@app.command()
def show(*, as_json: JsonOption = False) -> None:
    """Show the authorities, the server's certificate and how many of the agents' certificates hold."""
    with open_console() as (context, _principal):
        _answer(as_json, _describe(context))


def _describe(context: Any) -> dict[str, Any]:
    from eguard.server.pki.files import pki_folder
    from eguard.server.pki.identity import serial_hex
    from eguard.server.services.pki_changes import PkiChanges

    folder = pki_folder(context.settings)
    changes = PkiChanges(context.database, context.clock, folder)
    present, server = folder.authority().certificate, folder.server_chain()[0]
    counts = context.certificates.counts()
    return {
        "authority": serial_hex(present),
        "authority_not_after": day(present.not_valid_after_utc.timestamp()),
        "earlier_authorities": changes.earlier(),
        "certificates_of_earlier": changes.certificates_of_earlier(),
        "server_names": [shown(name) for name in folder.server_names()],
        "server_not_after": day(server.not_valid_after_utc.timestamp()),
        "agents_trust": str(folder.trust_file),
        **{f"certificates_{state}": count for state, count in counts.items()},
    }
