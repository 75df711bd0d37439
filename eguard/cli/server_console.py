"""What the commands of `eguard server` share: the server's parts, opened on this machine, and who is at the console."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eguard.errors import ConfigError

if TYPE_CHECKING:
    from eguard.server.context import ServerContext
    from eguard.server.principal import Principal

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the audit log.")]


@contextmanager
def open_console() -> Iterator[tuple[ServerContext, Principal]]:
    """Yield the server's parts on its own database, and the user of this machine as an admin.

    Whoever reads the server's keys and database may do everything anyway; what is done here is on record all the same.
    """
    from eguard.server.assembly import open_context
    from eguard.settings import load_server_settings

    with open_context(load_server_settings()) as context:
        yield context, console_principal()


def console_principal() -> Principal:
    """Return the user of this machine; of one that used sudo, who called it."""
    from eguard.server.principal import Principal, Role

    name = getpass.getuser()
    caller = os.environ.get("SUDO_USER", "")
    if caller and hasattr(os, "geteuid") and os.geteuid() == 0:
        name = caller
    return Principal(name, Role.ADMIN, credential="console")


def write_secret(path: Path, data: bytes) -> None:
    """Write a file that its owner alone may read, and none over another.

    Raises
    ------
    ConfigError
        There is such a file already.
    """
    from eguard.server.pki.folder import write_private

    if path.exists():
        raise ConfigError(f"{path} is there already", remedy="Name another file, or remove that one first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, data)


def day(seconds: float | None) -> str:
    """Return a time as people read it, to the minute."""
    return "-" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def shown(value: Any) -> str:
    """Return a value of a table's cell; names come from endpoints and steer no terminal."""
    from eguard.cli.output import printable

    return "-" if value is None else printable(str(value))
