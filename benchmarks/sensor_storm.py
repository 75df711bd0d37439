"""A storm of forks and executions under each sensor: events lost, share of a core, and how late events are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from eguard.errors import SensorUnavailableError
from eguard.events import EventBatch, EventClass
from eguard.sensor import open_sensor

EXECUTIONS = 20_000
TARGET_CPU_FRACTION = 1.0
#: Starts programs as fast as one thread can; two of it run at once.
PROGRAM = """
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
extern char **environ;
int main(int count, char **arguments) {
    char *child[] = {arguments[2], 0};
    for (int left = atoi(arguments[1]); left > 0; left--) {
        pid_t pid;
        if (!posix_spawn(&pid, arguments[2], 0, 0, child, environ)) waitpid(pid, 0, 0);
    }
    return 0;
}
"""
NOTHING = "int main(void) { return 0; }"


def run() -> list[dict[str, Any]]:
    """Return losses, CPU share and lag of every sensor that works here; none without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return []
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        storm, nothing = Path(name, "storm"), Path(name, "nothing")
        for path, text in ((storm, PROGRAM), (nothing, NOTHING)):
            flags = ["-static"] if path == nothing else []
            subprocess.run([compiler, "-O1", *flags, "-x", "c", "-", "-o", str(path)], input=text.encode(), check=True)
        alone = _storm(storm, nothing)
        rows.append(_row("fork storm: rate without a sensor", EXECUTIONS / alone, "execs/s"))
        for sensor in ("ebpf", "proc_connector"):
            try:
                rows += _measure(sensor, storm, nothing)
                if sensor == "ebpf":
                    rows += _drain(storm, nothing)
            except SensorUnavailableError as refused:
                print(f"{sensor}: {refused.message}", file=sys.stderr)
    return rows


def _start(storm: Path, nothing: Path) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen([storm, str(EXECUTIONS // 2), nothing]) for _ in range(2)]


def _storm(storm: Path, nothing: Path) -> float:
    started = time.perf_counter()
    for process in _start(storm, nothing):
        process.wait()
    return time.perf_counter() - started


def _measure(name: str, storm: Path, nothing: Path) -> list[dict[str, Any]]:
    sensor = open_sensor(name)
    seen = 0
    sensor.counters.lag.read()
    try:
        cpu, started = _cpu_seconds(), time.perf_counter()
        workers = _start(storm, nothing)
        ended = None
        while ended is None or time.perf_counter() < ended + 1.0:
            batch = sensor.poll(0.05)
            seen += _executions(batch, workers)
            if ended is None and all(worker.poll() is not None for worker in workers):
                ended = time.perf_counter()
        elapsed = ended - started
        used = _cpu_seconds() - cpu
    finally:
        sensor.close()
    lost = int(sensor.counters.lost.sum())
    lag = sensor.counters.lag.read()
    return [
        _row(f"fork storm under {name}: rate", EXECUTIONS / elapsed, "execs/s"),
        _row(f"fork storm under {name}: executions not reported", EXECUTIONS - seen, "events", 0.0),
        _row(f"fork storm under {name}: events counted as lost", lost, "events"),
        _row(f"fork storm under {name}: without a name", sensor.counters.unresolved, "events"),
        _row(f"fork storm under {name}: share of a core", used / elapsed, "cores", TARGET_CPU_FRACTION),
        _row(f"fork storm under {name}: mean lag", lag.mean_seconds, "s"),
        _row(f"fork storm under {name}: largest lag", lag.max_seconds, "s"),
    ]


def _drain(storm: Path, nothing: Path) -> list[dict[str, Any]]:
    """Let the storm pass unread, then take it in: how many executions in a second the reader is good for.

    Two cores do not reach the 10,000 executions a second that it should bear; the ring remembers them instead.
    """
    sensor = open_sensor("ebpf")
    seen = 0
    try:
        workers = _start(storm, nothing)
        for worker in workers:
            worker.wait()
        cpu = _cpu_seconds()
        while len(batch := sensor.poll(0.0)):
            seen += _executions(batch, workers)
        used = _cpu_seconds() - cpu
    finally:
        sensor.close()
    return [
        _row("fork storm read afterwards: executions not reported", EXECUTIONS - seen, "events", 0.0),
        _row(
            "fork storm read afterwards: cores at 10,000 execs/s",
            used / EXECUTIONS * 10_000,
            "cores",
            TARGET_CPU_FRACTION,
        ),
    ]


def _executions(batch: EventBatch, workers: list[subprocess.Popen[bytes]]) -> int:
    """Return how many of the events are executions by the storm."""
    is_ours = np.isin(batch.parent_pid, [worker.pid for worker in workers])
    return int((is_ours & (batch.event_class == EventClass.PROCESS_EXEC)).sum())


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _row(name: str, value: float, unit: str, target: float | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "ours": float(value),
        "peer": None,
        "unit": unit,
        "ratio": None,
        "target_ratio": None,
        "target": target,
        "lower_is_better": target is not None,
    }


if __name__ == "__main__":
    for row in run():
        print(row["name"], row["ours"], row["unit"])
