"""The eBPF sensor fed with records made by hand: what becomes of them needs no kernel."""

import ipaddress
import struct
import time

import pytest

from eguard.events import UNCOUNTED, EventClass
from eguard.sensor.ebpf import EbpfSensor
from eguard.sensor.ebpf_records import RecordKind

TEN_YEARS = 10 * 365 * 86_400
#: Numbers that no process of this machine has.
CURL, SHELL, NGINX = 5_000_812, 5_000_700, 5_000_900


class _Ring:
    """Hands over what a test put in."""

    def __init__(self, keep):
        self.keep = keep
        self.records = []

    def poll(self, _):
        while self.records:
            self.keep(self.records.pop(0))

    def consume(self):
        pass

    close = consume


@pytest.fixture
def ring(monkeypatch):
    monkeypatch.setattr("eguard.sensor.ebpf._ROUND_SECONDS", 0.0)
    sensor = EbpfSensor("lab")
    ring = _Ring(sensor._keep)
    sensor._ring = ring
    ring.sensor = sensor
    return ring


def _poll(ring, *records):
    ring.records += records
    return list(ring.sensor.poll(0.0).rows())


def _header(kind, pid=CURL, parent_pid=SHELL, comm=b"curl", parent_comm=b"bash", when=None):
    now = time.monotonic_ns() if when is None else when
    return struct.pack("=QIIIHH16s16s", now, pid, parent_pid, 1000, kind, 3, comm[:16], parent_comm)


def _exec(comm=b"curl", arguments=b"curl\x00-s\x00", **columns):
    return _header(RecordKind.EXEC, comm=comm, **columns) + b"/usr/bin/curl".ljust(256, b"\x00") + arguments


def _flow(kind, local, remote, established=1, duration_ns=0, **columns):
    def packed(address):
        address = ipaddress.ip_address(address)
        return address.packed if address.version == 6 else ipaddress.ip_address(f"::ffff:{address}").packed

    family = 10 if ":" in local[0] else 2
    ports = (family, local[1], remote[1], established)
    addresses = packed(local[0]), packed(remote[0])
    return _header(kind, **columns) + struct.pack("=HHHH16s16sQQQ", *ports, *addresses, duration_ns, 10, 20)


def _contact(port, **columns):
    address = ipaddress.ip_address("192.0.2.9").packed
    return _header(RecordKind.UDP_CONTACT, **columns) + struct.pack("=HH16sI", 2, port, address, 0)


@pytest.mark.parametrize(
    ("raw", "comm"),
    [
        (b"\x1b[31mred\x07", "\x1b[31mred\x07"),
        (b"new\nline:%", "new\nline:%"),
        (b"\xff\xfe\xfd", r"\xff\xfe\xfd"),
        ("日本語日本語".encode()[:15], "日本語日本"),
        ("ñandú-日本語-日本".encode()[:15], r"ñandú-日本\xe8"),
        (b"sixteen-bytes-16", "sixteen-bytes-16"),
        (b"", ""),
    ],
    ids=["ansi", "newline-colon", "no-utf8", "whole-characters", "cut-character", "no-nul", "empty"],
)
def test_whatever_a_process_calls_itself_comes_through_and_can_be_encoded(ring, raw, comm):
    (event,) = _poll(ring, _exec(comm=raw))
    assert event.comm == comm
    assert event.comm.encode("utf-8").decode("utf-8") == comm


def test_a_step_of_the_calendar_moves_events_and_neither_durations_nor_names(ring, monkeypatch):
    start = time.monotonic_ns()
    true_time = time.time_ns
    _poll(ring, _exec(when=start))
    for step_seconds in (TEN_YEARS, -TEN_YEARS):
        monkeypatch.setattr(time, "time_ns", lambda step=step_seconds: true_time() + step * 1_000_000_000)
        flow = (("10.0.0.1", 0), ("192.0.2.9", 443))
        opened, closed, ended = _poll(
            ring,
            _flow(RecordKind.CONNECT, *flow, when=start),
            _flow(RecordKind.CLOSED, *flow, when=start + 2_000_000_000, duration_ns=2_000_000_000),
            _header(RecordKind.EXIT, when=start + 3_000_000_000),
        )
        assert [each.comm for each in (opened, closed, ended)] == ["curl"] * 3
        assert opened.time_unix == pytest.approx(true_time() / 1e9 + step_seconds, abs=60)
        assert closed.time_unix - opened.time_unix == pytest.approx(2.0, abs=1e-5)
        assert closed.duration_seconds == 2.0
    lag = ring.sensor.counters.lag.read()
    assert (lag.events, lag.max_seconds < 60) == (7, True)


