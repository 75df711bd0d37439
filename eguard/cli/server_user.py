"""`eguard server user`: people's accounts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from eguard.cli.output import print_facts, print_json, print_table
from eguard.cli.server_console import JsonOption, day, open_console, shown
from eguard.cli.server_token import TokenRole

app = typer.Typer(
    help="People's accounts: an analyst may look and judge, an admin may change what concerns the fleet.",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(help="Name of the account; case counts.")]


def _password() -> str:
    """Ask for a password twice, or take the first line of standard input where nobody sits."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


def _done(as_json: bool, facts: dict[str, object]) -> None:
    print_json(facts) if as_json else print_facts(facts)


@app.command()
def add(
    name: NameArgument,
    *,
    role: Annotated[TokenRole, typer.Option("--role", "-r", help="analyst: may look; admin: may change.")],
    as_json: JsonOption = False,
) -> None:
    """Make an account. The password is asked for, or read from standard input; it needs twelve characters.

    Example: `eguard server user add ada --role admin`
    """
    from eguard.server.principal import Role

    with open_console() as (context, principal):
        context.access.accounts.add(principal, name, Role(role), _password())
    _done(as_json, {"name": shown(name), "role": role})


@app.command()
def password(name: NameArgument, *, as_json: JsonOption = False) -> None:
    """Give an account another password; its sessions end and a lock is lifted."""
    with open_console() as (context, principal):
        context.access.set_password(principal, name, _password())
    _done(as_json, {"name": shown(name), "password": "changed"})


@app.command()
def disable(name: NameArgument, *, as_json: JsonOption = False) -> None:
    """Let an account sign in no more; its sessions end within five seconds."""
    with open_console() as (context, principal):
        context.access.disable_account(principal, name)
    _done(as_json, {"name": shown(name), "disabled": True})


@app.command()
def enable(name: NameArgument, *, as_json: JsonOption = False) -> None:
    """Let an account sign in again; a lock after wrong passwords is lifted as well."""
    with open_console() as (context, principal):
        context.access.accounts.enable(principal, name)
    _done(as_json, {"name": shown(name), "disabled": False})


@app.command("list")
def list_accounts(*, as_json: JsonOption = False) -> None:
    """List accounts by name."""
    with open_console() as (context, _principal):
        accounts = context.access.accounts.list()
    if as_json:
        print_json({"accounts": accounts})
        return
    print_table(
        "Accounts",
        ("name", "role", "made", "disabled", "locked until", "wrong passwords"),
        [
            (
                shown(account["name"]),
                account["role"],
                day(account["created_at_unix"]),
                day(account["disabled_at_unix"]),
                day(account["locked_until_unix"]),
                account["failures"],
            )
            for account in accounts
        ],
        numbers=False,
    )
