"""`eguard server`: the fleet's server on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eguard.cli import server_agent, server_audit, server_notify, server_pki, server_tasks, server_token, server_user
from eguard.cli.output import print_facts, print_json, progress_bar

app = typer.Typer(
    help="The fleet's server: run it, make its certificates, tokens and accounts, keep its database up to date.",
    no_args_is_help=True,
)
app.add_typer(server_agent.app, name="agent")
app.add_typer(server_audit.app, name="audit")
app.add_typer(server_notify.app, name="notify")
app.add_typer(server_pki.app, name="pki")
app.add_typer(server_tasks.app, name="task")
app.add_typer(server_token.app, name="token")
app.add_typer(server_user.app, name="user")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def run() -> None:
    """Serve agents and administration until told to end.

    Before the first start: `eguard server pki init --name NAME`, with the name that agents will call the server by. The
    database is made or brought up to date by itself. Addresses, folders and limits are settings: `eguard config show`.

    Example: `EGUARD_AGENT_LISTEN=0.0.0.0:8443 eguard server run`
    """
    from eguard.server.service import run_server
    from eguard.settings import load_server_settings

    run_server(load_server_settings())


@app.command()
def migrate(*, as_json: JsonOption = False) -> None:
    """Make the database, or bring it up to the form of this version; a second run changes nothing.

    Back the database up first: going back to an earlier version needs the copy.

    Example: `EGUARD_DATABASE_URL=mysql://eguard:PASSWORD@db.example/eguard eguard server migrate`
    """
    from eguard.fleet.migrations import current_revision
    from eguard.fleet.store import FleetStore
    from eguard.server.assembly import prepare_folder
    from eguard.settings import load_server_settings
    from eguard.settings.origins import redact_password

    settings = load_server_settings()
    prepare_folder(settings)
    with FleetStore(settings.fleet_url) as store:
        with store.database.read() as connection:
            before = current_revision(connection)
        after = store.migrate()
    facts = {"database": redact_password(settings.fleet_url), "before": before, "after": after}
    print_json(facts) if as_json else print_facts(facts)


@app.command("copy-from")
def copy_from(
    file: Annotated[Path, typer.Argument(help="An embedded database, of this version.", exists=True, dir_okay=False)],
    *,
    as_json: JsonOption = False,
) -> None:
    """Move the fleet from an embedded database into the empty one that EGUARD_DATABASE_URL names.

    Stop the server first: what it stores meanwhile would stay behind. The embedded database stays as it is.

    Example: `EGUARD_DATABASE_URL=mysql://eguard:PASSWORD@db.example/eguard eguard server copy-from fleet.sqlite`
    """
    from eguard.clock import SystemClock
    from eguard.fleet.database import Database
    from eguard.fleet.transfer import copy_database
    from eguard.settings import load_server_settings

    source, target = Database(f"sqlite:///{file.resolve()}"), Database(load_server_settings().fleet_url)
    try:
        with progress_bar(quiet=as_json) as progress:
            copied = copy_database(source, target, SystemClock().now(), progress)
    finally:
        source.dispose()
        target.dispose()
    facts = {"database": target.address, **{name: rows for name, rows in sorted(copied.items()) if rows}}
    print_json(facts) if as_json else print_facts(facts)
