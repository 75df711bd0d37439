"""Who listens where.

An inbound connection is complete before any process has accepted it; what can be told then is whose port it came to.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from eguard.sensor.socket_holders import oldest_holders

_LISTEN_STATE: Final = "0A"
_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to
_SCAN_SECONDS: Final = 5.0
#: Ports whose listeners are remembered.
_PORTS: Final = 65_536
_LISTENERS_PER_PORT: Final = 8


class Listener(NamedTuple):
    """A listening socket: its local address and the process that holds it."""

    address: str
    pid: int


@dataclass(frozen=True, slots=True)
class ListeningSocket:
    """One line of ``/proc/net/tcp`` about a socket that listens; of its address, whether it is any."""

    port: int
    is_wildcard: bool
    inode: int


def parse_listening_sockets(text: str) -> Iterator[ListeningSocket]:
    """Yield the listening sockets in the text of ``/proc/net/tcp`` or ``tcp6``.

    Examples
    --------
    >>> line = "  0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 871 1 0 100"
    >>> list(parse_listening_sockets("header" + chr(10) + line))
    [ListeningSocket(port=22, is_wildcard=True, inode=871)]
    """
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN_STATE:
            address, _, port = fields[1].partition(":")
            yield ListeningSocket(int(port, 16), not address.strip("0"), int(fields[9]))


class Listeners:
    """Listening sockets by port, from the sockets that were there and from those that came and went since.

    Two processes may listen on one port, at different addresses or in different network namespaces. Whoever listens at
    the very address is meant, else the last that listens at any.
    """

    def __init__(self) -> None:
        self._by_port: dict[int, list[Listener]] = {}
        self._next_scan = 0.0

    def scan(self) -> None:
        """Take in the sockets that listen already, as far as /proc shows whose they are."""
        self._next_scan = time.monotonic() + _SCAN_SECONDS
        listening = list(_listening_sockets())
        # Who began to listen is the oldest that holds the socket; its children may have inherited it.
        holders = oldest_holders(each.inode for each in listening)
        for each in listening:
            pid = holders.get(each.inode, 0)
            if pid and not any(known.pid == pid for known in self._by_port.get(each.port, ())):
                self.started(each.port, "::" if each.is_wildcard else "", pid)

    def started(self, port: int, address: str, pid: int) -> None:
        """Take in a socket that began to listen."""
        here = self._by_port.setdefault(port, [])
        listener = Listener(address, pid)
        if listener in here:
            here.remove(listener)
        here.append(listener)
        del here[:-_LISTENERS_PER_PORT]
        if len(self._by_port) > _PORTS:
            self._by_port.pop(next(iter(self._by_port)))

    def ended(self, port: int, address: str, pid: int) -> None:
        """Forget a socket that stopped to listen."""
        here = self._by_port.get(port, [])
        left = [each for each in here if each.pid != pid or (each.address not in (address, ""))]
        if left:
            self._by_port[port] = left
        else:
            self._by_port.pop(port, None)

    def find(self, port: int, address: str) -> int:
        """Return the process that listens on a port for connections to `address`; 0 if nobody knows."""
        here = self._by_port.get(port)
        if not here and time.monotonic() >= self._next_scan:
            self.scan()
            here = self._by_port.get(port)
        if not here:
            return 0
        exact = [each.pid for each in here if each.address == address]
        wild = [each.pid for each in here if each.address in _WILDCARDS]
        return (exact or wild or [each.pid for each in here])[-1]


def _listening_sockets() -> Iterator[ListeningSocket]:
    for name in ("tcp", "tcp6"):
        try:
            yield from parse_listening_sockets(Path("/proc/net", name).read_text("ascii"))
        except OSError:
            continue
