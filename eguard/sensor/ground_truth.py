"""Things that happen by script, so that it is known what a sensor should have seen.

Run as a program of its own (``python -m eguard.sensor.ground_truth SETTINGS``) it executes programs, connects, accepts,
sends datagrams, writes files and asks name servers, at a given pace, on loopback and in a temporary folder, and prints
what it did.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from eguard.sensor.names import comm_of_path
from eguard.sensor.procfs import parse_stat

#: The programs' names: ordinary, long, and such as somebody would choose to do harm.
PROGRAM_NAMES: Final = (
    *(b"tool-%d" % number for number in range(12)),
    b"a-name-longer-than-fifteen-bytes",
    b"with blank",
    b"per%cent:colon",
    b"\x1b[31mred\x07",
    b"new\nline",
    b"\xff\xfe\xfd",
    "ñandú-日本語-日本".encode(),
    b"(S) 1 2 3",
)
DNS_ADDRESS: Final = "127.7.7.53"
_DATAGRAM_ADDRESSES: Final = ((socket.AF_INET, "127.7.7.77"), (socket.AF_INET6, "::1"))
_FIRST_DATAGRAM_PORT: Final = 20_000
_PARENTS: Final = 5


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of everything, and how many of it in a second."""

    execs: int = 1000
    connects: int = 300
    writes: int = 300
    queries: int = 200
    datagrams: int = 200
    per_second: float = 200.0


class Deed(msgspec.Struct, frozen=True):
    """One thing that was done: its kind, what identifies it, and the process key it belongs to.

    The kind is an event class, or the event type where a class has several: ``udp_connect``, ``tcp_accept``.
    """

    kind: str
    identity: str
    comm: str
    parent_comm: str


def perform(settings: Settings) -> list[Deed]:
    """Do it all and return what was done."""
    deeds: list[Deed] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eguard-parity-")))
        servers = [
            stack.enter_context(socket.create_server((host, 0), family=family, backlog=512))
            for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
        ]
        sink = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        # Only so that no "unreachable" comes back; nobody answers, so that two runs may share it.
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sink.bind((DNS_ADDRESS, 53))
        deeds += _executions(settings, folder)
        for number in range(_PARENTS):
            deeds += _in_child(f"worker-{number}", lambda number=number: _share(settings, number, folder, servers))  # type: ignore[misc]
            _drain(servers)
    return deeds


def _executions(settings: Settings, folder: Path) -> Iterator[Deed]:
    paths = [os.fsencode(folder) + b"/" + name for name in PROGRAM_NAMES]
    for path in paths:
        os.symlink(b"/bin/true", path)  # noqa: PTH211 - a path object holds no bytes
    # A fifth of them has parents of other names.
    for number in range(_PARENTS + 1):
        share = range(number, settings.execs, _PARENTS + 1)
        if number < _PARENTS:
            yield from _in_child(f"parent-{number}", lambda share=share: list(_spawn(settings, share, paths)))  # type: ignore[misc]
        else:
            yield from _spawn(settings, share, paths)


def _spawn(settings: Settings, share: range, paths: list[bytes]) -> Iterator[Deed]:
    parent_comm = _own_comm()
    for number in _paced(share, settings.per_second):
        path = paths[number % len(paths)]
        pid = os.posix_spawn(path, [path, str(number).encode()], {})
        os.waitpid(pid, 0)
        yield Deed("process_exec", str(pid), comm_of_path(os.fsdecode(path)), parent_comm)


def _share(settings: Settings, worker: int, folder: Path, servers: list[socket.socket]) -> list[Deed]:
    deeds = []
    own, parent = _own_comm(), _read_comm(os.getppid())
    # The sockets that connections come to are the parent's.
    listener = (parent, _read_comm(parent_of(os.getppid())))
    for number in _paced(range(worker, settings.connects, _PARENTS), settings.per_second):
        server = servers[number // _PARENTS % len(servers)]
        address, port = server.getsockname()[:2]
        with socket.create_connection((address, port)) as client:
            client.sendall(b"x" * number)
            deeds.append(Deed("tcp_accept", "{} {}".format(*client.getsockname()), *listener))
        deeds.append(Deed("network_connect", f"{address} {port}", own, parent))
    for number in _paced(range(worker, settings.writes, _PARENTS), settings.per_second):
        path = folder / f"file-{number}"
        path.write_bytes(b"x")
        deeds.append(Deed("file_open", str(path), own, parent))
    for number in _paced(range(worker, settings.queries, _PARENTS), settings.per_second):
        name = f"q{number}.parity.test"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect((DNS_ADDRESS, 53))
            client.send(question(name))
        deeds.append(Deed("dns_query", name, own, parent))
    deeds += [
        Deed("udp_connect", "{} {}".format(*send_datagram(number)), own, parent)
        for number in _paced(range(worker, settings.datagrams, _PARENTS), settings.per_second)
    ]
    return deeds


def send_datagram(number: int) -> tuple[str, int]:
    """Send a datagram to a port of its own, by another call each time, and return where it went."""
    family, address = _DATAGRAM_ADDRESSES[number // 4 % 2]
    destination = (address, _FIRST_DATAGRAM_PORT + number)
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        if number % 4 == 0:
            client.sendto(b"x", destination)
        elif number % 4 == 1:
            client.sendmsg([b"x"], [], 0, destination)
        else:
            client.connect(destination)
            if number % 4 == 2:
                client.send(b"x")
            else:
                os.write(client.fileno(), b"x")
    return destination


def parent_of(pid: int) -> int:
    """Return the number of a process's parent."""
    return parse_stat(Path(f"/proc/{pid}/stat").read_bytes()).parent_pid


def question(name: str) -> bytes:
    """Return the DNS query for the addresses of `name`.

    Examples
    --------
    >>> question("a.test").hex()
    '000101000001000000000000016104746573740000010001'
    """
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split("."))
    return struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 0) + labels + b"\x00" + struct.pack(">HH", 1, 1)


def _in_child(name: str, work: Callable[[], list[Deed]]) -> list[Deed]:
    """Do the work in a child process that calls itself `name`."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            Path("/proc/self/comm").write_text(name, "utf-8")
            with os.fdopen(writing, "wb") as stream:
                stream.write(msgspec.json.encode(work()))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        raw = stream.read()
    os.waitpid(pid, 0)
    return msgspec.json.decode(raw, type=list[Deed])


def _drain(servers: list[socket.socket]) -> None:
    for server in servers:
        server.setblocking(False)  # noqa: FBT003 - the socket's own signature
        try:
            while True:
                server.accept()[0].close()
        except BlockingIOError:
            server.setblocking(True)  # noqa: FBT003 - the socket's own signature


def _paced(numbers: range, per_second: float) -> Iterator[int]:
    started = time.monotonic()
    for done, number in enumerate(numbers):
        time.sleep(max(started + done / per_second - time.monotonic(), 0.0))
        yield number


def _own_comm() -> str:
    return _read_comm(os.getpid())


def _read_comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text("utf-8").rstrip("\n")


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(perform(msgspec.json.decode(sys.argv[1], type=Settings))))
