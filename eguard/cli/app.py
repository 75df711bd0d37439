"""The `eguard` command: groups, version, and how errors reach people.

Exit codes: 0 done, 1 a check or gate failed, 2 wrong usage or bad input, 3 something is missing on this machine.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated, Final

import typer
from rich.console import Console

from eguard import __version__
from eguard.cli import (
    agent,
    alerts,
    bundle,
    config,
    doctor,
    fleet,
    ml,
    nac,
    policy_rollout,
    sensor,
    server,
    simulate,
    simulate_drill,
    simulate_fleet,
    simulate_loop,
    store,
)
from eguard.errors import (
    BundleError,
    ConfigError,
    EguardError,
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

app = typer.Typer(
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
app.add_typer(agent.app, name="agent")
app.add_typer(alerts.app, name="alerts")
app.add_typer(bundle.app, name="bundle")
app.add_typer(config.app, name="config")
app.command()(doctor.doctor)
app.add_typer(fleet.app, name="fleet")
app.add_typer(ml.app, name="ml")
app.add_typer(nac.app, name="nac")
app.add_typer(policy_rollout.app, name="policy")
app.add_typer(sensor.app, name="sensor")
app.add_typer(server.app, name="server")
app.add_typer(simulate.app, name="simulate")
simulate.app.command()(simulate_loop.loop)
simulate.app.command()(simulate_drill.drill)
simulate.app.command()(simulate_fleet.fleet)
app.add_typer(store.app, name="store")


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
    if isinstance(error, BundleError | GateFailedError | SimulationError):
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
