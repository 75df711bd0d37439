"""The process connector and the DNS tap on this kernel. They need root; where it is missing they say so and skip."""

import os
import socket
import subprocess
import sys
import time

import pytest

from eguard.errors import SensorUnavailableError
from eguard.events import EventClass
from eguard.sensor.dns_tap import DnsTap
from eguard.sensor.proc_connector import ProcConnectorSensor

QUESTION = bytes.fromhex("123401000001000000000000") + b"\x06sensor\x04test\x00" + b"\x00\x01\x00\x01"


@pytest.fixture
def sensor():
    sensor = ProcConnectorSensor("lab")
    try:
        sensor.open()
    except SensorUnavailableError as refused:
        pytest.skip(refused.message)
    yield sensor
    sensor.close()


def _gather(sensor, seconds):
    events = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        events += sensor.poll(0.05).rows()
    return events


def test_two_hundred_executions_are_seen_and_what_is_missing_is_counted(sensor):
    program = (
        "import os\n"
        "for _ in range(200):\n"
        "    pid = os.posix_spawn('/bin/true', ['true'], {})\n"
        "    print(pid, flush=True)\n"
        "    os.waitpid(pid, 0)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    events = []
    while worker.poll() is None:
        events += sensor.poll(0.05).rows()
    pids = {int(line) for line in worker.stdout}
    worker.stdout.close()
    events += _gather(sensor, 0.3)
    started = {event.pid: event for event in events if event.event_class == EventClass.PROCESS_EXEC}
    ended = {event.pid for event in events if event.event_class == EventClass.PROCESS_EXIT}
    assert len(pids) == 200
    # The kernel drops messages when its memory is short; then the gaps in their numbers say so.
    assert len(pids - started.keys()) + len(pids - ended) <= sensor.counters.lost.sum()
    seen = [started[pid] for pid in pids & started.keys()]
    assert len(seen) > 150
    assert {event.parent_pid for event in seen} == {worker.pid}
    named = [event for event in seen if event.comm]
    assert {event.comm for event in named} == {"true"}
    assert len(seen) - len(named) <= sensor.counters.unresolved


def test_a_program_with_a_hostile_name_is_reported_by_it(sensor, tmp_path):
    path = os.fsencode(tmp_path) + b"/\x1b[31m\xff:%\n-and-a-long-tail"
    os.symlink(b"/bin/sleep", path)  # noqa: PTH211 - a path object holds no bytes
    child = subprocess.Popen([path, "0.5"])
    events = _gather(sensor, 0.4)
    child.wait()
    event = next(each for each in events if each.pid == child.pid and each.event_class == EventClass.PROCESS_EXEC)
    assert event.comm == "\x1b[31m\\xff:%\n-and-a"


def test_a_query_is_named_and_ascribed_to_its_process(sensor):
    if EventClass.DNS_QUERY not in sensor.classes:
        pytest.skip("no packet socket")
    for family, address in ((socket.AF_INET, "127.0.0.99"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.connect((address, 53))
            client.send(QUESTION)
            events = _gather(sensor, 0.3)
        asked = [each for each in events if (each.target, each.destination_address) == ("sensor.test", address)]
        assert [(each.destination_address, each.pid) for each in asked] == [(address, os.getpid())]
        assert asked[0].comm


def test_the_tap_tells_queries_from_what_only_goes_to_their_port():
    tap = DnsTap()
    if not tap.open():
        pytest.skip(tap.reason)
    tap.receive()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(QUESTION, ("127.0.0.96", 5353))
        client.sendto(QUESTION[:2] + b"\x81\x80" + QUESTION[4:], ("127.0.0.96", 53))
        client.sendto(b"noise", ("127.0.0.96", 53))
        client.sendto(QUESTION, ("127.0.0.96", 53))
    time.sleep(0.05)
    seen = [query for _, query in tap.receive() if query.destination_address == "127.0.0.96"]
    assert [query.name for query in seen] == ["", "sensor.test"]
    tap.close()
    assert tap.receive() == []
