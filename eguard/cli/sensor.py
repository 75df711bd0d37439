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
    class, and the lag, mean and largest, from the kernel's stamp to the hand-over. Logs go to standard error.
    Such a recording can be replayed: its format is `eguard-events`.

    Examples: `sudo eguard sensor watch --duration 10`; `eguard sensor watch --sensor replay --file events.csv.gz`;
    `sudo eguard sensor watch --json > day.jsonl`.
    """
    from eguard.events.parsers.recorded_events import encode_event
    from eguard.sensor import open_sensor

    watched = open_sensor(sensor, replay_path=file, require_ebpf=require_ebpf)
    until = None if duration_seconds is None else time.monotonic() + duration_seconds
    try:
        while not watched.is_exhausted and (until is None or time.monotonic() < until):
            left = _POLL_SECONDS if until is None else min(_POLL_SECONDS, max(until - time.monotonic(), 0.0))
            for event in watched.poll(left).rows():
                typer.echo(encode_event(event) if as_json else _text_line(event))
            sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    finally:
        watched.close()
    counters = watched.counters.to_dict()
    if as_json:
        typer.echo(json.dumps({"counters": counters, "sensor": watched.name}, sort_keys=True))
        return
    for name in ("received", "lost", "sampled"):
        typer.echo(f"{watched.name}: {name} {_counts(counters[name])}")
    typer.echo(f"{watched.name}: without a name {counters['unresolved']}")
    lag = counters["lag"]
    typer.echo(f"{watched.name}: lag mean {lag['mean_seconds']:.3f} s, largest {lag['max_seconds']:.3f} s")


def _counts(by_class: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in by_class.items()) or "none"


def _text_line(event: Any) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(event.time_unix))
    what = event.target or event.command_line or event.image_path
    if event.destination_address:
        what = f"{what} {event.destination_address} port {event.destination_port}".strip()
    return printable(f"{when} {event.event_type:<16} {event.pid:>7} {event.comm} < {event.parent_comm}  {what}")


@app.command()
def record(
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="The recording to write; an earlier one is replaced.")],
    sensor: Annotated[
        str, typer.Option("--sensor", "-s", help="auto, ebpf, proc_connector, psutil or replay.")
    ] = "auto",
    duration_seconds: Annotated[
        float | None, typer.Option("--duration", "-d", help="Seconds to record; until Ctrl-C if not given.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="The log that replay reads.")] = None,
    require_ebpf: Annotated[
        bool, typer.Option("--require-ebpf", help="Refuse to start with a lesser sensor than ebpf.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Record what happens on this machine, in a compact file that replays several times faster than lines of JSON.

    A crash costs at most the last batch. With `--sensor replay` a log of any format becomes a recording.

    Examples: `sudo eguard sensor record --out day.egrec --duration 3600`;
    `eguard sensor record --sensor replay --file events.csv.gz --out events.egrec`;
    `eguard agent run --source replay --file day.egrec --state replayed`.
    """
    from eguard.sensor import open_sensor
    from eguard.sensor.compact_recording import CompactWriter

    watched = open_sensor(sensor, replay_path=file, require_ebpf=require_ebpf)
    until = None if duration_seconds is None else time.monotonic() + duration_seconds
    try:
        with CompactWriter(out) as writer:
            while not watched.is_exhausted and (until is None or time.monotonic() < until):
                left = _POLL_SECONDS if until is None else min(_POLL_SECONDS, max(until - time.monotonic(), 0.0))
                writer.write(watched.poll(left))
    except KeyboardInterrupt:
        pass
    finally:
        watched.close()
    answer = {"events": writer.events_total, "bytes": out.stat().st_size, "counters": watched.counters.to_dict()}
    if as_json:
        print_json({"sensor": watched.name, "out": str(out), **answer})
    else:
        typer.echo(f"{out}: {answer['events']:,} events, {answer['bytes']:,} bytes; {answer['counters']}")


@app.command()
def parity(
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write the record to.")],
    sensor: Annotated[
        list[str] | None, typer.Option("--sensor", "-s", help="Sensor to measure; several times for several.")
    ] = None,
    execs: Annotated[int, typer.Option("--execs", min=0, help="Programs to execute.")] = 1000,
    connects: Annotated[int, typer.Option("--connects", min=0, help="TCP connections, half of them IPv6.")] = 300,
    writes: Annotated[int, typer.Option("--writes", min=0, help="Files to write.")] = 300,
    queries: Annotated[int, typer.Option("--queries", min=0, help="DNS queries to send.")] = 200,
    datagrams: Annotated[int, typer.Option("--datagrams", min=0, help="UDP datagrams, half of them IPv6.")] = 200,
    per_second: Annotated[float, typer.Option("--rate", min=1, help="How many of these in a second.")] = 200.0,
    keys: Annotated[
        Path | None, typer.Option("--keys", "-k", help="Folder of signing keys; the release key signs the record.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how much each sensor sees of things that surely happen, and keep the record.

    A script executes programs (some with hostile names), connects and accepts, sends datagrams, writes files and asks
    for names, all on this machine. Recall is the share that a sensor reported; key accuracy is the share of those
    under the right process and parent names. Needs root. With `--keys` the record carries an Ed25519 signature over
    its canonical JSON.

    Example: `sudo eguard sensor parity --out parity.json --keys keys`.
    """
    from eguard.sensor.ground_truth import Settings
    from eguard.sensor.parity import measure_parity
    from eguard.sensor.selection import LIVE_SENSORS
    from eguard.wire import canonical_json

    signer = None
    if keys is not None:
        from eguard.bundle.keys import load_keys

        signer = load_keys(keys)["targets"][0]
    settings = Settings(
        execs=execs,
        connects=connects,
        writes=writes,
        queries=queries,
        datagrams=datagrams,
        per_second=per_second,
    )
    record = measure_parity(sensor or list(LIVE_SENSORS), settings)
    document: dict[str, Any] = {"record": record}
    if signer is not None:
        document["signature"] = signer.sign(canonical_json(record)).to_dict()
        document["public_key"] = signer.public_key.to_dict()
    out.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", "utf-8")
    if as_json:
        print_json(document)
        return
    rows = [
        (name, event_class, each["done"], each["seen"], _share(each["recall"]), _share(each["key_accuracy"]))
        for name, result in record["sensors"].items()
        for event_class, each in result.get("classes", {}).items()
    ]
    print_table("parity", ("sensor", "what", "done", "seen", "recall", "key accuracy"), rows)
    for name, result in record["sensors"].items():
        typer.echo(f"{name}: {result['counters'] if result['works'] else result['reason']}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
