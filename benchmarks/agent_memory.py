"""Memory of an agent's machine learning, counted by Python itself, and of its process over a simulated day.

The state is that of 500 process keys with forty windows each, after which no key grows any more, the classifier, its
calibration and the drift detectors; then all 1,024 destinations with full rings beside it. Classifier and calibration
have the size of those that ship. The day is 24 hours of events whose process names and destinations never stop
changing, through the whole agent.
"""

from __future__ import annotations

import gc
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine_replay import trained_model
from eguard.agent.buffer import AlertBuffer
from eguard.agent.learning import BaselineKeeper
from eguard.agent.outlets import AlertOutlet
from eguard.agent.runtime import AgentRuntime
from eguard.agent.sensing import Sensing
from eguard.agent.status_file import resident_bytes
from eguard.baseline.profile import ProfileTable
from eguard.clock import SimulatedClock
from eguard.detection.destinations import DestinationHistory
from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions, WindowOptions
from eguard.detection.features import N_FEATURES, contract_sha256
from eguard.detection.gate import POOLED, CalibrationGroup, ConformalGate
from eguard.detection.model import Model, load_model
from eguard.detection.window_batch import KeyedEvents
from eguard.detection.windows import WindowBank
from eguard.events import BATCH_EVENTS, EventBatch, EventClass
from eguard.sensor.counters import SensorCounters
from eguard.settings import AgentSettings

N_KEYS = 500
#: More than the windows from which a key's overdispersion is told, so that every key's ring of them is full.
WINDOWS_A_KEY = 40
#: Turns of all keys in one batch.
TURNS = 16
#: Benign scores by event class, and trees, splits and rules: what the pipeline's calibration and classifier have.
CALIBRATION_SCORES = {"alert": 5000, "module_load": 162, "network_connect": 3890, POOLED: 9831}
N_TREES = 52
N_SPLITS = 49
N_SPLIT_FEATURES = 12
N_RULES = 205
N_DESTINATIONS = 1024
RING = 256
TARGET_STATE_KIB = 2048.0
TARGET_FULL_KIB = 5120.0
EVENTS_A_SECOND = 20
DAY_SECONDS = 86_400
T0 = 1.7e9


def run() -> list[dict[str, Any]]:
    """Return the sizes in KiB, and how much the process grew from the sixth simulated hour to the last."""
    state, full = _traced()
    early, late = _day()
    return [
        _row(f"ML state: {N_KEYS} keys, model, calibration, drift", state, "KiB", TARGET_STATE_KIB),
        _row(f"ML state with {N_DESTINATIONS} full destination rings", full, "KiB", TARGET_FULL_KIB),
        _row("process after 6 simulated hours of churn", early / 2**20, "MiB"),
        _row("process after 24 simulated hours of churn", late / 2**20, "MiB", 1.05 * early / 2**20),
    ]


def _traced() -> tuple[float, float]:
    rng = np.random.default_rng(0)
    tracemalloc.start()
    try:
        begin = tracemalloc.get_traced_memory()[0]
        model = _classifier()
        kept: list[Any] = [model, _calibration(model)]
        profiles = ProfileTable()
        windows = WindowBank(profiles.capacity, WindowOptions())
        keys = [(f"program-{number}", "parent") for number in range(N_KEYS)]
        for turn in range(0, WINDOWS_A_KEY * WindowOptions().window_events, TURNS):
            times = T0 + turn + np.repeat(np.arange(TURNS), N_KEYS)
            slots = profiles.slots_for(keys * TURNS, times)
            classes = rng.choice(4, len(times), p=[0.4, 0.4, 0.1, 0.1]).astype(np.int8)
            sizes = rng.integers(0, 5000, len(times))
            calm = np.zeros(len(times), np.bool_)
            windows.observe(KeyedEvents(slots, classes, times, sizes, calm, calm), profiles)
        del times, slots, classes, sizes, calm, keys
        state = _traced_kib(begin)
        destinations = DestinationHistory()
        addresses = [f"10.0.{number // 256}.{number % 256}" for number in range(N_DESTINATIONS)]
        for turn in range(RING):
            batch = EventBatch(
                time_unix=np.full(N_DESTINATIONS, T0 + 10.0 * turn),
                event_class=np.full(N_DESTINATIONS, EventClass.NETWORK_CONNECT),
                comm=["caller"] * N_DESTINATIONS,
                destination_address=addresses,
                destination_port=np.full(N_DESTINATIONS, 443),
            )
            destinations.observe(batch, np.zeros(N_DESTINATIONS, np.bool_))
        del batch
        kept += [profiles, windows, destinations]
        return state, _traced_kib(begin)
    finally:
        tracemalloc.stop()


