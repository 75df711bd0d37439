"""`eguard sensor`: what this machine can watch, a look at it, and the record of how much it sees."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from eguard.cli.output import print_json, print_table, printable

app = typer.Typer(
    help="What happens on this machine: which sensors work here, and what they see.",
    no_args_is_help=True,
)


@app.callback()
def group() -> None:
    """Show what happens on this machine: which sensors work here, and what they see."""


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_POLL_SECONDS: Final = 0.25


@app.command("list")
def list_sensors(*, as_json: JsonOption = False) -> None:
    """Say which sensors work on this machine, what each sees, and what the others need.

    Every sensor is opened and closed again, so the answer is that of a start. Run it as the user who will run the
    agent: most sensors need root.
    """
    from eguard.sensor import survey

    found = survey()
    if as_json:
        print_json({"sensors": [each.to_dict() for each in found]})
        return
    rows = [
        (each.name, "yes" if each.works else "no", ", ".join(each.to_dict()["classes"]) or each.reason, each.remedy)
        for each in found
    ]
    print_table("sensors, best first", ("sensor", "works", "sees, or why not", "remedy"), rows)


@app.command()
def watch(
    *,
    sensor: Annotated[
        str, typer.Option("--sensor", "-s", help="auto, ebpf, proc_connector, psutil or replay.")
    ] = "auto",
    duration_seconds: Annotated[
        float | None, typer.Option("--duration", "-d", help="Seconds to watch; until Ctrl-C if not given.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="The log that replay reads.")] = None,
    require_ebpf: Annotated[
        bool, typer.Option("--require-ebpf", help="Refuse to start with a lesser sensor than ebpf.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what happens on this machine, one line an event, and the counts at the end.

    With `--json` every line is one JSON document; the last one holds `counters`: events received, lost and sampled by
    class. Logs go to standard error.

    Examples: `sudo eguard sensor watch --duration 10`; `eguard sensor watch --sensor replay --file events.csv.gz`.
    """
    from eguard.sensor import open_sensor

    watched = open_sensor(sensor, replay_path=file, require_ebpf=require_ebpf)
    until = None if duration_seconds is None else time.monotonic() + duration_seconds
    try:
        while not watched.is_exhausted and (until is None or time.monotonic() < until):
            left = _POLL_SECONDS if until is None else min(_POLL_SECONDS, max(until - time.monotonic(), 0.0))
            for event in watched.poll(left).rows():
                typer.echo(_json_line(event) if as_json else _text_line(event))
            sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    finally:
        watched.close()
    counters = {"counters": watched.counters.to_dict(), "sensor": watched.name}
    typer.echo(json.dumps(counters, sort_keys=True) if as_json else f"{watched.name}: {counters['counters']}")


def _json_line(event: Any) -> str:
    """Return the event's fields that say something; its class by name. Text is escaped to ASCII."""
    from eguard.events import UNCOUNTED, EventClass

    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    said = {name: value for name, value in fields.items() if value or name == "time_unix"}
    said["event_class"] = "uncounted" if event.event_class == UNCOUNTED else EventClass(event.event_class).name.lower()
    return json.dumps(said, sort_keys=True)


def _text_line(event: Any) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(event.time_unix))
    what = event.target or event.command_line or event.image_path
    if event.destination_address:
        what = f"{what} {event.destination_address} port {event.destination_port}".strip()
    return printable(f"{when} {event.event_type:<16} {event.pid:>7} {event.comm} < {event.parent_comm}  {what}")
