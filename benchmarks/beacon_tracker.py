"""The streaming beacon tracker: a million connections to 5,000 destinations, and what a full destination weighs.

Five thousand destinations do not fit one tracker, which keeps 1,024. So the rate is measured twice: over ten hosts with
500 destinations each, where nobody is forgotten, and on a single host, where four connections in five evict somebody.
A third figure adds the judging of every destination on its schedule, with nothing common in the fleet: the most that
scoring can cost. Keys are (process, address, port), in batches as a sensor hands them over; processor time of one
thread, the best of three rounds. The peer of the first figure is the plain way to keep the same: an ordered dictionary
of deques.
"""

from __future__ import annotations

import time
import tracemalloc
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.detection.beacon_judge import BeaconJudge
from eguard.detection.beacon_rings import Sightings
from eguard.detection.beacons import MAX_DESTINATIONS, BeaconTracker
from eguard.detection.contacts import Destination
from eguard.detection.fleet_context import FleetContext

CONNECTIONS = 1_000_000
DESTINATIONS = 5_000
HOSTS = 10
BATCH = 4096
SEED = 20260301
ROUNDS = 3
TARGET_RATE = 1_000_000
TARGET_KIBIBYTES = 2_560
CALIBRATION = BeaconCalibration(0.65, 0.01, 140, insufficient_calibration=False)
FLEET = FleetContext(n_connecting_hosts=200)

Host = list[tuple[list[Destination], np.ndarray, np.ndarray]]


def run() -> list[dict[str, Any]]:
    """Return rates in connections a second, and memory."""
    ten, one = hosts(HOSTS), hosts(1)
    spread = _rate(ten, _track)
    return [
        _row("beacon tracker, 5,000 destinations of 10 hosts / dictionary of deques", spread, _rate(ten, _deques)),
        _row("beacon tracker, 5,000 destinations of 10 hosts", spread) | {"target": TARGET_RATE},
        _row("beacon tracker, 5,000 destinations of 1 host, evicting", _rate(one, _track)) | {"target": TARGET_RATE},
        _row("beacon tracker, 10 hosts, every destination judged", _rate(ten, _track_and_judge)),
        {
            "name": "beacon tracker, memory of 1,000 full destinations with their keys",
            "ours": _kibibytes(),
            "peer": None,
            "unit": "KiB",
            "ratio": None,
            "target": TARGET_KIBIBYTES,
            "lower_is_better": True,
        },
    ]


def _row(name: str, ours: float, peer: float | None = None) -> dict[str, Any]:
    ratio = None if peer is None else ours / peer
    return {"name": name, "ours": ours, "peer": peer, "unit": "connections/s", "ratio": ratio, "target_ratio": None}


def hosts(n: int) -> list[Host]:
    """Return the batches of each of `n` hosts; every destination belongs to one of them."""
    rng = np.random.default_rng(SEED)
    whom = rng.integers(0, DESTINATIONS, CONNECTIONS)
    times = 1.7e9 + np.cumsum(rng.exponential(0.05, CONNECTIONS))
    sizes = rng.integers(0, 20_000, CONNECTIONS)
    keys = [(f"process-{i % 40}.exe", f"203.0.{i >> 8}.{i & 255}", 443) for i in range(DESTINATIONS)]
    streams = []
    for host in range(n):
        rows = np.flatnonzero(whom % n == host)
        cuts = [rows[start : start + BATCH] for start in range(0, rows.size, BATCH)]
        streams.append([([keys[code] for code in whom[cut].tolist()], times[cut], sizes[cut]) for cut in cuts])
    return streams


def _rate(streams: list[Host], work: Callable[[Host], object]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for stream in streams:
            work(stream)
        best = min(best, time.process_time() - started)
    return CONNECTIONS / best


def _track(stream: Host) -> BeaconTracker:
    tracker = BeaconTracker()
    for keys, times, sizes in stream:
        tracker.observe(keys, times, sizes)
    return tracker


def _track_and_judge(stream: Host) -> BeaconJudge:
    tracker = BeaconTracker()
    judge = BeaconJudge(tracker.options)
    nobody = np.zeros(0, dtype=np.intp)
    for keys, times, sizes in stream:

        def look(sightings: Sightings, keys: list[Destination] = keys) -> None:
            here = keys[sightings.start : sightings.start + len(sightings)]
            judge.judge(sightings, here, lambda _: False, calibration=CALIBRATION, fleet=FLEET, asked=nobody)

        tracker.observe(keys, times, sizes, look)
    return judge


def _deques(stream: Host) -> OrderedDict[Destination, deque[tuple[float, int]]]:
    rings: OrderedDict[Destination, deque[tuple[float, int]]] = OrderedDict()
    for keys, times, sizes in stream:
        for key, moment, size in zip(keys, times.tolist(), sizes.tolist(), strict=True):
            ring = rings.get(key)
            if ring is None:
                ring = rings[key] = deque(maxlen=256)
                if len(rings) > MAX_DESTINATIONS:
                    rings.popitem(last=False)
            else:
                rings.move_to_end(key)
            if not ring or moment > ring[-1][0]:
                ring.append((moment, size))
    return rings


def _kibibytes() -> float:
    """Measure a tracker whose rings are all full; every key has strings of its own."""
    n = MAX_DESTINATIONS
    tracemalloc.start()
    try:
        tracker = BeaconTracker()
        for beat in range(256):
            keys = [(f"process-{i % 200:03}.exe", f"203.0.{i >> 8}.{i & 255}", 443) for i in range(n)]
            tracker.observe(keys, np.full(n, 60.0 * beat), np.full(n, 310))
            del keys
        return tracemalloc.get_traced_memory()[0] / 1024.0 / n * 1000.0
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    for row in run():
        print(row)
