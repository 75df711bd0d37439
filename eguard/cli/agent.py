"""`eguard agent`: watch this machine, learn what is usual, and say what is not."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from eguard.cli.output import print_facts, print_json, printable

if TYPE_CHECKING:
    from eguard.agent.runtime import AgentRuntime
    from eguard.detection.alert import Alert

app = typer.Typer(
    help="The agent: watch this machine, learn what is usual, and say what is not.",
    no_args_is_help=True,
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file of settings.", envvar="EGUARD_CONFIG")
]
StateOption = Annotated[
    Path | None, typer.Option("--state", help="Folder of all that the agent keeps, for EGUARD_STATE_PATH.")
]
_STOPPED: Final = 130


@app.callback()
def group() -> None:
    """Watch this machine, learn what is usual, and say what is not."""


@app.command()
def run(
    *,
    source: Annotated[
        str | None,
        typer.Option("--source", "-s", help="auto, ebpf, proc_connector, psutil, or replay. For EGUARD_SENSOR."),
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="The recording that replay reads.")] = None,
    host: Annotated[
        str, typer.Option("--host", help="Which host of the recording; the first that occurs if not given.")
    ] = "",
    duration_seconds: Annotated[
        float | None, typer.Option("--duration", "-d", min=0.0, help="Seconds to work; until stopped if not given.")
    ] = None,
    linger_seconds: Annotated[
        float,
        typer.Option("--linger", min=0.0, help="Seconds to stay after the end of a replay, to talk with the server."),
    ] = 0.0,
    require_ebpf: Annotated[
        bool, typer.Option("--require-ebpf", help="Refuse to start with a lesser sensor than ebpf.")
    ] = False,
    allow_unpromoted: Annotated[
        bool,
        typer.Option("--allow-unpromoted", help="Use the classifier of a bundle that missed a quality gate, too."),
    ] = False,
    state: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the agent until it is stopped, in the foreground.

    It watches processes, connections, files and DNS with the best sensor that works here (root sees most), compares
    each process with what it has learned of it, runs the rules of the signed bundle, and prints an alert for what
    stands out, with its reasons. Everything else is learned. No server is needed; an agent that was enrolled
    (`eguard agent enroll`) reports to its own over mutual TLS. Stop it with Ctrl-C or SIGTERM; a crash loses at most a
    second of learning.

    With `--json` standard output has one JSON document a line: alerts as they come, and `summary` at the end. Logs
    go to standard error. All settings: `eguard config show`.

    Examples: `sudo eguard agent run --duration 60 --json`;
    `eguard agent run --source replay --file data/raw/endpoint-events/events.csv.gz --state replayed`.
    """
    from eguard.agent.service import Source, run_agent

    settings = _settings(
        config,
        state_path=state,
        require_ebpf=require_ebpf or None,
        allow_unpromoted=allow_unpromoted or None,
    )
    chosen = Source(source or ("replay" if file is not None else settings.sensor), file, host)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    printer = _Printer(as_json=as_json, stop=stop)
    summary = run_agent(
        settings,
        chosen,
        stop=stop,
        duration_seconds=duration_seconds,
        linger_seconds=linger_seconds,
        show=printer.alert,
        started=printer.started,
    )
    printer.summary(summary)


