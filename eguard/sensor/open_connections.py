"""Which TCP connections processes here began since the last look.

Two forms of one question. On Linux the tables of the kernel are read only when its count of begun connections has
risen, and the processes that hold the new ones are looked for only then; elsewhere psutil is asked for all each time.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from eguard.sensor.socket_holders import first_holders

#: psutil's names of the states in which a connection that was begun here may be found.
_PSUTIL_OPEN: Final = frozenset({"ESTABLISHED", "SYN_SENT", "CLOSE_WAIT", "FIN_WAIT1", "FIN_WAIT2"})
# The same states as /proc/net/tcp writes them, in this order, and that of a socket that listens.
_OPEN: Final = frozenset({b"01", b"02", b"08", b"04", b"05"})
_LISTEN: Final = b"0A"
_TABLES: Final = ("tcp", "tcp6")
_FIELDS: Final = 10
# Who had a connection lately is asked first whether it has the next one.
_HOLDERS: Final = 16


class NewConnection(NamedTuple):
    """A connection that began since the last look: who holds it (0 if nobody, or nobody knows), and the other end."""

    pid: int
    address: str
    port: int


class OpenConnections(Protocol):
    """The connections that are open, compared with those at the last look; at the first all are new."""

    def compare(self) -> list[NewConnection]:
        """Look, and return those that are new, sorted; connections to a port that listens here are not among them."""


class PsutilConnections:
    """The portable form.

    Parameters
    ----------
    psutil : module
        The package.
    """

    def __init__(self, psutil: Any) -> None:
        self._psutil = psutil
        self._known: set[tuple[str, int, str, int]] = set()

    def compare(self) -> list[NewConnection]:
        """Look, and return those that are new; none while the system refuses to list them."""
        try:
            listed = self._psutil.net_connections(kind="tcp")
        except (self._psutil.Error, OSError):
            return []
        listening = {each.laddr.port for each in listed if each.status == "LISTEN"}
        seen = {(*each.laddr, *each.raddr): each for each in listed if each.raddr and each.status in _PSUTIL_OPEN}
        new = [each for ends, each in seen.items() if ends not in self._known and each.laddr.port not in listening]
        self._known = set(seen)
        return sorted(NewConnection(each.pid or 0, each.raddr.ip, each.raddr.port) for each in new)


class ProcConnections:
    """The form for Linux.

    Parameters
    ----------
    folder : Path
        Where the kernel shows its tables.
    """

    def __init__(self, folder: Path = Path("/proc/net")) -> None:
        self._folder = folder
        self._begun: int | None = None
        self._known: dict[tuple[bytes, bytes], int] = {}
        self._holders: list[int] = []

    def compare(self) -> list[NewConnection]:
        """Look, and return those that are new; none while the tables cannot be read."""
        # Counted before it is listed: what begins in between is listed now and makes the count differ the next time.
        begun = begun_connections(self._read("snmp"))
        if begun is not None and begun == self._begun:
            return []
        self._begun = begun
        sockets = [each for table in _TABLES for each in parse_sockets(self._read(table))]
        listening = {each.local_port for each in sockets if each.state == _LISTEN}
        seen = {each.ends: each for each in sockets if each.state in _OPEN}
        new = [
            each for each in seen.values() if each.is_other_than(self._known) and each.local_port not in listening
        ]  # fmt: skip
        # Of a closed socket that lingers the table has no number any more.
        self._known = {ends: each.inode or self._known.get(ends, 0) for ends, each in seen.items()}
        holders = first_holders((each.inode for each in new if each.inode), self._holders)
        self._holders = list(dict.fromkeys((*sorted(holders.values()), *self._holders)))[:_HOLDERS]
        return sorted(NewConnection(holders.get(each.inode, 0), *each.remote()) for each in new)

    def _read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError:
            return b""


class TcpSocket(NamedTuple):
    """A line of ``/proc/net/tcp`` or ``tcp6``; both ends as written there."""

    ends: tuple[bytes, bytes]
    state: bytes
    inode: int

    @property
    def local_port(self) -> bytes:
        """The port on this side, as written."""
        return self.ends[0][-4:]

    def remote(self) -> tuple[str, int]:
        """Return address and port of the other side."""
        address, _, port = self.ends[1].partition(b":")
        # Each four bytes are written as the number that they are to this machine.
        raw = b"".join(struct.pack("=I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8))
        return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw), int(port, 16)

    def is_other_than(self, known: Mapping[tuple[bytes, bytes], int]) -> bool:
        """Return whether it was not there before: neither its ends nor, between the same ends, this very socket."""
        before = known.get(self.ends)
        return before is None or self.inode not in (0, before)


def parse_sockets(table: bytes) -> Iterator[TcpSocket]:
    """Yield the sockets of a table that listen, or that may have been connected from here.

    Examples
    --------
    >>> line = b"  0: 0100007F:8C3E 0100007F:0016 01 00000000:00000000 00:00000000 00000000  0  0 871 1 0 20"
    >>> found = next(parse_sockets(b"header" + bytes([10]) + line))
    >>> found.remote(), found.inode
    (('127.0.0.1', 22), 871)
    """
    for line in table.splitlines()[1:]:
        fields = line.split(None, _FIELDS)
        if len(fields) >= _FIELDS and (fields[3] in _OPEN or fields[3] == _LISTEN):
            yield TcpSocket((fields[1], fields[2]), fields[3], int(fields[9]))


def begun_connections(counts: bytes) -> int | None:
    """Return how many connections were begun from here, of either family; None if the text does not say.

    Parameters
    ----------
    counts : bytes
        The text of ``/proc/net/snmp``: for each protocol a line of names and one of numbers.

    Examples
    --------
    >>> begun_connections(b"Tcp: RtoMin ActiveOpens PassiveOpens" + bytes([10]) + b"Tcp: 200 17 5" + bytes([10]))
    17
    """
    rows = [line.split() for line in counts.splitlines() if line.startswith(b"Tcp:")]
    named = dict(zip(*rows[:2], strict=False)) if len(rows) >= 2 else {}
    begun = named.get(b"ActiveOpens", b"")
    return int(begun) if begun.isdigit() else None
