from pathlib import Path

import pytest

from eguard.errors import ConfigError, SensorUnavailableError
from eguard.events import BATCH_EVENTS
from eguard.events.parsers.reading import read_events
from eguard.sensor import open_sensor
from eguard.sensor.replay import ReplaySensor

EVENTS = Path(__file__).parents[3] / "data/raw/net-c2-sessions/caldera_manx_tcp.messages.csv"


def test_a_file_is_delivered_whole_in_order_and_counted():
    sensor = open_sensor("replay", replay_path=EVENTS, host_id="lab")
    times, hosts, sizes = [], set(), []
    while not sensor.is_exhausted:
        batch = sensor.poll(0.0)
        times += batch.time_unix.tolist()
        hosts |= set(batch.host_id)
        sizes.append(len(batch))
    sensor.close()
    assert times == [event.time_unix for event in read_events(EVENTS)]
    assert hosts == {"lab"}
    assert max(sizes) <= BATCH_EVENTS
    assert sensor.counters.received.sum() == len(times)


def test_a_missing_file_is_refused_with_a_remedy(tmp_path):
    with pytest.raises(SensorUnavailableError, match="no file") as refused:
        open_sensor("replay", replay_path=tmp_path / "none.csv")
    assert "--file" in refused.value.remedy
    with pytest.raises(ConfigError, match="needs a file"):
        open_sensor("replay")


def test_a_sensor_that_is_closed_early_delivers_nothing_more():
    sensor = ReplaySensor(EVENTS)
    sensor.open()
    sensor.poll(0.0)
    sensor.close()
    assert len(sensor.poll(0.0)) == 0
    assert sensor.is_exhausted
