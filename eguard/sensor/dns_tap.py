"""DNS queries as they leave: a packet socket that sees UDP to port 53, and the process behind each query.

No tracepoint carries the name that was asked for, the packet does. What the packet does not carry is the process: it is
found by the local port, in ``/proc/net/udp`` and the open files of the processes that are likely. Queries over TCP,
TLS or HTTPS are connections like any other and are not read.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from eguard.events import Event, EventClass
from eguard.sensor.describe import describe_event
from eguard.sensor.dns_message import DNS_PORT, DnsPacket, parse_query_packet
from eguard.sensor.process_table import KnownProcess
from eguard.sensor.socket_holders import holder_of

# Constants of <linux/if_packet.h> and <asm-generic/socket.h> that Python's socket module does not name.
_ETH_P_ALL: Final = 3
_PACKET_OUTGOING: Final = 4
_SOL_PACKET: Final = 263
_PACKET_STATISTICS: Final = 6
_SO_ATTACH_FILTER: Final = 26
_SO_RCVBUFFORCE: Final = 33
_RECEIVE_BUFFER_BYTES: Final = 4 * 1024 * 1024
_PACKET_BYTES: Final = 1024
#: Local ports whose owner is remembered, and for how long.
_OWNERS: Final = 4096
_OWNER_SECONDS: Final = 5.0

# (code, jump if true, jump if false, constant): accept UDP to port 53 that the packet socket sees from the network
# header on, IPv4 without a fragment offset, or IPv6 without extension headers.
_FILTER: Final = (
    (0x30, 0, 0, 0),  # ldb [0]
    (0x54, 0, 0, 0xF0),  # and #0xf0
    (0x15, 0, 7, 0x40),  # version 4, or look at version 6
    (0x30, 0, 0, 9),  # ldb [9], the protocol
    (0x15, 0, 10, 17),  # UDP, or reject
    (0x28, 0, 0, 6),  # ldh [6], the fragment offset
    (0x45, 8, 0, 0x1FFF),  # a later fragment: reject
    (0xB1, 0, 0, 0),  # ldxb 4*([0]&0xf), the header's length
    (0x48, 0, 0, 2),  # ldh [x + 2], the destination port
    (0x15, 6, 5, DNS_PORT),
    (0x15, 0, 4, 0x60),  # version 6, or reject
    (0x30, 0, 0, 6),  # ldb [6], the next header
    (0x15, 0, 2, 17),
    (0x28, 0, 0, 42),  # ldh [42], the destination port
    (0x15, 1, 0, DNS_PORT),
    (0x06, 0, 0, 0),  # reject
    (0x06, 0, 0, _PACKET_BYTES),  # accept
)


@dataclass(frozen=True, slots=True)
class DnsQuery:
    """A query and the process that sent it; pid 0 if it could not be told. Without a name it is no query."""

    time_unix: float
    name: str
    pid: int
    destination_address: str
    destination_port: int
    payload_bytes: int

    def to_event(self, process: KnownProcess, host_id: str, source: str) -> Event:
        """Return the query as an event of `process`; what only went to the port of queries is a connection."""
        return describe_event(
            process,
            time_unix=self.time_unix,
            host_id=host_id,
            source=source,
            event_class=EventClass.DNS_QUERY if self.name else EventClass.NETWORK_CONNECT,
            event_type="dns_query" if self.name else "udp_connect",
            target=self.name,
            destination_address=self.destination_address,
            destination_port=self.destination_port,
            sent_bytes=self.payload_bytes,
        )


@dataclass
class DnsTap:
    """The packet socket. It needs CAP_NET_RAW; without, `open` says no and `receive` returns nothing.

    `owner` is asked for the process of a query; by default the holder of the socket is looked up.
    """

    lost: int = 0
    reason: str = ""
    owner: Callable[[DnsPacket], int] | None = None
    _socket: socket.socket | None = None
    _owners: dict[tuple[str, int], tuple[float, int]] = field(default_factory=dict)

    @property
    def descriptors(self) -> list[int]:
        """Return what to wait on."""
        return [] if self._socket is None else [self._socket.fileno()]

    def open(self) -> bool:
        """Open the tap; return whether it works, with the `reason` if it does not."""
        try:
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.htons(_ETH_P_ALL))
        except (AttributeError, OSError) as error:
            self.reason = f"no packet socket: {error}"
            return False
        instructions = b"".join(struct.pack("=HBBI", *each) for each in _FILTER)
        program = ctypes.create_string_buffer(instructions, len(instructions))
        tap.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_FILTER), ctypes.addressof(program))
        )
        tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        tap.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._socket = tap
        # What came before the filter is nobody's loss.
        self.receive()
        self.lost = 0
        return True

    def receive(self) -> list[tuple[float, DnsPacket]]:
        """Return the queries that left since the last call, with the times at which they were read."""
        received: list[tuple[float, DnsPacket]] = []
        if self._socket is None:
            return received
        while True:
            try:
                raw, address = self._socket.recvfrom(_PACKET_BYTES)
            except BlockingIOError:
                break
            # On loopback a packet is seen twice, on its way out and in; queries of others only come in.
            packet = parse_query_packet(raw) if address[2] == _PACKET_OUTGOING else None
            if packet is not None:
                received.append((time.time(), packet))
        # The kernel resets the figure when it is read.
        statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self.lost += struct.unpack("=II", statistics)[1]
        return received

    def ascribe(self, received: Iterable[tuple[float, DnsPacket]]) -> Iterator[DnsQuery]:
        """Yield received queries with their processes. Whoever helps to find those is brought up to date before."""
        for time_unix, packet in received:
            yield DnsQuery(
                time_unix,
                packet.name,
                self._owner(packet),
                packet.destination_address,
                packet.destination_port,
                packet.payload_bytes,
            )

    def close(self) -> None:
        """Close the tap."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _owner(self, packet: DnsPacket) -> int:
        if self.owner is not None:
            return self.owner(packet)
        now = time.monotonic()
        local = (packet.source_address, packet.source_port)
        known = self._owners.get(local)
        if known is not None and now - known[0] < _OWNER_SECONDS:
            return known[1]
        pid = owner_of(packet)
        if len(self._owners) >= _OWNERS:
            self._owners.clear()
        self._owners[local] = (now, pid)
        return pid


def owner_of(packet: DnsPacket, candidates: Sequence[int] = ()) -> int:
    """Return the process that holds the socket of a query, 0 if it has gone; `candidates` are asked first."""
    inode = _socket_inode(packet.source_port, ipv6=":" in packet.source_address)
    return 0 if inode == 0 else holder_of(inode, candidates)


def parse_socket_table(text: str, port: int) -> int:
    """Return the inode of the socket bound to a local port in the text of ``/proc/net/udp``; 0 if there is none.

    Examples
    --------
    >>> line = " 12: 0100007F:A3C1 3500007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 9911 2 0 0"
    >>> parse_socket_table("header" + chr(10) + line, 0xA3C1)
    9911
    """
    wanted = f"{port:04X}"
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[1].endswith(":" + wanted):
            return int(fields[9])
    return 0


def _socket_inode(port: int, *, ipv6: bool) -> int:
    # A dual-stack socket that talks IPv4 stands in the table of IPv6.
    names = ("udp6",) if ipv6 else ("udp", "udp6")
    for name in names:
        try:
            inode = parse_socket_table(Path("/proc/net", name).read_text("ascii"), port)
        except OSError:
            continue
        if inode:
            return inode
    return 0
