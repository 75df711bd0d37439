"""`eguard simulate fleet`: thousands of agents against a server, over real TLS."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eguard.cli.output import print_facts, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from eguard.simulate.load import RemoteServer, Second

_EVERY_SECONDS = 15
_TOLD_TO_END = 128 + signal.SIGTERM


def fleet(
    *,
    agents: Annotated[int, typer.Option("--agents", "-n", help="Agents, each with a certificate of its own.")] = 1000,
    profiles: Annotated[int, typer.Option("--profiles", help="Profiles in each upload.")] = 20,
    start_period: Annotated[
        float, typer.Option("--start-period", help="Seconds within which all agents start.")
    ] = 45.0,
    interval: Annotated[float, typer.Option("--interval", help="Seconds between two uploads of an agent.")] = 900.0,
    heartbeat: Annotated[float, typer.Option("--heartbeat", help="Seconds between two heartbeats of an agent.")] = 30.0,
    hold: Annotated[
        float, typer.Option("--hold", help="Seconds for which the load goes on once every agent has started.")
    ] = 15.0,
    poll: Annotated[
        bool,
        typer.Option(
            "--poll/--no-poll",
            help="Agents stay connected and wait for their policy; or connect, upload, fetch seeds and leave.",
        ),
    ] = True,
    fetch: Annotated[
        bool,
        typer.Option(
            "--fetch",
            help="Fetch the fleet's seeds after each upload, as agents do that learn. "
            "Agents that do not stay do it anyway.",
        ),
    ] = False,
    herd: Annotated[
        float, typer.Option("--herd", help="Drop every connection; all agents come back within so many seconds.")
    ] = 0.0,
    kill_switch: Annotated[
        bool, typer.Option("--kill-switch", help="Switch uploads off in the middle, of the herd if there is one.")
    ] = False,
    poison: Annotated[
        str, typer.Option("--poison", help="Attack of the liars: one-hot, lie, fang, min-max or min-sum.")
    ] = "",
    share: Annotated[float, typer.Option("--share", "-s", help="Share of the agents that lie, below 0.5.")] = 0.0,
    churn: Annotated[
        float, typer.Option("--churn", help="Share of the agents that leaves each minute and comes back.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of what is uploaded and of the schedule.")] = 0,
    recording: Annotated[
        Path, typer.Option("--recording", "-r", help="Real hosts: an event log, or a fleet store such as fleet.db.")
    ] = Path("data/raw/endpoint-events/events.csv.gz"),
    server: Annotated[
        str,
        typer.Option("--server", help="https://NAME:PORT of a server that runs; one of the test's own if not given."),
    ] = "",
    ca: Annotated[Path | None, typer.Option("--ca", help="Authority of that server's certificate (PEM).")] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", help="Enrolment token for as many uses as there are agents; not in a command line."
        ),
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="Agents are called this, a dash and a number.")] = "load",
    folder: Annotated[
        Path | None,
        typer.Option("--folder", "-f", help="Keep keys, database and log here. A temporary one if not given."),
    ] = None,
    max_p99_ms: Annotated[
        float | None,
        typer.Option("--max-p99-ms", help="Fail if the slowest of a hundred uploads or fetches took longer."),
    ] = None,
    max_errors: Annotated[int, typer.Option("--max-errors", help="Fail if more requests or connections failed.")] = 0,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw latencies and the course of the run into this PNG.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Put the load of a whole fleet on a server, over real TLS, and measure both sides.

    The server is a program of its own with keys and certificates made on the spot, so that its memory and its processor
    time are measured apart from the generator's. Agents report, upload profiles that are resampled from real hosts,
    fetch the fleet's seeds and wait for their policy, as the agent does.

    Examples: `eguard simulate fleet --agents 10000`; the return of everybody after an outage, with the kill switch in
    the middle: `--agents 10000 --herd 10 --kill-switch`; a day's rhythm of a large fleet, five minutes of it:
    `--agents 100000 --no-poll --hold 300 --max-p99-ms 250`

    Against a server that runs: `--server https://eguard.example:8443 --ca ca.pem --token-file token --folder agents`.
    The agents enrol there, and the folder keeps them for the next run.

    The exit code is 1 if more than `--max-errors` requests failed, or another bound is missed.
    """
    from eguard.settings import load_server_settings
    from eguard.simulate.load import LoadOptions, run_load, verdict

    options = LoadOptions(
        agents=agents,
        profiles=profiles,
        start_seconds=start_period,
        interval_seconds=interval,
        heartbeat_seconds=heartbeat,
        hold_seconds=hold,
        is_polling=poll,
        is_fetching=fetch,
        herd_seconds=herd,
        kill_switch=kill_switch,
        poison=poison,
        share=share,
        churn_per_minute=churn,
        seed=seed,
        recording=recording,
        prefix=prefix,
    )
    remote = _remote(server, ca, token_file)
    url = load_server_settings().database_url
    with _ending_in_order(), progress_bar() as progress, _watching() as watch:
        report = run_load(options, folder=folder, server=remote, database_url=url, progress=progress, watch=watch)
    report["verdict"] = verdict(report, max_p99_ms=max_p99_ms, max_errors=max_errors)
    if plot is not None:
        from eguard.simulate.load.plot import draw

        draw(report, plot)
    if as_json:
        print_json(report)
    else:
        _print(report)
    if not report["verdict"]["passed"]:
        raise typer.Exit(1)


