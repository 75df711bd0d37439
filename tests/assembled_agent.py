"""An agent's loop put together from real parts; only the sensor and the clock are the test's own."""

import threading

import numpy as np

from eguard.agent.buffer import AlertBuffer
from eguard.agent.learning import BaselineKeeper
from eguard.agent.outlets import AlertOutlet
from eguard.agent.runtime import AgentRuntime
from eguard.agent.sensing import Sensing
from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions, WindowOptions
from eguard.detection.fleet_context import FleetContext
from eguard.detection.indicator_list import make_indicator
from eguard.detection.indicators import IndicatorSet
from eguard.detection.layers import DetectionContent
from eguard.events import EventBatch, EventClass
from eguard.sensor.counters import SensorCounters
from eguard.settings import AgentSettings

T0 = 1_700_000_000.0
BAD = "198.51.100.7"
CONTENT = DetectionContent(
    indicators=IndicatorSet([make_indicator(BAD, source="feed")]),
    fleet=FleetContext(n_connecting_hosts=20, destination_hosts={"192.0.2.9:443": 20}),
    beacon=BeaconCalibration(0.6, 0.01, 140, insufficient_calibration=False),
)
SMALL_WINDOWS = WindowOptions(
    window_events=16, min_baseline_events=32, default_overdispersion=1.0, drift_burn_in=3, drift_threshold=3.0,
    relearns_after_drift=True, session="s.",
)  # fmt: skip


class SetClock:
    """A machine's clocks, moved by the test."""

    def __init__(self):
        self.wall, self.ticks = T0, 0.0

    def now(self):
        return self.wall

    def monotonic(self):
        return self.ticks

    def pass_time(self, seconds, step=0.0):
        self.ticks += seconds
        self.wall += seconds + step


class ScriptedSensor:
    """Hands over the batches it was given; an exception among them is raised."""

    name = "scripted"
    host_id = "h"
    classes = frozenset(EventClass)

    def __init__(self, *batches):
        self.batches = list(batches)
        self.is_exhausted = False
        self.counters = SensorCounters()
        self.closed = 0

    def open(self):
        pass

    def poll(self, _timeout_seconds):
        if not self.batches:
            return EventBatch()
        batch = self.batches.pop(0)
        if isinstance(batch, Exception):
            raise batch
        return batch

    def close(self):
        self.closed += 1


def events(n, at, event_class=2, comm="sh", step_seconds=0.01, **columns):
    """Return `n` events of one process key."""
    given = {
        "time_unix": at + step_seconds * np.arange(n),
        "event_class": np.full(n, event_class),
        "host_id": ["h"] * n,
        "comm": [comm] * n,
        "parent_comm": ["cron"] * n,
    }
    return EventBatch(**(given | columns))


def contact(at, address="192.0.2.1", comm="evil"):
    """Return one connection that has ended."""
    return events(1, at, -1, comm, event_type=["tcp_close"], destination_address=[address], destination_port=[443])


class AssembledAgent:
    """An agent and what it has said."""

    def __init__(self, folder, *, content=CONTENT, windows=SMALL_WINDOWS, sensor=None, reopen=None, **settings):
        self.settings = AgentSettings(agent_id="h", state_path=folder, **settings)
        self.clock = SetClock()
        self.sensor = sensor or ScriptedSensor()
        self.shown = []
        self.baseline = BaselineKeeper(self.settings, self.clock)
        self.buffer = AlertBuffer(folder / "alerts.db")
        engine = Engine("h", content, EngineOptions(reservoir_events=0, windows=windows), profiles=self.baseline.table)
        self.runtime = AgentRuntime(
            engine,
            Sensing(self.sensor, self.clock, reopen),
            self.baseline,
            AlertOutlet(self.buffer, self.shown.append),
            self.clock,
        )
        self.stop = threading.Event()

    def feed(self, *batches, seconds=0.25):
        """Let the agent take in batches, one a step, the clock going on between them."""
        self.sensor.batches += batches
        for _ in batches:
            self.clock.pass_time(seconds)
            self.runtime.step(0.0)

    def wait(self, seconds, steps=1):
        for _ in range(steps):
            self.clock.pass_time(seconds / steps)
            self.runtime.step(0.0)

    def learned(self, comm="sh"):
        table = self.baseline.table
        slot = int(table.index.lookup([(comm, "cron")])[0])
        return int(table.sample_count[slot]) if slot >= 0 else 0

    def close(self):
        self.baseline.close()
        self.buffer.close()
