"""The probes on this kernel. Where bcc, headers, tracefs or root are missing, the reason is the skip."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import structlog.testing

from eguard.errors import SensorUnavailableError
from eguard.events import UNCOUNTED, EventClass
from eguard.sensor import ebpf_program
from eguard.sensor.bpf_maps import ProcessorTotals, RingBuffer
from eguard.sensor.ebpf import EbpfSensor
from eguard.sensor.ebpf_records import RecordKind, parse_header, parse_module

QUESTION = bytes.fromhex("123401000001000000000000") + b"\x04ebpf\x04test\x00" + b"\x00\x01\x00\x01"


@pytest.fixture(scope="module")
def sensor():
    structlog.reset_defaults()
    sensor = EbpfSensor("lab")
    try:
        with structlog.testing.capture_logs() as logs:
            sensor.open()
    except SensorUnavailableError as refused:
        pytest.skip(refused.message)
    attached = next(log for log in logs if log["event"] == "attached ebpf probes")
    assert attached["objects"] == attached["attached"] >= 14
    yield sensor
    sensor.close()
    sensor.close()


def _run(sensor, program, *arguments):
    """Run a Python program, polling meanwhile; return its events (its children's too) and what it printed."""
    worker = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)
    events = []
    quiet_until = None
    while quiet_until is None or time.monotonic() < quiet_until:
        events += sensor.poll(0.05).rows()
        if quiet_until is None and worker.poll() is not None:
            quiet_until = time.monotonic() + 0.3
    with worker.stdout:
        printed = worker.stdout.read()
    assert worker.returncode == 0
    return worker.pid, events, printed


def test_three_hundred_executions_arrive_with_names_parents_and_arguments(sensor, tmp_path):
    hostile = os.fsencode(tmp_path) + b"/\x1b[31m\xff:%\n-and-a-long-tail"
    os.symlink(b"/bin/true", hostile)  # noqa: PTH211 - a path object holds no bytes
    program = (
        "import os, sys\n"
        "for number in range(300):\n"
        "    path = os.fsencode(sys.argv[1])\n"
        "    pid = os.posix_spawn(path, [path, b'--number', str(number).encode()], {})\n"
        "    os.waitpid(pid, 0)\n"
        "    print(pid)\n"
    )
    worker, events, printed = _run(sensor, program, os.fsdecode(hostile))
    pids = [int(line) for line in printed.split()]
    started = {each.pid: each for each in events if each.event_class == EventClass.PROCESS_EXEC}
    ended = {each.pid for each in events if each.event_class == EventClass.PROCESS_EXIT}
    parent_comm = started[worker].comm
    assert set(pids) <= started.keys()
    assert set(pids) <= ended
    assert {(started[pid].comm, started[pid].parent_comm) for pid in pids} == {("\x1b[31m\\xff:%\n-and-a", parent_comm)}
    assert {started[pid].parent_pid for pid in pids} == {worker}
    assert [started[pid].command_line.rsplit(" ", 1)[-1] for pid in pids] == [str(number) for number in range(300)]
    assert sensor.counters.lost.sum() == 0
    assert sensor.counters.unresolved == 0


def test_connections_of_both_families_carry_their_bytes_and_duration(sensor):
    program = (
        "import socket, time\n"
        "for family, host in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):\n"
        "    with socket.create_server((host, 0), family=family) as server:\n"
        "        port = server.getsockname()[1]\n"
        "        with socket.create_connection((host, port)) as client:\n"
        "            peer, _ = server.accept()\n"
        "            client.sendall(b'x' * 12345); left = 12345\n"
        "            while left: left -= len(peer.recv(left))\n"
        "            peer.sendall(b'y' * 77); client.recv(77)\n"
        "            time.sleep(0.05)\n"
        "        peer.close()\n"
        "        print(port)\n"
        "refused = socket.socket(); refused.connect_ex(('127.0.0.1', 1))\n"
    )
    worker, events, printed = _run(sensor, program)
    ports = [int(line) for line in printed.split()]
    mine = [each for each in events if each.pid == worker and each.destination_port and each.event_type != "tcp_accept"]
    connects = [each for each in mine if each.event_class == EventClass.NETWORK_CONNECT]
    assert [(each.destination_address, each.destination_port) for each in connects] == [
        ("127.0.0.1", ports[0]),
        ("::1", ports[1]),
        ("127.0.0.1", 1),
    ]
    ends = [each for each in mine if each.event_class == UNCOUNTED]
    assert [each.event_type for each in ends] == ["tcp_close", "tcp_close", "tcp_failed"]
    # The kernel counts the end of the peer's stream as one byte more.
    assert [(each.sent_bytes, each.received_bytes - 77 in (0, 1)) for each in ends[:2]] == [(12345, True)] * 2
    assert all(0.05 <= each.duration_seconds < 5 for each in ends[:2])