def _remote(server: str, ca: Path | None, token_file: Path | None) -> RemoteServer | None:
    from eguard.errors import ConfigError
    from eguard.simulate.load import RemoteServer

    if not server:
        return None
    if ca is None or token_file is None:
        raise ConfigError(
            "a server that runs is spoken to with the authority's file and an enrolment token",
            remedy="Give --ca ca.pem and --token-file FILE; make the token: eguard server token create --help",
        )
    try:
        return RemoteServer(server, ca, token_file.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token cannot be read: {error}", remedy="Name a readable --token-file.") from error


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """End as on an interrupt when the process is told to end: the server that was started has to end too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TOLD_TO_END))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _watching() -> Iterator[Callable[[Second], None]]:
    """Yield what shows each second on standard error: one line that changes, or one every so often in a file."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        due = 0.0

        def write(second: Second) -> None:
            nonlocal due
            if second.at_seconds >= due:
                due = second.at_seconds + _EVERY_SECONDS
                console.print(_line(second), highlight=False, soft_wrap=True)

        yield write
        return
    live: Live | None = None

    def show(second: Second) -> None:
        nonlocal live
        if live is None:  # not before the preparation's bars are done
            live = Live(console=console, auto_refresh=False, transient=True)
            live.start()
        live.update(Text(_line(second)), refresh=True)

    try:
        yield show
    finally:
        if live is not None:
            live.stop()


def _line(second: Second) -> str:
    p99 = "-" if second.upload_p99_ms is None else f"{second.upload_p99_ms:.0f} ms"
    memory = "" if second.server_mib is None else f"  server {second.server_mib:.0f} MiB"
    return (
        f"{second.at_seconds:6.0f} s  {second.phase:<5}  connected {second.connected:,}  waiting {second.waiting:,}  "
        f"uploads/s {second.uploads:,}  p99 {p99}  failed {second.failures_so_far:,}{memory}"
    )


def _print(report: dict[str, Any]) -> None:
    columns = ("operation", "answers", "p50 ms", "p95 ms", "p99 ms", "longest ms")
    rows = [
        (f"{phase}: {name}", f"{found['count']:,}", *(_ms(found[f"{key}_ms"]) for key in ("p50", "p95", "p99", "max")))
        for phase, operations in report["operations_by_phase"].items()
        for name, found in operations.items()
    ]
    print_table("how long answers took", columns, rows)
    print_table("scale", ("figure", "measured"), report["verdict"]["scale"])
    if report["failures"]:
        failed = [
            (f"{each['phase']}: {each['operation']}", each["kind"], f"{each['count']:,}") for each in report["failures"]
        ]
        print_table("what failed", ("operation", "how", "times"), failed)
    print_facts({"verdict": "; ".join(report["verdict"]["misses"]) or "every bound held"})


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
