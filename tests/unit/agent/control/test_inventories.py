"""What machine this is: read from the system, fit for the wire, and compared without what moves by itself."""

import platform
import socket
from dataclasses import dataclass, field

import msgspec
import pytest

from eguard.agent.control import inventories
from eguard.agent.control.inventories import Inventories, collect
from eguard.wire.bodies import decode_body
from eguard.wire.control import InventoryReport

SERVER = "https://127.0.0.1:8443"


def test_the_report_is_this_machines_and_passes_the_servers_reader():
    report = collect("h", "ebpf", SERVER)
    assert (report.agent_id, report.sensor, report.ip_address) == ("h", "ebpf", "127.0.0.1")
    assert report.hostname == socket.gethostname()
    assert report.kernel_version == platform.release()
    assert report.os_type == platform.system().lower()
    assert report.cpu_count >= 1
    if report.os_type == "linux":
        assert report.memory_bytes > 1 << 27
        assert 0 < report.boot_time_unix < report.collected_at_unix
        assert report.facts["os_release.id"] == platform.freedesktop_os_release()["ID"]
    assert decode_body(msgspec.json.encode(report), InventoryReport) == report


def test_what_the_system_does_not_say_stays_empty(monkeypatch):
    def missing(*_, **__):
        raise OSError(2, "no such file")

    monkeypatch.setattr(platform, "freedesktop_os_release", missing)
    monkeypatch.setattr(inventories.Path, "read_text", missing)
    monkeypatch.setattr(inventories.os, "sysconf", missing)
    monkeypatch.setattr(socket, "getaddrinfo", missing)
    monkeypatch.setattr(inventories.uuid, "getnode", lambda: 1 << 40 | 5)
    report = collect("h", "", SERVER)
    assert (report.boot_time_unix, report.memory_bytes, report.ip_address, report.mac_address) == (None, 0, "", "")
    assert report.os_version


@pytest.mark.parametrize("name", ["a\x00b", "a\nb", "x" * 1000, "\udcff", "\x7f"])
def test_names_that_no_server_takes_are_made_fit(name, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    report = collect("h", "psutil", SERVER)
    assert decode_body(msgspec.json.encode(report), InventoryReport).hostname == report.hostname


@dataclass
class Client:
    """Counts what is sent."""

    server: str = SERVER
    sent: list = field(default_factory=list)

    def send(self, request):
        self.sent.append(request.path)


def test_it_is_sent_again_at_its_interval_and_when_something_changed(monkeypatch):
    client, sensor = Client(), ["ebpf"]
    duty = Inventories(client, agent_id="h", sensor_name=lambda: sensor[0], interval_seconds=3600.0)
    duty.report()
    duty.report()
    assert len(client.sent) == 1
    sensor[0] = "psutil"
    duty.report()
    assert len(client.sent) == 2
    monkeypatch.setattr(inventories, "_boot_time", lambda: 5.0)
    duty.report()
    assert len(client.sent) == 3
    monkeypatch.setattr(inventories, "_boot_time", lambda: 9.0)  # the clock was set a little
    duty.report()
    assert len(client.sent) == 3
    monkeypatch.setattr(inventories.time, "monotonic", lambda: 1e9)
    duty.report()
    assert len(client.sent) == 4
