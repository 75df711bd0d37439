"""Reading a recording of `eguard sensor watch --json` into columns. Peer: json.loads and one Event a row."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eguard.events import BATCH_EVENTS, Event, EventBatch, EventClass, batched
from eguard.events.parsers import read_batches
from eguard.events.parsers.recorded_events import encode_event

EVENTS = 40_000
SEED = 20260301
ROUNDS = 7
#: Reading one event may cost this much CPU, so that decoding and detection together stay below 4 microseconds.
TARGET_MICROSECONDS = 1.2
PROGRAMS = ("bash", "python3", "curl", "sshd", "cron", "logrotate", "nginx", "apt-get")


def recorded_day(events: int = EVENTS) -> list[Event]:
    """Return what a server does: two executions, a connection, a query and a file in five events.

    Two of three command lines were seen before, as on a machine that runs timers and a few people.
    """
    rng = random.Random(SEED)
    return [_event(rng, index) for index in range(events)]


def _event(rng: random.Random, index: int) -> Event:
    comm = rng.choice(PROGRAMS)
    job = rng.randrange(40) if rng.random() < 2 / 3 else rng.randrange(10**6)
    said: dict[str, Any] = {
        "time_unix": 1_772_366_400.0 + index * 0.0137,
        "host_id": "web-1",
        "comm": comm,
        "parent_comm": rng.choice(PROGRAMS),
        "source": "ebpf",
        "pid": rng.randrange(300, 60_000),
        "parent_pid": rng.randrange(300, 60_000),
        "user": "root",
        "is_elevated": True,
        "image_path": f"/usr/bin/{comm}",
        "command_line": f"{comm} --quiet --job {job}",
    }
    kinds: tuple[dict[str, Any], ...] = (
        {"event_class": EventClass.PROCESS_EXEC, "event_type": "exec"},
        {
            "event_class": EventClass.NETWORK_CONNECT,
            "event_type": "tcp_connect",
            "destination_address": f"10.0.{rng.randrange(4)}.{rng.randrange(250)}",
            "destination_port": 443,
            "sent_bytes": rng.randrange(4_000),
            "received_bytes": rng.randrange(90_000),
            "duration_seconds": rng.random(),
        },
        {"event_class": EventClass.PROCESS_EXIT, "event_type": "exit"},
        {
            "event_class": EventClass.DNS_QUERY,
            "event_type": "dns_query",
            "target": f"host-{rng.randrange(60)}.example.com",
            "destination_address": "10.0.0.53",
            "destination_port": 53,
            "sent_bytes": 37,
        },
        {"event_class": EventClass.FILE_OPEN, "event_type": "file_write", "target": f"/var/log/{comm}/{job}.log"},
    )
    return Event(**said, **kinds[index % len(kinds)])


def peer_batches(path: Path) -> list[EventBatch]:
    """Read a recording the plain way: no checks, one `Event` a row."""
    codes = {each.name.lower(): each for each in EventClass}
    with path.open("rb") as lines:
        records = map(json.loads, lines)
        events = (Event(**record | {"event_class": codes[record["event_class"]]}) for record in records)
        return list(batched(events))


def run() -> list[dict[str, Any]]:
    """Return events read a second, ours and the peer's on the same file, in turns; and ours against the budget."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "day.jsonl")
        path.write_text("".join(encode_event(event) + "\n" for event in recorded_day()), "ascii")
        bytes_a_row = path.stat().st_size / EVENTS
        ours = peer = float("inf")
        for _ in range(ROUNDS):
            ours = min(ours, _seconds(lambda: sum(map(len, read_batches(path, batch_size=BATCH_EVENTS)))))
            peer = min(peer, _seconds(lambda: peer_batches(path)))
    name = f"recorded events of {bytes_a_row:.0f} bytes into columns"
    shared = {"ours": EVENTS / ours, "unit": "events/s"}
    return [
        shared
        | {"name": f"{name}, all checks (peer: json.loads and an Event a row, no checks)", "peer": EVENTS / peer}
        | {"ratio": peer / ours, "target_ratio": 4.0},
        shared
        | {"name": f"{name}, budget of {TARGET_MICROSECONDS} us an event", "peer": None, "ratio": None}
        | {"target_ratio": None, "target": 1e6 / TARGET_MICROSECONDS},
    ]


def _seconds(call: Callable[[], object]) -> float:
    started = time.thread_time()
    call()
    return time.thread_time() - started


if __name__ == "__main__":
    for row in run():
        print(row["name"], round(row["ours"]), row["unit"], row["ratio"])