def test_writes_and_openings_of_programs_are_told_from_reading(sensor, tmp_path):
    program = (
        "import os, sys\n"
        "os.chdir(sys.argv[1])\n"
        "for number in range(50): open(f'{number}.txt', 'w').close()\n"
        "open('0.txt').close(); open('/bin/true', 'rb').close(); open('/etc/hostname').close()\n"
        "try: open('/nowhere/x', 'w')\n"
        "except OSError: pass\n"
        "os.close(os.open('below', os.O_RDWR | os.O_CREAT))\n"
    )
    worker, events, _ = _run(sensor, program, str(tmp_path))
    opened = [each for each in events if each.pid == worker and each.event_class == EventClass.FILE_OPEN]
    written = [Path(each.target).name for each in opened if each.event_type == "open_write"]
    assert [name for name in written if name.endswith(".txt") or name == "below"] == [
        *(f"{number}.txt" for number in range(50)),
        "below",
    ]
    assert "/bin/true" in {each.target for each in opened if each.event_type == "open_executable"}
    assert not {"/etc/hostname", "/nowhere/x"} & {each.target for each in opened}


def test_queries_belong_to_the_process_that_asked_even_when_it_has_gone(sensor):
    if EventClass.DNS_QUERY not in sensor.classes:
        pytest.skip("no packet socket")
    program = (
        "import socket, sys\n"
        "question = bytes.fromhex(sys.argv[1])\n"
        "connected = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "connected.connect(('127.0.0.98', 53)); connected.send(question)\n"
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(question, ('::1', 53))\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendmsg([question], [], 0, ('127.0.0.97', 53))\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'no query', ('127.0.0.95', 53))\n"
    )
    worker, events, _ = _run(sensor, program, QUESTION.hex())
    asked = [each for each in events if each.target == "ebpf.test"]
    # What is no query is a connection to that port, once.
    others = [each for each in events if each.pid == worker and each.destination_port == 53 and not each.target]
    assert [(each.event_type, each.event_class, each.destination_address) for each in others] == [
        ("udp_connect", EventClass.NETWORK_CONNECT, "127.0.0.95")
    ]
    assert sorted(each.destination_address for each in asked) == ["127.0.0.97", "127.0.0.98", "::1"]
    assert {each.pid for each in asked} == {worker}


def test_a_datagram_is_a_contact_once_a_conversation_and_other_sockets_are_none(sensor):
    program = (
        "import os, socket\n"
        "def udp(family=socket.AF_INET): return socket.socket(family, socket.SOCK_DGRAM)\n"
        "connected = udp(); connected.connect(('127.0.0.1', 7001))\n"
        "for _ in range(20):\n"
        "    try: connected.send(b'x')\n"
        "    except ConnectionRefusedError: pass\n"
        "unused = udp(); unused.connect(('127.0.0.1', 7002)); number = unused.fileno(); unused.close()\n"
        "one, two = socket.socketpair(); assert number in (one.fileno(), two.fileno())\n"
        "one.send(b'x'); two.send(b'x')\n"
        "again = udp(); again.connect(('127.0.0.1', 7001)); again.send(b'x')\n"
        "loose = udp()\n"
        "for _ in range(20): loose.sendto(b'x', ('127.0.0.1', 7003))\n"
        "loose.sendmsg([b'x'], [], 0, ('127.0.0.1', 7004))\n"
        "written = udp(); written.connect(('127.0.0.1', 7005)); os.write(written.fileno(), b'x')\n"
        "shell = udp(); shell.connect(('127.0.0.1', 7008)); os.dup2(shell.fileno(), 99); shell.close()\n"
        "os.write(99, b'x')\n"
        "udp(socket.AF_INET6).sendto(b'x', ('::1', 7006))\n"
        "with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "    tcp = socket.create_connection(server.getsockname()); tcp.sendall(b'x'); server.accept()\n"
        "pid = os.fork()\n"
        "if pid == 0: loose.sendto(b'x', ('127.0.0.1', 7007)); os._exit(0)\n"
        "os.waitpid(pid, 0); print(pid)\n"
    )
    worker, events, printed = _run(sensor, program)
    contacts = [each for each in events if each.event_type == "udp_connect" and each.pid in (worker, int(printed))]
    assert {each.event_class for each in contacts} == {EventClass.NETWORK_CONNECT}
    assert [(each.pid == worker, each.destination_address, each.destination_port) for each in contacts] == [
        (True, "127.0.0.1", 7001),
        (True, "127.0.0.1", 7001),
        (True, "127.0.0.1", 7003),
        (True, "127.0.0.1", 7004),
        (True, "127.0.0.1", 7005),
        (True, "127.0.0.1", 7008),
        (True, "::1", 7006),
        (False, "127.0.0.1", 7007),
    ]