@app.command()
def enroll(
    *,
    server: Annotated[
        str | None, typer.Option("--server", "-s", help="https://NAME:PORT of the agents' listener. For EGUARD_SERVER.")
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", help="The authority's file, PEM, that you were given with the token. For EGUARD_TLS_CA."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File with the enrolment token; - reads standard input.")
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", help="The token itself; others on this machine may see it while this runs.")
    ] = None,
    agent_id: Annotated[
        str | None, typer.Option("--agent-id", help="Name of this endpoint in the fleet. For EGUARD_AGENT_ID.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an enrolment that is still valid.")] = False,
    state: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enrol this machine with a server: exchange a token for a certificate.

    The private key is made here and never leaves this machine. What the server answers (certificate, authority, policy
    keys, the bundle repository's root) is kept in the state folder, and `eguard agent run` uses it from then on. Repeat
    the command at any time: an enrolment that is valid stays as it is, and the token is not used.

    Example: `sudo eguard agent enroll --server https://eguard.example:8443 --ca ca.pem --token-file token`.
    """
    from eguard.agent.control.enrol import enrol
    from eguard.agent.control.state_incarnation import incarnation_of
    from eguard.errors import ConfigError

    settings = _settings(config, state_path=state, agent_id=agent_id, server=server, tls_ca=ca)
    if not settings.server or settings.tls_ca is None:
        raise ConfigError(
            "the server or its authority is not given",
            remedy="eguard agent enroll --server https://NAME:PORT --ca FILE --token-file FILE",
        )
    enrolment, is_new = enrol(
        settings.tls_folder,
        settings.server,
        settings.tls_ca,
        lambda: _read_token(token, token_file),
        agent_id=settings.agent_id,
        incarnation=lambda: incarnation_of(settings),
        force=force,
    )
    answer = {
        "agent_id": enrolment.agent_id,
        "server": enrolment.server,
        "enrolled": "now" if is_new else "before",
        "folder": str(settings.tls_folder),
    }
    print_json(answer) if as_json else print_facts(answer)


def _read_token(token: str | None, token_file: Path | None) -> str:
    """Return the enrolment token from where it was given."""
    from eguard.errors import ConfigError

    if (token is None) == (token_file is None):
        raise ConfigError("an enrolment takes one token", remedy="Give --token-file FILE, or --token TOKEN.")
    if token_file is None:
        return (token or "").strip()
    text = sys.stdin.read(4096) if str(token_file) == "-" else token_file.read_text("utf-8")[:4096]
    return text.strip()


@app.command()
def status(*, state: StateOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say how the agent on this machine stands: sensor, events, baseline, bundle, alerts waiting.

    The exit code is 1 when no agent runs here now, or when it runs and something of it does not work.
    """
    from eguard.agent.status_file import read_status

    settings = _settings(config, state_path=state)
    found = read_status(settings.state_path)
    if as_json:
        print_json(found)
    else:
        print_facts(_overview(found))
    is_well = found["state"] == "running" and found["sensor"]["is_working"] and found["baseline"]["is_working"]
    if not is_well:
        raise typer.Exit(1)


@app.command()
def mode(
    wanted: Annotated[str, typer.Argument(metavar="MODE", help="learning, force_active or skip_learning.")],
    *,
    state: StateOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move the baseline of an agent that is stopped, as a policy would that of one at work.

    `learning` archives the counts and begins a new learning window; `force_active` ends learning with what is there;
    `skip_learning` makes an empty baseline active at once, on the fleet's seeds alone.
    """
    from eguard.agent.learning import BaselineKeeper
    from eguard.baseline.lifecycle import BaselineMode
    from eguard.clock import SystemClock
    from eguard.errors import ConfigError

    if wanted not in list(BaselineMode):
        raise ConfigError(f"there is no mode {wanted!r}", remedy=f"Choose one of: {', '.join(BaselineMode)}.")
    keeper = BaselineKeeper(_settings(config, state_path=state), SystemClock())
    try:
        # An operator's word is no policy: it must not use up the number of a policy to come.
        keeper.lifecycle.move(BaselineMode(wanted), time.time())
        facts = keeper.store.facts
    finally:
        keeper.close()
    answer = {"status": facts.status.name.lower(), "profiles": len(keeper.table)}
    print_json(answer) if as_json else print_facts(answer)


def _settings(config: Path | None, **given: Any) -> Any:
    """Return the settings, with what the command line gives in the place of the rest."""
    from eguard.settings import load_agent_settings

    return load_agent_settings(config).model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )


class _Printer:
    """Alerts and the summary on standard output; a reader who leaves stops the agent."""

    def __init__(self, *, as_json: bool, stop: threading.Event) -> None:
        self._as_json = as_json
        self._stop = stop

    def started(self, runtime: AgentRuntime) -> None:
        if not self._as_json:
            sensor = runtime.sensing.sensor
            classes = ", ".join(each.name.lower() for each in sorted(sensor.classes))
            typer.echo(f"watching with {sensor.name}: {classes}. Ctrl-C stops.", err=True)

    def alert(self, alert: Alert) -> None:
        self._print(alert.to_json().decode() if self._as_json else alert_line(alert))

    def summary(self, summary: dict[str, Any]) -> None:
        if self._as_json:
            self._print(json.dumps({"summary": summary}, sort_keys=True))
        else:
            print_facts(_overview(summary) | _recording(summary))

    def _print(self, line: str) -> None:
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            self._stop.set()
            # Nothing can be written any more, and nothing must be tried at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def alert_line(alert: Alert) -> str:
    """Return an alert on one line: when, how sure, which process, why."""
    when = time.strftime("%H:%M:%S", time.localtime(alert.observed_at_unix))
    titles = "; ".join(rule.title for rule in alert.rules[:3])
    what = alert.command_line or alert.target
    score = f" score {alert.score:.3f}" if alert.score is not None else ""
    reasons = ", ".join(alert.reasons)
    line = (
        f"{when} {alert.confidence.upper():<9} {alert.process_key}  {reasons}{f' ({titles})' if titles else ''}{score}"
    )
    return printable(f"{line}  {what}"[:400])


def _recording(summary: dict[str, Any]) -> dict[str, str]:
    """Say which host was replayed, and which others could be."""
    recording = summary.get("recording")
    if not recording:
        return {}
    others = sorted(recording["other_hosts"].items(), key=lambda item: -item[1])
    named = ", ".join(f"{printable(name)} ({count:,} events)" for name, count in others[:8])
    facts = {"recording": f"host {printable(recording['host'])}"}
    return facts | (
        {"other hosts": f"{named}{', ...' if len(others) > 8 else ''}; choose with --host"} if others else {}
    )


def _overview(status: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a status that people ask for first."""
    baseline, bundle, sensor = status["baseline"], status["bundle"], status["sensor"]
    buffer = status["buffer"] or {}
    return {
        "agent": f"{printable(status['agent_id'])}, {status['state']}, pid {status['pid']}",
        "sensor": f"{sensor['name']}{'' if sensor['is_working'] else ' (failed)'}: {', '.join(sensor['classes'])}",
        "events": f"{status['events_total']:,} seen, {status['events_lost']:,} lost",
        "alerts": ", ".join(f"{count} {name}" for name, count in status["alerts"].items()) or "none",
        "waiting": f"{buffer.get('waiting', 0):,} alerts for a server, {buffer.get('dropped_total', 0):,} dropped",
        "baseline": (
            f"{baseline['status']}, {baseline['profiles']:,} process keys, "
            f"{baseline['learned_events']:,} events learned, {baseline['held_windows']} windows held"
        ),
        "server": _server(status.get("control")),
        "bundle": f"{(bundle['in_use'] or 'none')[:16]}, classifier {'on' if bundle['classifier_in_use'] else 'off'}",
        "cost": f"{status['cpu_seconds']:.1f} s of CPU in {status['uptime_seconds']:.0f} s, "
        f"{status['rss_bytes'] / 2**20:.0f} MiB",
    }


def _server(control: dict[str, Any] | None) -> str:
    """Return how the agent stands to its server, in one line."""
    if control is None:
        return "none, the agent works alone"
    policy = control["policy"]
    directions = ", ".join(
        f"{name} {'on' if policy[name]['enabled'] else 'off'} ({policy[name]['decided_by']})"
        for name in ("upload", "seed")
    )
    failing = [printable(name) for name, duty in control["duties"].items() if duty["last_error"]]
    state = "connected" if control["connected"] else "not connected"
    return (
        f"{printable(control['server'])}, {state}, policy revision {policy['revision']}, {directions}"
        f"{'; failing: ' + ', '.join(failing) if failing else ''}"
    )
