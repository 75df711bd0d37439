"""The records that the probes put into the ring buffer, read from their bytes (`probes.c` has the other half)."""

from __future__ import annotations

import ipaddress
import struct
from enum import IntEnum
from typing import Final, NamedTuple

from eguard.sensor.names import decode_command_line, decode_name

# time, pid, parent's pid, user, kind, main threads, name, parent's name.
_HEADER: Final = struct.Struct("=QIIIHH16s16s")
_PATH_BYTES: Final = 256
_FILE: Final = struct.Struct(f"=iI{_PATH_BYTES}s")
# family, ports, whether established, addresses, duration, bytes.
_FLOW: Final = struct.Struct("=HHHH16s16sQQQ")
_CONTACT: Final = struct.Struct("=HH16s")
_AF_INET: Final = 2
#: Bits of `main_threads`: the parent's name, the process's own name is that of the main thread.
PARENT_MAIN: Final = 1
OWN_MAIN: Final = 2
#: The kernel's "relative to the working directory".
AT_FDCWD: Final = -100


class RecordKind(IntEnum):
    """What a record reports; the order is that of the probes' enumeration."""

    EXEC = 0
    EXIT = 1
    FILE_OPEN = 2
    CONNECT = 3
    DNS_SENDER = 4
    CLOSED = 5
    UDP_CONTACT = 6
    LISTEN = 7
    UNLISTEN = 8
    ACCEPT = 9
    MODULE = 10


class RecordHeader(NamedTuple):
    """What every record begins with. Without `parent_pid` the probes did not see the process start."""

    monotonic_ns: int
    pid: int
    parent_pid: int
    uid: int
    kind: int
    main_threads: int
    comm: str
    parent_comm: str


class ExecRecord(NamedTuple):
    """The rest of an execution."""

    path: str
    command_line: str


class FileRecord(NamedTuple):
    """The rest of an opening; `folder` is what a relative path starts from, `AT_FDCWD` or a descriptor."""

    folder: int
    flags: int
    path: str


class FlowRecord(NamedTuple):
    """The rest of a connection: at its start without duration and bytes, at its end with them.

    Of one that was accepted, and of a socket that begins or ends to listen, the source is this machine's side.
    """

    source_address: str
    source_port: int
    destination_address: str
    destination_port: int
    is_established: bool
    duration_seconds: float
    sent_bytes: int
    received_bytes: int


def parse_header(raw: bytes) -> RecordHeader:
    """Read the header of a record.

    Raises
    ------
    struct.error
        The record is shorter than its header.
    """
    monotonic_ns, pid, parent_pid, uid, kind, main_threads, comm, parent_comm = _HEADER.unpack_from(raw)
    return RecordHeader(
        monotonic_ns, pid, parent_pid, uid, kind, main_threads, decode_name(comm), decode_name(parent_comm)
    )


def parse_exec(raw: bytes) -> ExecRecord:
    """Read what follows the header of an execution."""
    start = _HEADER.size
    arguments = raw[start + _PATH_BYTES :]
    return ExecRecord(decode_name(raw[start : start + _PATH_BYTES]), decode_command_line(arguments))


def parse_file(raw: bytes) -> FileRecord:
    """Read what follows the header of an opening."""
    folder, flags, path = _FILE.unpack_from(raw, _HEADER.size)
    return FileRecord(folder, flags, decode_name(path))


def parse_flow(raw: bytes) -> FlowRecord:
    """Read what follows the header of a connection."""
    family, source_port, port, established, source, destination, duration_ns, sent, received = _FLOW.unpack_from(
        raw, _HEADER.size
    )
    return FlowRecord(
        _v6_address(source) if family != _AF_INET else _v4_in_v6(source),
        source_port,
        _v6_address(destination) if family != _AF_INET else _v4_in_v6(destination),
        port,
        bool(established),
        duration_ns / 1e9,
        sent,
        received,
    )


def parse_contact(raw: bytes) -> tuple[str, int]:
    """Read the address and port that a process sent a datagram to."""
    family, port, address = _CONTACT.unpack_from(raw, _HEADER.size)
    return (str(ipaddress.IPv4Address(address[:4])) if family == _AF_INET else _v6_address(address)), port


def parse_module(raw: bytes) -> str:
    """Read the name of a kernel module that was loaded."""
    return decode_name(raw[_HEADER.size :])


def _v4_in_v6(raw: bytes) -> str:
    # For an IPv4 socket the tracepoint fills its IPv6 field with the mapped address.
    return str(ipaddress.IPv4Address(raw[12:16]))


def _v6_address(raw: bytes) -> str:
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)
