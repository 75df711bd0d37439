"""The `eguard` command: groups, version, and how errors reach people.

Exit codes: 0 done, 1 a check or gate failed, 2 wrong usage or bad input, 3 something is missing on this machine.
"""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Annotated, Any, Final

import typer
import typer.core
import typer.main
from rich.console import Console

from eguard import __version__
from eguard.cli import doctor
from eguard.errors import (
    BundleError,
    ConfigError,
    EguardError,
    EvidenceError,
    GateFailedError,
    IsolationUnavailableError,
    MissingExtraError,
    SensorUnavailableError,
    ServerUnavailableError,
    SimulationError,
)
from eguard.logs import configure_logging

EXIT_CHECK_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_MISSING: Final = 3

#: The groups of commands and their modules.
_GROUPS: Final = {
    "agent": "eguard.cli.agent",
    "alerts": "eguard.cli.alerts",
    "bundle": "eguard.cli.bundle",
    "config": "eguard.cli.config",
    "evidence": "eguard.cli.evidence",
    "fleet": "eguard.cli.fleet",
    "ml": "eguard.cli.ml",
    "nac": "eguard.cli.nac",
    "policy": "eguard.cli.policy_rollout",
    "readiness": "eguard.cli.readiness",
    "sensor": "eguard.cli.sensor",
    "server": "eguard.cli.server",
    "simulate": "eguard.cli.simulate",
    "store": "eguard.cli.store",
}


class GroupsOnDemand(typer.core.TyperGroup):
    """The groups of commands, each made when it is asked for: no command waits for a hundred others to be described."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return all names; every group is made."""
        for name in _GROUPS:
            self._make(name)
        return [*(name for name in super().list_commands(ctx) if name not in _GROUPS), *_GROUPS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a group or command; a name that there is not is looked for among all, for a hint at a similar one."""
        if cmd_name in _GROUPS:
            self._make(cmd_name)
        elif cmd_name not in self.commands:
            self.list_commands(ctx)
        return super().get_command(ctx, cmd_name)

    def _make(self, name: str) -> None:
        if name not in self.commands:
            holder = typer.Typer(rich_markup_mode="rich")
            holder.add_typer(import_module(_GROUPS[name]).app, name=name)
            self.commands[name] = typer.main.get_group(holder).commands[name]


app = typer.Typer(
    cls=GroupsOnDemand,
    name="eguard",
    help=(
        "Endpoint detection as a reproducible workbench.\n\n"
        "Start with [bold]make demo[/bold], then [bold]eguard bundle verify[/bold] and "
        "[bold]eguard ml replay --help[/bold]."
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def configure(
    version: Annotated[  # noqa: ARG001 - the callback prints it and leaves
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log debug events to standard error.")] = False,
) -> None:
    """Set up logging before any command runs."""
    configure_logging(verbose=verbose)


def exit_code(error: EguardError) -> int:
    """Return the process's exit code for an error."""
    if isinstance(
        error, IsolationUnavailableError | MissingExtraError | SensorUnavailableError | ServerUnavailableError
    ):
        return EXIT_MISSING
    if isinstance(error, BundleError | EvidenceError | GateFailedError | SimulationError):
        return EXIT_CHECK_FAILED
    return EXIT_BAD_INPUT


def main() -> None:
    """Run the command line; eGuard's own errors become one message, its remedy and an exit code."""
    _write_any_character()
    try:
        app()
    except EguardError as error:
        report_error(error)
        sys.exit(exit_code(error))
    except ModuleNotFoundError as error:
        missing = MissingExtraError(
            f"this command needs the package {error.name!r}, which is not installed",
            remedy="Install the extra that brings it: pip install 'eguard[mlops]'",
        )
        report_error(missing)
        sys.exit(EXIT_MISSING)
    except OSError as error:
        report_error(ConfigError(f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")))
        sys.exit(EXIT_BAD_INPUT)


def _write_any_character() -> None:
    """Have output in UTF-8 on Windows, too: its code pages lack most characters, and a name of a process has any."""
    if sys.platform == "win32":
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def report_error(error: EguardError) -> None:
    """Print what happened and what to do about it on standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("[bold red]error:[/bold red]", end=" ")
    console.print(error.message, markup=False)
    if error.remedy:
        console.print("[bold]remedy:[/bold]", end=" ")
        console.print(error.remedy, markup=False)