def test_a_scan_with_datagrams_is_thinned_and_every_contact_left_out_is_counted(sensor):
    program = (
        "import socket\n"
        "scan = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "for port in range(20000, 21500): scan.sendto(b'', ('127.0.0.1', port))\n"
    )
    sampled = int(sensor.counters.sampled[EventClass.NETWORK_CONNECT])
    worker, events, _ = _run(sensor, program)
    time.sleep(1.0)
    sensor.poll(0.0)
    seen = sum(each.event_type == "udp_connect" and each.pid == worker for each in events)
    sampled = int(sensor.counters.sampled[EventClass.NETWORK_CONNECT]) - sampled
    assert seen + sampled == 1500
    assert sampled >= 500


def test_inbound_connections_belong_to_the_listener_and_name_the_other_side(sensor):
    program = (
        "import os, socket\n"
        "for family, host in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):\n"
        "    with socket.create_server((host, 0), family=family) as server:\n"
        "        client = socket.create_connection(server.getsockname()[:2])\n"
        "        print(server.getsockname()[1], client.getsockname()[1])\n"
        "        server.accept()[0].close(); client.close()\n"
    )
    worker, events, printed = _run(sensor, program)
    ports = [tuple(map(int, line.split())) for line in printed.splitlines()]
    accepts = [each for each in events if each.event_type == "tcp_accept" and each.pid == worker]
    assert [(each.destination_address, each.destination_port) for each in accepts] == [
        ("127.0.0.1", ports[0][1]),
        ("::1", ports[1][1]),
    ]
    assert [each.fields["DestinationPort"] for each in accepts] == [str(port) for port, _ in ports]
    assert {(each.event_class, each.comm) for each in accepts} == {(UNCOUNTED, accepts[0].comm)}
    assert accepts[0].comm
    assert [each.target for each in events if each.event_type == "tcp_listen" and each.pid == worker] == [
        f"127.0.0.1 {ports[0][0]}",
        f"::1 {ports[1][0]}",
    ]


@pytest.fixture
def load(monkeypatch, tmp_path):
    """Load the probes changed in one place, or with a smaller ring."""
    programs = []

    def loaded(pages, replace=("", "")):
        source = tmp_path / "probes.c"
        source.write_text(ebpf_program.PROBES.read_text("utf-8").replace(*replace), "utf-8")
        monkeypatch.setattr(ebpf_program, "PROBES", source)
        monkeypatch.setattr(ebpf_program, "RING_PAGES", pages)
        try:
            programs.append(ebpf_program.load_program())
        except SensorUnavailableError as refused:
            pytest.skip(refused.message)
        return programs[-1]

    yield loaded
    for program in programs:
        program.close()


def test_what_a_full_ring_turns_away_is_counted(load):
    program = load(pages=4)
    raw = []
    ring = RingBuffer(program.maps["records"], lambda record: raw.append(record) or True)
    for _ in range(100):
        subprocess.run(["/bin/true"], check=True)
    lost = ProcessorTotals(program.maps["lost"])
    ring.consume()
    executed = sum(parse_header(record).kind == RecordKind.EXEC for record in raw)
    assert lost.total(RecordKind.EXEC) > 0
    assert executed + lost.total(RecordKind.EXEC) >= 100
    assert lost.total(999) == 0
    ring.close()
    ring.close()


def test_the_module_probe_works_on_a_tracepoint_with_the_same_field(load):
    """This kernel may have no modules; a network device's name stands in for a module's."""
    program = load(
        pages=256,
        replace=("#ifdef HAS_MODULES\nTRACEPOINT_PROBE(module, module_load)", "#if 1\nTRACEPOINT_PROBE(net, netif_rx)"),
    )
    raw = []
    ring = RingBuffer(program.maps["records"], lambda record: raw.append(record) or True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("127.0.0.1", 7010))
    ring.poll(1000)
    ring.consume()
    ring.close()
    names = [parse_module(record) for record in raw if parse_header(record).kind == RecordKind.MODULE]
    assert "lo" in names


def test_what_the_reader_itself_opens_and_connects_is_left_out(sensor, tmp_path):
    (tmp_path / "own").write_text("x")
    with socket.socket() as client:
        client.connect_ex(("127.0.0.1", 1))
    time.sleep(0.05)
    events = list(sensor.poll(0.2).rows())
    assert [each for each in events if each.pid == os.getpid() and each.event_class != EventClass.DNS_QUERY] == []
