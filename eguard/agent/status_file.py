"""How a running agent stands, in a file that anybody on the machine may be shown.

The agent writes it every ten seconds and at its end; `eguard agent status` reads it. It is no part of what the agent
needs to go on: losing it loses nothing.
"""

from __future__ import annotations

import importlib
import math
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from eguard.baseline.portable_calls import SAFE_FLAGS, replace_file
from eguard.errors import ConfigError
from eguard.sensor.counters import SLOT_NAMES

if TYPE_CHECKING:
    from eguard.agent.runtime import AgentRuntime

STATUS_NAME: Final = "status.json"
#: A status older than this was written by an agent that no longer runs, or hangs.
FRESH_SECONDS: Final = 40.0
_FILE_MODE: Final = 0o600


class StatusFile:
    """The status of one agent.

    Parameters
    ----------
    path : Path
        The file.
    agent_id : str
        Name of this endpoint.

    Attributes
    ----------
    control : callable
        Returns how the control plane stands, None where there is no server.
    """

    def __init__(self, path: Path, agent_id: str) -> None:
        self._path = path
        self._agent_id = agent_id
        self._started_unix = time.time()
        self._started = time.monotonic()
        self._busy = (time.monotonic(), time.process_time())
        self._state = "running"
        self.control: Callable[[], dict[str, Any] | None] = lambda: None

    def publish(self, runtime: AgentRuntime) -> dict[str, Any]:
        """Write how things stand, in one rename, and return it."""
        described = self.describe(runtime)
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | SAFE_FLAGS, _FILE_MODE)
        with os.fdopen(handle, "wb") as stream:
            stream.write(msgspec.json.encode(described))
        replace_file(temporary, self._path)
        return described

    def finish(self, runtime: AgentRuntime) -> dict[str, Any]:
        """Write the last status, or as much of it as the disk takes, and return it."""
        self._state = "stopped"
        try:
            return self.publish(runtime)
        except OSError:
            return self.describe(runtime)

    def describe(self, runtime: AgentRuntime) -> dict[str, Any]:
        """Return how things stand as plain values."""
        counters, totals = runtime.sensing.sensor.counters, runtime.totals
        return {
            "agent_id": self._agent_id,
            "state": self._state,
            "pid": os.getpid(),
            "started_at_unix": self._started_unix,
            "written_at_unix": time.time(),
            "uptime_seconds": time.monotonic() - self._started,
            "cpu_fraction": self._cpu_fraction(),
            "cpu_seconds": time.process_time(),
            "rss_bytes": resident_bytes(),
            "sensor": {
                "name": runtime.sensing.sensor.name,
                "is_working": runtime.sensing.is_working,
                "failures_total": runtime.sensing.failures_total,
                "classes": [each.name.lower() for each in sorted(runtime.sensing.sensor.classes)],
                **counters.to_dict(),
            },
            "events_total": int(totals.events.sum()),
            "events": {name: int(n) for name, n in zip(SLOT_NAMES, totals.events, strict=True) if n},
            "events_lost": int(counters.lost.sum()),
            "alerts": dict(sorted(runtime.outlet.by_confidence.items())),
            "alerts_suppressed": runtime.outlet.suppressed_total,
            "alerts_not_kept": runtime.outlet.unkept_total,
            "windows": {
                "closed": totals.windows_closed,
                "held": totals.windows_held,
                "drift_alarms": totals.drift_alarms,
                "keys_relearned": totals.keys_relearned,
            },
            "beacons": _beacons(runtime),
            "baseline": _baseline(runtime),
            "bundle": _bundle(runtime),
            "buffer": _buffer(runtime),
            "calibration": None if runtime.calibration is None else runtime.calibration.describe(),
            "control": self.control(),
            "clock_steps": totals.clock_steps,
            "duties_failed": dict(sorted(runtime.timers.failures.items())),
        }

    def _cpu_fraction(self) -> float:
        """Return the share of one core used since the last call."""
        then, used = self._busy
        self._busy = (time.monotonic(), time.process_time())
        return (self._busy[1] - used) / max(self._busy[0] - then, 1e-9)


def read_status(state_path: Path) -> dict[str, Any]:
    """Return the last status that an agent wrote; ``state`` is ``lost`` if it ended without saying so.

    Raises
    ------
    ConfigError
        There is none, or it cannot be read.
    """
    path = state_path / STATUS_NAME
    try:
        status: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError as error:
        raise ConfigError(
            f"no agent has run on {state_path}",
            remedy="Start one: sudo eguard agent run. Another folder: EGUARD_STATE_PATH.",
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}", remedy="Read it as the agent's user, with sudo."
        ) from error
    if status.get("state") == "running" and time.time() - float(status.get("written_at_unix", 0)) > FRESH_SECONDS:
        status["state"] = "lost"
    return status


def resident_bytes() -> int:
    """Return the memory of this process that is in RAM, 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return _resident_elsewhere()
    return pages * mmap.PAGESIZE


def _resident_elsewhere() -> int:
    try:
        psutil = importlib.import_module("psutil")
    except ModuleNotFoundError:
        return 0
    return int(psutil.Process().memory_info().rss)


def _beacons(runtime: AgentRuntime) -> dict[str, int]:
    destinations = runtime.engine.destinations
    return {
        "destinations": len(destinations),
        "skipped": destinations.skipped,
        **{name: int(count) for name, count in sorted(destinations.judge.counts.items())},
    }


def _baseline(runtime: AgentRuntime) -> dict[str, Any]:
    keeper = runtime.baseline
    store, table = keeper.store, keeper.table
    facts = store.facts
    return {
        "status": facts.status.name.lower(),
        "is_working": keeper.is_working,
        "failures_total": keeper.failures_total,
        "events_not_kept": keeper.unkept_events_total,
        "profiles": len(table),
        "evictions_total": table.evictions_total,
        "learned_events": int(table.sample_count.sum()),
        "held_windows": len(table.held),
        "held_windows_dropped": table.held.dropped_windows_total,
        "seed_generation": table.seeds.generation,
        "policy_revision": facts.policy_revision,
        "generation": store.generation,
        "incarnation": store.incarnation,
        "journal_bytes": store.journal_bytes,
        **{name: _finite(getattr(facts, name)) for name in ("learning_started", "learning_completed", "last_observed")},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _bundle(runtime: AgentRuntime) -> dict[str, Any]:
    used, watch = runtime.bundle, runtime.bundles
    described: dict[str, Any] = {
        "in_use": used.digest if used is not None else None,
        "model_version": used.content.model_version if used is not None else None,
        "classifier_in_use": runtime.engine.loaded.model is not None,
        "loaded_total": runtime.totals.bundles_loaded,
    }
    if runtime.shadow is not None:
        described["shadow"] = runtime.shadow.describe()
    if watch is not None:
        described["repository"] = msgspec.to_builtins(watch.keeper.status())
    return described


def _buffer(runtime: AgentRuntime) -> dict[str, Any] | None:
    counts = runtime.outlet.counts()
    return None if counts is None else dict(msgspec.to_builtins(counts))
