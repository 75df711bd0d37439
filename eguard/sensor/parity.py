"""The parity record: of what surely happened, how much each sensor saw, and whether it knew whose it was."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from eguard.errors import SensorUnavailableError
from eguard.events import Event, EventClass
from eguard.sensor.ground_truth import Deed, Settings
from eguard.sensor.selection import open_sensor

RECORD_VERSION: Final = 2
_QUIET_SECONDS: Final = 1.5
_CLASSES: Final = (
    EventClass.PROCESS_EXEC,
    EventClass.NETWORK_CONNECT,
    EventClass.FILE_OPEN,
    EventClass.DNS_QUERY,
)
#: Event types that are judged by themselves: datagrams, of the class of connections, and what no class counts.
_TYPES: Final = ("udp_connect", "tcp_accept")


def measure_parity(names: Iterable[str], settings: Settings) -> dict[str, Any]:
    """Run the scripted ground truth under each sensor in turn.

    Parameters
    ----------
    names : iterable of str
        Live sensors. One that does not work here is recorded with its reason.
    settings : Settings
        How much of everything to do.

    Returns
    -------
    dict
        The record: machine, settings, and by sensor and kind the number of things done, how many of them were seen,
        the recall, and the share of those seen whose process key was right.
    """
    return {
        "version": RECORD_VERSION,
        "time_unix": int(time.time()),
        "machine": {"kernel": platform.release(), "processor": platform.machine(), "cores": os.cpu_count() or 0},
        "settings": msgspec.to_builtins(settings),
        "sensors": {name: _measure(name, settings) for name in names},
    }


def _measure(name: str, settings: Settings) -> dict[str, Any]:
    try:
        sensor = open_sensor(name)
    except SensorUnavailableError as refused:
        return {"works": False, "reason": refused.message}
    try:
        with tempfile.TemporaryFile() as output:
            worker = subprocess.Popen(  # noqa: S603 - this interpreter and this package
                [sys.executable, "-m", "eguard.sensor.ground_truth", msgspec.json.encode(settings).decode()],
                stdout=output,
            )
            events: list[Event] = []
            until = None
            while until is None or time.monotonic() < until:
                events += sensor.poll(0.1).rows()
                if until is None and worker.poll() is not None:
                    until = time.monotonic() + _QUIET_SECONDS
            if worker.returncode:
                raise SensorUnavailableError(
                    "the scripted ground truth failed on this machine",
                    remedy="It needs root, for port 53 of a loopback address, and IPv6 on loopback.",
                )
            output.seek(0)
            deeds = msgspec.json.decode(output.read(), type=list[Deed])
    finally:
        sensor.close()
    return {"works": True, "classes": compare(deeds, events), "counters": sensor.counters.to_dict()}


def compare(deeds: Iterable[Deed], events: Iterable[Event]) -> dict[str, dict[str, float | int | None]]:
    """Match what was done with what was seen, one event for each deed at most.

    Examples
    --------
    >>> done = [Deed("process_exec", "7", "ls", "sh"), Deed("process_exec", "8", "ls", "sh")]
    >>> seen = [Event(time_unix=0.0, host_id="", event_class=0, pid=7, comm="ls", parent_comm="make")]
    >>> compare(done, seen)["process_exec"]
    {'done': 2, 'seen': 1, 'recall': 0.5, 'key_accuracy': 0.0}
    """
    found: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        if event.event_type in _TYPES:
            found[event.event_type, _identity(event)].append(event)
        elif event.event_class in _CLASSES:
            found[EventClass(event.event_class).name.lower(), _identity(event)].append(event)
    totals = {name: [0, 0, 0] for name in (*(each.name.lower() for each in _CLASSES), *_TYPES)}
    for deed in deeds:
        total = totals[deed.kind]
        total[0] += 1
        matches = found.get((deed.kind, deed.identity))
        if matches:
            event = matches.pop(0)
            total[1] += 1
            total[2] += (event.comm, event.parent_comm) == (deed.comm, deed.parent_comm)
    return {
        name: {
            "done": done,
            "seen": seen,
            "recall": seen / done if done else None,
            "key_accuracy": right / seen if seen else None,
        }
        for name, (done, seen, right) in totals.items()
    }


def _identity(event: Event) -> str:
    if event.event_class == EventClass.PROCESS_EXEC:
        return str(event.pid)
    if event.event_class == EventClass.NETWORK_CONNECT or event.event_type in _TYPES:
        return f"{event.destination_address} {event.destination_port}"
    # Whose it was is what the key's accuracy says; here it only has to be the same thing.
    return event.target
