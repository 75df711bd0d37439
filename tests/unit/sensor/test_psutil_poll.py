import socket
import subprocess
import sys
import time

import pytest

from eguard.errors import SensorUnavailableError
from eguard.events import EventClass
from eguard.sensor import psutil_poll
from eguard.sensor.procfs import has_processes
from eguard.sensor.psutil_poll import PsutilSensor


@pytest.fixture(params=[True, False], ids=["proc", "portable"])
def sensor(request):
    pytest.importorskip("psutil")
    if request.param and not has_processes():
        pytest.skip("there is no /proc")
    sensor = PsutilSensor("lab", interval_seconds=0.1, reads_proc=request.param)
    sensor.open()
    yield sensor
    sensor.close()


def _gather(sensor, wanted, seconds=10.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for event in sensor.poll(0.2).rows():
            if wanted(event):
                return event
    raise AssertionError("the event did not come")


def test_a_process_that_stays_is_seen_to_start_and_to_end(sensor):
    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        started = _gather(sensor, lambda event: event.pid == child.pid)
    finally:
        child.kill()
        child.wait()
    ended = _gather(sensor, lambda event: event.pid == child.pid and event.event_class == EventClass.PROCESS_EXIT)
    assert (started.event_class, started.comm, started.host_id) == (EventClass.PROCESS_EXEC, "sleep", "lab")
    assert started.parent_comm
    assert ended.comm == "sleep"
    assert sensor.counters.received[EventClass.PROCESS_EXEC] >= 1
    lag = sensor.counters.lag.peek()
    assert lag.events >= 1
    assert 0 < lag.max_seconds < 10


def test_a_connection_that_stays_is_seen_once_and_on_the_side_that_opened_it(sensor):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            event = _gather(
                sensor, lambda each: each.event_class == EventClass.NETWORK_CONNECT and each.destination_port == port
            )
            assert event.destination_address == "127.0.0.1"
            again = [each for _ in range(3) for each in sensor.poll(0.12).rows()]
            local = client.getsockname()[1]
            assert [each for each in again if each.destination_port in (port, local)] == []
            accepted.close()


def test_another_image_in_a_process_is_another_execution(sensor):
    child = subprocess.Popen(["/bin/sh", "-c", "read line; exec sleep 60"], stdin=subprocess.PIPE)
    try:
        first = _gather(sensor, lambda event: event.pid == child.pid and event.comm == "sh")
        child.stdin.write(b"go\n")
        child.stdin.close()
        second = _gather(sensor, lambda event: event.pid == child.pid and event.comm == "sleep")
    finally:
        child.kill()
        child.wait()
    assert (first.event_class, second.event_class) == (EventClass.PROCESS_EXEC, EventClass.PROCESS_EXEC)
    assert (second.parent_comm, second.command_line) == (first.parent_comm, "sleep 60")
    assert second.image_path != first.image_path


def test_a_process_that_renames_itself_executes_nothing_and_ends_under_its_last_name(sensor):
    program = "import sys; input(); open('/proc/self/comm', 'w').write('other'); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True) as child:
        started = _gather(sensor, lambda event: event.pid == child.pid)
        child.stdin.write("\n")
        child.stdin.flush()
        child.stdout.readline()
        between = [each for _ in range(3) for each in sensor.poll(0.12).rows() if each.pid == child.pid]
        child.kill()
    ended = _gather(sensor, lambda event: event.pid == child.pid)
    assert between == []
    assert (ended.event_type, ended.comm, ended.parent_comm) == ("exit", "other", started.parent_comm)


@pytest.mark.parametrize("years", [10, -10])
def test_a_step_of_the_calendar_starts_and_ends_no_process(sensor, monkeypatch, years):
    step = years * 365 * 86_400
    psutil = pytest.importorskip("psutil")
    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        _gather(sensor, lambda event: event.pid == child.pid)
        now, boot_time = time.time, psutil._pslinux.boot_time
        monkeypatch.setattr(time, "time", lambda: now() + step)
        monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot_time() + step)
        events = [each for _ in range(3) for each in sensor.poll(0.15).rows()]
        assert [each.event_type for each in events if each.pid == child.pid] == []
    finally:
        child.kill()
        child.wait()
    ended = _gather(sensor, lambda event: event.pid == child.pid)
    assert (ended.event_type, ended.comm) == ("exit", "sleep")
    assert abs(ended.time_unix - now() - step) < 60


def test_a_look_without_news_waits_and_returns_an_empty_batch(sensor, monkeypatch):
    monkeypatch.setattr(sensor, "_next_look", time.monotonic() + 60)
    started = time.monotonic()
    assert len(sensor.poll(0.05)) == 0
    assert time.monotonic() - started >= 0.05


def test_a_sensor_that_is_not_open_says_so_and_may_be_closed():
    sensor = PsutilSensor("lab")
    sensor.close()
    with pytest.raises(SensorUnavailableError, match="not open"):
        sensor.poll(0.0)


def test_a_sensor_that_was_closed_opens_again(sensor):
    sensor.close()
    sensor.open()
    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        assert _gather(sensor, lambda event: event.pid == child.pid).comm == "sleep"
    finally:
        child.kill()
        child.wait()


def test_without_the_package_the_remedy_names_the_extra(monkeypatch):
    def refuse(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(psutil_poll.importlib, "import_module", refuse)
    with pytest.raises(SensorUnavailableError, match="psutil") as refused:
        PsutilSensor().open()
    assert "eguard[agent]" in refused.value.remedy
