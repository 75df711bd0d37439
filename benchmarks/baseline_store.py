"""The baseline store: bytes written beside a full snapshot at every write, and how long loading takes.

500 keys whose activity falls off as 1/rank, as process names do: three hours of eight events a second, written once a
second. The peer writes a whole snapshot at each of the same moments, which loses as little in a crash. Ours counts
journal and snapshots together. Loading opens a folder as an agent does at its start, journal and repair included.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from eguard.baseline.folder_files import FolderFiles
from eguard.baseline.recovery import recover
from eguard.baseline.store import BaselineStore
from eguard.clock import SimulatedClock

N_KEYS = 500
SECONDS = 3 * 3600
EVENTS_PER_SECOND = 8
#: One sensor batch a second: most keys change in every write.
BUSY_SECONDS, BUSY_EVENTS_PER_SECOND = 300, 4000
TARGET_FRACTION_SAVED = 0.60
TARGET_LOAD_SECONDS = {500: 0.050, 10_000: 0.500}
REPEATS = 3


class CountingFiles(FolderFiles):
    """The real folder, counting the bytes written to it."""

    written_bytes = 0

    def write(self, handle: int, data: bytes) -> None:
        """Write all of `data`."""
        self.written_bytes += len(data)
        super().write(handle, data)


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        saved, ours, full = bytes_written(Path(folder) / "steady", SECONDS, EVENTS_PER_SECOND)
        busy_saved, _, _ = bytes_written(Path(folder) / "busy", BUSY_SECONDS, BUSY_EVENTS_PER_SECOND)
        rows = [
            {
                "name": f"baseline store, {N_KEYS} keys: bytes a second, journal and snapshots beside full snapshots",
                "ours": ours / SECONDS,
                "peer": full / SECONDS,
                "unit": "bytes/s",
                "ratio": full / ours,
                "target_ratio": 1 / (1 - TARGET_FRACTION_SAVED),
            },
            {"name": "the same: share of bytes saved", "ours": 100 * saved, "unit": "%", "target": 60},
            {
                "name": f"the same, {BUSY_EVENTS_PER_SECOND:,} events a second",
                "ours": 100 * busy_saved,
                "unit": "%",
            },
        ]
        for n_keys, target in TARGET_LOAD_SECONDS.items():
            seconds = load_seconds(Path(folder) / f"load-{n_keys}", n_keys)
            for name, measured in seconds.items():
                rows.append(
                    {
                        "name": f"load {n_keys:,} keys, {name}",
                        "ours": 1e3 * measured,
                        "unit": "ms",
                        "target": 1e3 * target,
                        "lower_is_better": True,
                    }
                )
    return rows


def bytes_written(folder: Path, n_seconds: int, n_events: int) -> tuple[float, int, int]:
    """Return the share saved, our bytes, and those of full snapshots."""
    rng = np.random.default_rng(7)
    weights = 1 / np.arange(1, N_KEYS + 1)
    keys = [(f"process-{number}", "systemd" if number % 2 else "bash") for number in range(N_KEYS)]
    files, clock = CountingFiles(folder, exclusive=True), SimulatedClock(0.0)
    store = BaselineStore(files, clock=clock)
    learn_all(store, keys, rng)
    store.compact()
    snapshot_bytes = (folder / "baselines.bin").stat().st_size
    files.written_bytes = 0
    writes = 0
    for second in range(n_seconds):
        chosen = rng.choice(N_KEYS, n_events, p=weights / weights.sum())
        times = 1e9 + second + np.sort(rng.random(n_events))
        payload = rng.integers(0, 2, n_events) * 1500
        store.learn([keys[number] for number in chosen], rng.integers(0, 4, n_events), times, payload)
        clock.advance_to(second + 1.0)
        store.tick()
        writes += 1
    store.close()
    full = writes * snapshot_bytes
    return 1 - files.written_bytes / full, files.written_bytes, full


def learn_all(store: BaselineStore, keys: list[tuple[str, str]], rng: np.random.Generator) -> None:
    for turn in range(4):
        count = len(keys)
        times = 1e9 - 1e4 + 1e3 * turn + np.sort(rng.uniform(0, 1e3, count))
        store.learn(keys, rng.integers(0, 8, count), times, rng.integers(1, 1500, count))


def load_seconds(folder: Path, n_keys: int) -> dict[str, float]:
    """Return how long reading takes, and opening for writing: without and with a journal."""
    rng = np.random.default_rng(3)
    keys = [(f"process-{number}", "systemd") for number in range(n_keys)]
    capacity = max(4096, 1 << (n_keys - 1).bit_length())
    with BaselineStore.open(folder, capacity) as store:
        learn_all(store, keys, rng)
        store.seed({key: np.full(8, 0.125) for key in keys}, generation=1)
        store.compact()
    result = {"snapshot alone": min(_open_seconds(folder, capacity) for _ in range(REPEATS))}
    for _ in range(REPEATS):
        with BaselineStore.open(folder, capacity) as store:
            learn_all(store, keys, rng)
            learn_all(store, keys, rng)
        files = FolderFiles(folder, exclusive=False)
        started = time.perf_counter()
        recover(files, capacity)
        read = time.perf_counter() - started
        files.release()
        result["snapshot and journal, reading"] = min(read, result.get("snapshot and journal, reading", read))
        opened = _open_seconds(folder, capacity)
        name = "snapshot and journal, new generation included"
        result[name] = min(opened, result.get(name, opened))
    return result


def _open_seconds(folder: Path, capacity: int) -> float:
    started = time.perf_counter()
    store = BaselineStore.open(folder, capacity)
    elapsed = time.perf_counter() - started
    store.close()
    return elapsed


if __name__ == "__main__":
    for measured in run():
        print(measured)
