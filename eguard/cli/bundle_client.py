"""`eguard bundle client`: the TUF client alone, under the protocol of the public conformance suite."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from eguard.cli.output import print_json

app = typer.Typer(no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@dataclass(frozen=True, slots=True)
class _Options:
    metadata_dir: Path
    metadata_url: str | None
    target_name: str | None
    target_base_url: str | None
    target_dir: str | None


@app.callback()
def options(
    context: typer.Context,
    *,
    metadata_dir: Annotated[Path, typer.Option("--metadata-dir", help="Folder of the metadata that is trusted.")],
    metadata_url: Annotated[
        str | None, typer.Option("--metadata-url", help="Address of the metadata: http, https, file.")
    ] = None,
    target_name: Annotated[str | None, typer.Option("--target-name", help="Name of the target to download.")] = None,
    target_base_url: Annotated[
        str | None, typer.Option("--target-base-url", help="Address that targets lie below.")
    ] = None,
    target_dir: Annotated[str | None, typer.Option("--target-dir", help="Folder for downloaded targets.")] = None,
) -> None:
    """Verify any TUF repository as the specification says: the client that the public conformance suite runs.

    Options stand before the command.

    `init` trusts a root, `refresh` updates the metadata, `download` fetches a target. Exit code 0: everything was
    verified. Exit code 1: something was refused or could not be had. Agents do more: they check manifests, counts and a
    version floor, and try a bundle out (`eguard bundle verify`).
    """
    context.obj = _Options(metadata_dir, metadata_url, target_name, target_base_url, target_dir)


@app.command()
def init(
    context: typer.Context,
    trusted_root: Annotated[Path, typer.Argument(help="Root metadata to start from.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Trust a root. The repository is not asked."""
    from eguard.bundle import tuf_client

    given: _Options = context.obj
    tuf_client.initialise(given.metadata_dir, trusted_root)
    if as_json:
        print_json({"initialised": str(given.metadata_dir)})


@app.command()
def refresh(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """Bring root, timestamp, snapshot and targets metadata up to date. Needs --metadata-url."""
    from eguard.bundle import tuf_client

    given: _Options = context.obj
    tuf_client.refresh(given.metadata_dir, _need(given.metadata_url, "--metadata-url"))
    if as_json:
        print_json({"refreshed": str(given.metadata_dir)})


@app.command()
def download(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """Download one target. Needs --metadata-url, --target-name, --target-base-url and --target-dir."""
    from eguard.bundle import tuf_client

    given: _Options = context.obj
    path = tuf_client.download(
        given.metadata_dir,
        _need(given.metadata_url, "--metadata-url"),
        _need(given.target_name, "--target-name"),
        Path(_need(given.target_dir, "--target-dir")),
        _need(given.target_base_url, "--target-base-url"),
    )
    if as_json:
        print_json({"target": given.target_name, "file": str(path)})


def _need(value: str | None, option: str) -> str:
    if not value:
        raise typer.BadParameter("is needed; it stands before the command", param_hint=option)
    return value
