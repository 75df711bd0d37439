"""Sensors: what happens on this machine, as batches of events, behind one protocol."""

from eguard.sensor.counters import SensorCounters
from eguard.sensor.protocol import Availability, Sensor
from eguard.sensor.selection import SENSOR_NAMES, open_sensor, survey

__all__ = ["SENSOR_NAMES", "Availability", "Sensor", "SensorCounters", "open_sensor", "survey"]
