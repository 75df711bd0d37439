"""`eguard server token`: what lets machines in, and programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from eguard.cli.output import print_facts, print_json, print_table
from eguard.cli.server_console import JsonOption, day, open_console, shown, write_secret

app = typer.Typer(
    help="Enrolment tokens let machines become agents; access tokens let programs use the administration listener.",
    no_args_is_help=True,
)
access = typer.Typer(help="Access tokens: how programs speak to the administration listener.", no_args_is_help=True)
app.add_typer(access, name="access")

OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="File for the secret, readable by you alone; nothing is printed.")
]


TokenRole = Literal["analyst", "admin"]


def _hand_out(as_json: bool, out: Path | None, secret: str, facts: dict[str, object]) -> None:
    """Show a secret this once, or keep it in a file."""
    facts |= {"token": secret} if out is None else {"file": str(out)}
    print_json(facts) if as_json else print_facts(facts)


def _check_free(out: Path | None) -> None:
    if out is not None:
        write_secret(out, b"")
        out.unlink()


@app.command()
def create(
    *,
    group: Annotated[str, typer.Option("--group", "-g", help="Group that the machines go into.")] = "default",
    max_uses: Annotated[int, typer.Option("--max-uses", "-u", help="Machines that it lets in.")] = 1,
    days: Annotated[float, typer.Option("--days", help="How long it holds.")] = 7.0,
    note: Annotated[str, typer.Option("--note", help="What it is for.")] = "",
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an enrolment token. It is shown this once; the server keeps a hash.

    Example: `eguard server token create --group web --max-uses 20 --note "rack 3" --out token.txt`
    """
    _check_free(out)
    with open_console() as (context, principal):
        token = context.enrolment.tokens.create(principal, group=group, max_uses=max_uses, days=days, note=note)
    if out is not None:
        write_secret(out, token.secret.encode() + b"\n")
    facts: dict[str, object] = {
        "token_id": token.token_id,
        "group": group,
        "max_uses": max_uses,
        "expires": day(token.expires_at_unix),
    }
    _hand_out(as_json, out, token.secret, facts)


@app.command("list")
def list_tokens(*, as_json: JsonOption = False) -> None:
    """List enrolment tokens, the latest first; never their secrets."""
    with open_console() as (context, _principal):
        tokens = context.enrolment.tokens.list()
    if as_json:
        print_json({"tokens": tokens})
        return
    print_table(
        "Enrolment tokens",
        ("token", "group", "used", "expires", "revoked", "made by", "note"),
        [
            (
                token["token_id"],
                shown(token["group"]),
                f"{token['uses']} of {token['max_uses']}",
                day(token["expires_at_unix"]),
                day(token["revoked_at_unix"]),
                shown(token["created_by"]),
                shown(token["note"]),
            )
            for token in tokens
        ],
        numbers=False,
    )


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(help="Which token; `list` names them.")], *, as_json: JsonOption = False
) -> None:
    """Let nobody in with an enrolment token any more; agents that it let in stay."""
    with open_console() as (context, principal):
        context.enrolment.tokens.revoke(principal, token_id)
    print_json({"revoked": token_id}) if as_json else print_facts({"revoked": token_id})


@access.command("create")
def create_access(
    name: Annotated[str, typer.Argument(help="Who uses it; the audit log says so.")],
    *,
    role: Annotated[TokenRole, typer.Option("--role", "-r", help="analyst: may look; admin: may change.")],
    days: Annotated[float, typer.Option("--days", help="How long it holds, at most 366.")] = 90.0,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an access token. It is shown this once; the server keeps a hash.

    Programs send it as `Authorization: Bearer ...`; `eguard policy` and its like read EGUARD_API_TOKEN_FILE.

    Example: `eguard server token access create nightly --role admin --out /etc/eguard/api-token`
    """
    from eguard.server.principal import Role

    _check_free(out)
    with open_console() as (context, principal):
        token = context.access.tokens.create(principal, name, Role(role), days)
    if out is not None:
        write_secret(out, token.secret.encode() + b"\n")
    facts: dict[str, object] = {
        "token_id": token.token_id,
        "name": shown(name),
        "role": role,
        "expires": day(token.expires_at_unix),
    }
    _hand_out(as_json, out, token.secret, facts)


@access.command("list")
def list_access(*, as_json: JsonOption = False) -> None:
    """List access tokens, the latest first; never their secrets."""
    with open_console() as (context, _principal):
        tokens = context.access.tokens.list()
    if as_json:
        print_json({"tokens": tokens})
        return
    print_table(
        "Access tokens",
        ("token", "name", "role", "expires", "revoked", "made by"),
        [
            (
                token["token_id"],
                shown(token["name"]),
                token["role"],
                day(token["expires_at_unix"]),
                day(token["revoked_at_unix"]),
                shown(token["created_by"]),
            )
            for token in tokens
        ],
        numbers=False,
    )


@access.command("revoke")
def revoke_access(
    token_id: Annotated[str, typer.Argument(help="Which token; `list` names them.")], *, as_json: JsonOption = False
) -> None:
    """End an access token; it counts within five seconds."""
    with open_console() as (context, principal):
        context.access.tokens.revoke(principal, token_id)
    print_json({"revoked": token_id}) if as_json else print_facts({"revoked": token_id})
