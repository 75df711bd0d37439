"""The agent as a process of its own: seconds to its first look at the machine, memory, and what it costs when idle.

Other work on the machine makes events and is not idle: run this on a quiet one. The bundle is that of the working tree,
where there is one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from eguard.sensor import survey

COMMAND = [sys.executable, "-c", "from eguard.cli.app import main; main()", "agent", "run", "--json"]
#: Targets of the start in seconds, by sensor; of the idle share of a core.
START_SECONDS = {"psutil": 2.0, "ebpf": 5.0}
IDLE_FRACTION = 0.01
#: After the start, so long until the idle share is read: two writings of the status.
SETTLED_SECONDS = 12.0
IDLE_SECONDS = 20.0


def run() -> list[dict[str, Any]]:
    """Measure an agent under each sensor that works here."""
    working = {each.name for each in survey() if each.works}
    rows: list[dict[str, Any]] = []
    for sensor, target in START_SECONDS.items():
        if sensor in working:
            rows += _measure(sensor, target)
    return rows


def _measure(sensor: str, target_seconds: float) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        status = Path(name, "status.json")
        # The first start tries a new bundle out in a child; every later one finds it kept.
        _, process = _start(sensor, status)
        _end(process)
        seconds, process = _start(sensor, status)
        try:
            time.sleep(SETTLED_SECONDS)
            begin, began = _cpu_seconds(process.pid), time.monotonic()
            time.sleep(IDLE_SECONDS)
            idle = (_cpu_seconds(process.pid) - begin) / (time.monotonic() - began)
            resident = json.loads(status.read_bytes())["rss_bytes"]
        finally:
            _end(process)
    return [
        _row(f"agent with {sensor}: start", seconds, "s", target_seconds),
        _row(f"agent with {sensor}: idle share of a core", 100.0 * idle, "%", 100.0 * IDLE_FRACTION),
        _row(f"agent with {sensor}: resident memory", resident / 2**20, "MiB"),
    ]


def _start(sensor: str, status: Path) -> tuple[float, subprocess.Popen[bytes]]:
    """Start an agent and return how long it took until it watched."""
    status.unlink(missing_ok=True)
    begin = time.monotonic()
    process = subprocess.Popen(
        [*COMMAND, "--source", sensor, "--state", str(status.parent)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not status.exists():
        if process.poll() is not None:
            raise RuntimeError(f"the agent ended with {process.returncode}")
        time.sleep(0.01)
    return time.monotonic() - begin, process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(20)


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _row(name: str, value: float, unit: str, target: float | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "ours": value,
        "peer": None,
        "unit": unit,
        "ratio": None,
        "target_ratio": None,
        "target": target,
        "lower_is_better": True,
    }


if __name__ == "__main__":
    for row in run():
        print(row["name"], row["ours"], row["unit"])