def test_a_number_that_comes_back_under_another_parent_is_another_process(ring):
    _poll(ring, _exec())
    stranger, late = _poll(
        ring,
        _flow(
            RecordKind.CONNECT,
            ("10.0.0.1", 0),
            ("192.0.2.9", 80),
            comm=b"worker",
            parent_pid=NGINX,
            parent_comm=b"nginx",
        ),
        _header(RecordKind.EXIT, comm=b"worker", parent_pid=NGINX, parent_comm=b"nginx"),
    )
    assert (stranger.comm, stranger.parent_comm, stranger.command_line) == ("worker", "nginx", "")
    assert late.comm == "worker"


def test_torn_and_unknown_records_are_counted_and_stop_nothing(ring):
    whole = _exec()
    (event,) = _poll(ring, whole[:20], b"", _header(77), _header(RecordKind.CONNECT), whole)
    assert event.comm == "curl"
    assert ring.sensor._unreadable == 4


def test_a_datagram_is_a_connection_and_a_query_is_one_only_where_nobody_reads_queries(ring):
    kinds = [
        (each.event_type, each.event_class, each.destination_port) for each in _poll(ring, _contact(123), _contact(53))
    ]
    connect = EventClass.NETWORK_CONNECT
    assert kinds == [("udp_connect", connect, 123), ("udp_connect", connect, 53)]
    ring.sensor.classes |= {EventClass.DNS_QUERY}
    assert _poll(ring, _contact(53)) == []


def test_an_accepted_connection_belongs_to_who_listens_and_names_the_other_side(ring):
    listening = {"pid": NGINX, "comm": b"nginx", "parent_comm": b"systemd", "parent_pid": SHELL}
    nobody = {"pid": 0, "parent_pid": 0, "comm": b"", "parent_comm": b""}
    inbound = (("10.0.0.1", 8080), ("192.0.2.66", 51_000))
    listen, accept = _poll(
        ring,
        _flow(RecordKind.LISTEN, ("0.0.0.0", 8080), ("0.0.0.0", 0), **listening),
        _flow(RecordKind.ACCEPT, *inbound, **nobody),
    )
    assert (listen.event_type, listen.target, listen.comm) == ("tcp_listen", "0.0.0.0 8080", "nginx")
    assert (accept.event_type, accept.event_class, accept.pid) == ("tcp_accept", UNCOUNTED, NGINX)
    assert (accept.comm, accept.parent_comm) == ("nginx", "systemd")
    assert (accept.destination_address, accept.destination_port) == ("192.0.2.66", 51_000)
    assert accept.fields["Initiated"] == "false"
    assert (accept.fields["SourceIp"], accept.fields["DestinationPort"]) == ("192.0.2.66", "8080")
    _poll(ring, _flow(RecordKind.UNLISTEN, ("0.0.0.0", 8080), ("0.0.0.0", 0), **listening))
    (orphan,) = _poll(ring, _flow(RecordKind.ACCEPT, *inbound, **nobody))
    assert (orphan.pid, orphan.comm, orphan.destination_address) == (0, "", "192.0.2.66")


def test_a_loaded_module_is_reported_under_who_loaded_it(ring):
    (event,) = _poll(ring, _header(RecordKind.MODULE, comm=b"modprobe") + b"rootkit\n".ljust(64, b"\x00"))
    assert (event.event_class, event.event_type) == (EventClass.MODULE_LOAD, "driver_load")
    assert (event.comm, event.target) == ("modprobe", "rootkit\n")
