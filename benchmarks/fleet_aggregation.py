"""The fleet aggregated out of SQLite: 2,000 to 20,000 agents x 500 process keys x 8 classes, by two processes.

It is the operator's command that is measured, from its start to its end, so that the read from the database counts.
Memory is the sum over its processes of their proportional set sizes, sampled while they work: pages that processes
share count once. One database grows from size to size, filled by single statements with rows as uploads leave them. An
incremental run follows changes to 5 of the 500 keys. The peer takes the same rows out of the same file and groups them
in pandas, and computes medians alone: no cohorts, no spread, no continuous features, nothing published.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import psutil

from benchmarks._fleet_database import KEYS, add_agents
from eguard.wire.distribution import CLASS_NAMES

AGENTS: Final = (2_000, 5_000, 10_000, 20_000)
CHANGED_KEYS: Final = KEYS // 100
CHANGED_AGENTS: Final = 50
WORKERS: Final = min(2, os.cpu_count() or 1)
TARGET_SECONDS, TARGET_MIB, TARGET_SHARE, TARGET_EXPONENT = 60.0, 300.0, 0.1, 1.1

SAMPLE_SECONDS: Final = 0.2

_MIB: Final = 1 << 20


def run() -> list[dict[str, Any]]:
    """Return seconds and memory by number of agents, how the time grows, and what an incremental run costs."""
    rows: list[dict[str, Any]] = []
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.sqlite"
        for before, agents in pairwise((0, *AGENTS)):
            add_agents(path, range(before, agents))
            peer = _pandas_seconds(path) if agents == AGENTS[0] else None
            full, mib = _aggregate(path, KEYS, "--full", "--workers", str(WORKERS))
            _change(path)
            changed, _ = _aggregate(path, CHANGED_KEYS)
            seconds.append(full)
            targets = (TARGET_SECONDS, TARGET_MIB, TARGET_SHARE) if agents == AGENTS[-1] else (None, None, None)
            name = f"aggregation, {agents:,} agents x {KEYS} keys"
            rows += [
                _row(name, full, "s", targets[0], peer),
                _row(f"{name}: peak memory", mib, "MiB", targets[1]),
                _row(f"{name}: {CHANGED_KEYS} keys changed / all", changed / full, "share", targets[2]),
            ]
    exponent = float(np.polyfit(np.log(AGENTS), np.log(seconds), 1)[0])
    rows.append(_row("aggregation: seconds grow as agents to the power of", exponent, "", TARGET_EXPONENT))
    return rows


def _aggregate(path: Path, recomputed_keys: int, *arguments: str) -> tuple[float, float]:
    """Run the operator's command and return its seconds and MiB, those of its processes included."""
    main = "import sys; from eguard.cli.app import main; sys.exit(main())"
    url = f"sqlite:///{path}"
    command = [sys.executable, "-c", main, "fleet", "aggregate", "--url", url, "--json", *arguments]
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        process = psutil.Process(running.pid)
        while running.poll() is None:
            peak = max(peak, _proportional_bytes(process))
            time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - started
        answer = running.stdout.read() if running.stdout else b""
    report = json.loads(answer)
    if (report["aggregated"], report["recomputed_keys"]) != (KEYS, recomputed_keys):
        raise RuntimeError(f"not what was to be measured: {report}")
    return seconds, peak / _MIB


def _proportional_bytes(process: psutil.Process) -> int:
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                total += each.memory_full_info().pss
    return total


def _change(path: Path) -> None:
    """Leave what uploads of some agents on some keys leave: other votes, and marks."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        keys = [f"service-{number:03d}:systemd" for number in range(CHANGED_KEYS)]
        for key in keys:
            database.execute(
                "UPDATE endpoint_baseline SET sample_count = sample_count + 1, seq = seq + 1 WHERE process_key = ? "
                "AND agent_id < ?",
                [key, f"agent-{CHANGED_AGENTS:06d}"],
            )
        epoch = database.execute("SELECT value FROM server_counter WHERE name = 'vote_epoch'").fetchone()[0]
        database.executemany("INSERT INTO fleet_changed_key VALUES (?, ?)", [(key, epoch) for key in keys])


def _pandas_seconds(path: Path) -> float:
    started = time.perf_counter()
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        query = "SELECT process_key, distribution_vector FROM endpoint_baseline WHERE sample_count >= 30"
        rows = database.execute(query).fetchall()
    keys, vectors = zip(*rows, strict=True)
    frame = pd.DataFrame(np.frombuffer(b"".join(vectors), dtype="<f4").reshape(-1, len(CLASS_NAMES)).astype(np.float64))
    medians = frame.groupby(np.array(keys)).median()
    medians.div(medians.sum(axis=1), axis=0)
    return time.perf_counter() - started


def _row(name: str, ours: float, unit: str, target: float | None = None, peer: float | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "unit": unit,
        "ratio": None if peer is None else peer / ours,
        "target_ratio": None,
        "target": target,
        "lower_is_better": True,
    }


if __name__ == "__main__":
    for row in run():
        print(row)
