"""Which sensor to use: the one that was asked for, or the best that works here, saying why better ones do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from eguard.errors import ConfigError, SensorUnavailableError
from eguard.sensor.ebpf import EbpfSensor
from eguard.sensor.proc_connector import ProcConnectorSensor
from eguard.sensor.protocol import Availability, Sensor
from eguard.sensor.psutil_poll import PsutilSensor
from eguard.sensor.replay import ReplaySensor

#: Live sensors, best first.
LIVE_SENSORS: Final[Mapping[str, Callable[[str], Sensor]]] = {
    "ebpf": EbpfSensor,
    "proc_connector": ProcConnectorSensor,
    "psutil": PsutilSensor,
}
#: Every word that `open_sensor` understands.
SENSOR_NAMES: Final = ("auto", *LIVE_SENSORS, "replay")

_log = structlog.get_logger(__name__)


def open_sensor(
    name: str = "auto", *, host_id: str = "", replay_path: Path | None = None, require_ebpf: bool = False
) -> Sensor:
    """Return an open sensor.

    Parameters
    ----------
    name : str
        One of `SENSOR_NAMES`. ``auto`` takes the best that works and logs why the better ones do not.
    host_id : str
        Name of this endpoint; the machine's own if empty.
    replay_path : Path, optional
        What ``replay`` reads.
    require_ebpf : bool
        Refuse to fall back: a machine that cannot run the probes is an error, not a lesser sensor.

    Raises
    ------
    ConfigError
        There is no sensor of that name, ``replay`` without a file, or another sensor while ebpf is required.
    SensorUnavailableError
        The machine cannot run the sensor; with ``auto``, not one of them.
    """
    if require_ebpf:
        if name not in ("auto", "ebpf"):
            raise ConfigError(f"ebpf is required and {name} was asked for", remedy="Drop one of the two options.")
        name = "ebpf"
    if name == "replay":
        if replay_path is None:
            raise ConfigError("the replay sensor needs a file", remedy="Name a log with --file.")
        return _opened(ReplaySensor(replay_path, host_id=host_id))
    if name == "auto":
        return _best(host_id)
    if name not in LIVE_SENSORS:
        raise ConfigError(f"there is no sensor {name!r}", remedy=f"Choose one of: {', '.join(SENSOR_NAMES)}.")
    return _opened(LIVE_SENSORS[name](host_id))


def survey() -> list[Availability]:
    """Open and close every live sensor, best first, and return which ones work, and why the others do not."""
    found = []
    for name, create in LIVE_SENSORS.items():
        sensor = create("")
        try:
            sensor.open()
            found.append(Availability(name, works=True, classes=sensor.classes))
        except SensorUnavailableError as error:
            found.append(Availability(name, works=False, reason=error.message, remedy=error.remedy))
        finally:
            sensor.close()
    return found


def _opened(sensor: Sensor) -> Sensor:
    try:
        sensor.open()
    except SensorUnavailableError:
        sensor.close()
        raise
    return sensor


def _best(host_id: str) -> Sensor:
    refusals = []
    for name, create in LIVE_SENSORS.items():
        try:
            sensor = _opened(create(host_id))
        except SensorUnavailableError as error:
            _log.warning("sensor unavailable", sensor=name, reason=error.message, remedy=error.remedy)
            refusals.append(f"{name}: {error.message}")
            continue
        _log.info("selected sensor", sensor=name, classes=[each.name.lower() for each in sorted(sensor.classes)])
        return sensor
    raise SensorUnavailableError(
        f"no sensor works on this machine ({'; '.join(refusals)})",
        remedy="Run as root, or see `eguard sensor list` for what each of them needs.",
    )
