"""The kernel's process connector: its netlink messages, read and written byte by byte.

References
----------
Linux, ``include/uapi/linux/{netlink,connector,cn_proc}.h``.
"""

from __future__ import annotations

import os
import struct
from enum import IntEnum
from typing import Final, NamedTuple

NETLINK_CONNECTOR: Final = 11
#: Multicast group and identity of the process connector (CN_IDX_PROC, CN_VAL_PROC).
PROC_GROUP: Final = 1
_NLMSG_DONE: Final = 3
_LISTEN: Final = 1
_IGNORE: Final = 2
_ACK_CPU: Final = 0xFFFF_FFFF

# nlmsghdr (length, type, flags, sequence, port), cn_msg (index, value, sequence, ack, length, flags).
_HEADERS: Final = struct.Struct("=IHHII IIIIHH")
# proc_event: what, cpu, time; then a union of which at most four numbers matter.
_EVENT: Final = struct.Struct("=IIQ")
_PIDS: Final = struct.Struct("=IIII")
_ALIGNMENT: Final = 4


class ProcEventKind(IntEnum):
    """The kinds of message that are used; the connector has more."""

    ACK = 0x0
    FORK = 0x1
    EXEC = 0x2
    UID = 0x4
    COMM = 0x200
    EXIT = 0x8000_0000


class ProcMessage(NamedTuple):
    """One message.

    `numbers` are the first four 32-bit words of its body: for FORK the parent's thread and process and the child's
    thread and process; for the others the thread and the process come first; for ACK the error number.
    """

    kind: int
    cpu: int
    sequence: int
    monotonic_ns: int
    numbers: tuple[int, int, int, int]


def control_message(*, listen: bool) -> bytes:
    """Return the message that switches the stream on or off for this socket."""
    operation = struct.pack("=I", _LISTEN if listen else _IGNORE)
    length = _HEADERS.size + len(operation)
    return (
        _HEADERS.pack(length, _NLMSG_DONE, 0, 0, os.getpid(), PROC_GROUP, PROC_GROUP, 0, 0, len(operation), 0)
        + operation
    )


def parse_messages(datagram: bytes) -> list[ProcMessage]:
    """Read the messages of one datagram; a torn or foreign one ends the reading."""
    messages = []
    offset = 0
    while offset + _HEADERS.size + _EVENT.size <= len(datagram):
        length, _, _, _, _, index, value, sequence, _, _, _ = _HEADERS.unpack_from(datagram, offset)
        end = offset + length
        body = offset + _HEADERS.size
        if index != PROC_GROUP or value != PROC_GROUP or length < _HEADERS.size + _EVENT.size or end > len(datagram):
            break
        kind, cpu, monotonic_ns = _EVENT.unpack_from(datagram, body)
        rest = datagram[body + _EVENT.size : end][: _PIDS.size].ljust(_PIDS.size, b"\x00")
        messages.append(ProcMessage(kind, cpu, sequence, monotonic_ns, _PIDS.unpack(rest)))
        offset += length + (-length) % _ALIGNMENT
    return messages


class SequenceGaps:
    """Counts the messages that never arrived: every CPU numbers its own.

    Examples
    --------
    >>> gaps = SequenceGaps()
    >>> [gaps.missed_before(ProcMessage(2, 0, sequence, 0, (0, 0, 0, 0))) for sequence in (7, 8, 11)]
    [0, 0, 2]
    """

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def missed_before(self, message: ProcMessage) -> int:
        """Return how many messages of its CPU are missing between the last one and this."""
        if message.cpu == _ACK_CPU or message.kind == ProcEventKind.ACK:
            return 0
        expected = self._next.get(message.cpu, message.sequence)
        self._next[message.cpu] = (message.sequence + 1) & 0xFFFF_FFFF
        missed = (message.sequence - expected) & 0xFFFF_FFFF
        # A step back is the stream's restart, not four thousand million losses.
        return missed if missed < 0x8000_0000 else 0
