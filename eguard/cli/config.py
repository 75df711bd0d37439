"""`eguard config`: the settings that are in effect here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eguard.cli.output import print_json, print_table, printable

app = typer.Typer(help="The settings that are in effect here, and where each came from.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Show the settings that are in effect here, and where each came from."""


@app.command()
def show(
    *,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="TOML file of the agent; EGUARD_CONFIG names it by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print every setting: variable, value, origin and meaning.

    The environment beats the file, and the file beats the default. Run it with the environment of the service, for
    example `sudo systemd-run --pipe --property=EnvironmentFile=/etc/eguard/eguard.env eguard config show`. A value that
    cannot be read is named, with exit code 2. Passwords in addresses are left out.
    """
    from eguard.settings import explain_settings, unknown_variables

    found = explain_settings(config)
    unknown = unknown_variables()
    if as_json:
        print_json({"settings": [each.to_dict() for each in found], "unknown_variables": unknown})
        return
    rows = [(each.variable, _shown(each.value), each.origin, each.description) for each in found]
    print_table("settings", ("variable", "value", "origin", "meaning"), rows, numbers=False)
    for name in unknown:
        typer.echo(f"{printable(name)} is set, but there is no such setting", err=True)


def _shown(value: object) -> str:
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return printable(", ".join(map(str, value)) if isinstance(value, list) else str(value))