def _traced_kib(begin: int) -> float:
    gc.collect()  # also gives back the freed tuples that Python keeps at hand, which are nobody's state
    return (tracemalloc.get_traced_memory()[0] - begin) / 1024


def _classifier() -> Model:
    """Return the classifier that the pipeline trained, or boosted trees of its size where there is none."""
    model, _ = trained_model()
    if model.version != "benchmark":
        return model
    trees = []
    for first in range(N_TREES):
        splits = [(3 * first + depth) % N_SPLITS for depth in range(3)]
        # Each split has a leaf on its left and the next split on its right, the last one two leaves.
        trees.append(
            {
                "feature": [number for split in splits for number in (split % N_SPLIT_FEATURES, -1)] + [-1],
                "threshold": [number for split in splits for number in (split / N_SPLITS, 0.0)] + [0.0],
                "left": [1, 0, 3, 0, 5, 0, 0],
                "right": [2, 0, 4, 0, 6, 0, 0],
                "value": [0.0, -0.1, 0.0, 0.5, 0.0, 0.6, 1.9],
                "cover": [8, 4, 4, 2, 2, 1, 1],
            }
        )
    return load_model(
        {
            "format": 1,
            "kind": "gradient_boosting",
            "version": "benchmark",
            "contract_sha256": contract_sha256(),
            "n_features": N_FEATURES,
            "threshold": 0.5,
            "platt": {"slope": 1.0, "intercept": 0.0},
            "tables": {
                "class_risk": [0.1] * 8,
                "rule_precision": {f"{number:032x}": number / N_RULES for number in range(N_RULES)},
                "rule_precision_default": 0.1,
            },
            "parameters": {"baseline": -2.5, "trees": trees},
        }
    )


def _calibration(model: Model) -> ConformalGate:
    groups = {
        name: CalibrationGroup(0.99, "calibrated", np.linspace(0.0, 1.0, n)) for name, n in CALIBRATION_SCORES.items()
    }
    return ConformalGate(groups, 0.01, model.digest)


class _Churn:
    """A sensor of a machine on which every hour brings programs and destinations never seen before."""

    name = "churn"
    host_id = "bench"
    classes = frozenset(EventClass)
    is_exhausted = False

    def __init__(self, clock: SimulatedClock) -> None:
        self.counters = SensorCounters()
        self._clock = clock
        self._rng = np.random.default_rng(1)

    def open(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def poll(self, timeout_seconds: float) -> EventBatch:  # noqa: ARG002 - the clock is the benchmark's
        """Return the next events and move the clock past them."""
        n, rng = BATCH_EVENTS, self._rng
        times = self._clock.now() + np.arange(1, n + 1) / EVENTS_A_SECOND
        hour = int(times[0] // 3600)
        programs = rng.zipf(1.3, n) % 3000 + 500 * hour
        hosts = rng.zipf(1.3, n) % 2000 + 300 * hour
        batch = EventBatch(
            time_unix=times,
            event_class=rng.choice(5, n, p=[0.25, 0.25, 0.2, 0.2, 0.1]),
            host_id=["bench"] * n,
            comm=[f"program-{number}" for number in programs.tolist()],
            parent_comm=["parent"] * n,
            pid=rng.integers(1, 30_000, n),
            parent_pid=rng.integers(1, 300, n),
            target=[f"name-{number}.example.org" for number in hosts.tolist()],
            destination_address=[f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in hosts.tolist()],
            destination_port=np.full(n, 443),
            command_line=[f"program --argument {number}" for number in programs.tolist()],
        )
        self._clock.advance_to(float(times[-1]))
        return batch


def _day() -> tuple[int, int]:
    """Return the resident bytes after 6 and after 24 simulated hours."""
    clock = SimulatedClock(T0)
    with tempfile.TemporaryDirectory() as name:
        state = Path(name)
        baseline = BaselineKeeper(AgentSettings(agent_id="bench", state_path=state), clock)
        model, gate = trained_model()
        options = EngineOptions(windows=WindowOptions(relearns_after_drift=True))
        engine = Engine("bench", options=options, model=model, gate=gate, profiles=baseline.table)
        outlet = AlertOutlet(AlertBuffer(state / "alerts.db"), lambda _: None)
        runtime = AgentRuntime(engine, Sensing(_Churn(clock), clock), baseline, outlet, clock)
        sizes = []
        for hours in (6, 24):
            while clock.now() < T0 + DAY_SECONDS / 24 * hours:
                runtime.step(0.0)
            sizes.append(resident_bytes())
        baseline.close()
        outlet.close()
    return sizes[0], sizes[1]


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
        print(row["name"], row["ours"], row["unit"], row["target"])
