"""The question of a DNS query, read from an IP packet as it leaves the machine.

References
----------
RFC 1035, sections 4.1.1 and 4.1.2; RFC 791; RFC 8200.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final, NamedTuple

DNS_PORT: Final = 53
_UDP: Final = 17
_UDP_HEADER_BYTES: Final = 8
_DNS_HEADER: Final = struct.Struct(">HHHHHH")
_IPV6_HEADER_BYTES: Final = 40
_RESPONSE_FLAG: Final = 0x8000
_MAX_NAME_BYTES: Final = 255


class DnsPacket(NamedTuple):
    """What went to a name server's port, with the addresses it travels between.

    `name` is what the query asks for, without final dot; the root is ``.``. It is empty if the packet is no query: the
    port alone makes no name server of whoever is behind it.
    """

    name: str
    source_address: str
    source_port: int
    destination_address: str
    destination_port: int
    payload_bytes: int


def parse_query_packet(packet: bytes) -> DnsPacket | None:
    """Read an IPv4 or IPv6 packet that goes to port 53 over UDP; None if it goes elsewhere or is an answer."""
    try:
        if packet[0] >> 4 == 4:
            source, destination, udp = _ipv4(packet)
        else:
            source, destination, udp = _ipv6(packet)
        source_port, destination_port = struct.unpack_from(">HH4x", packet, udp)
        if destination_port != DNS_PORT:
            return None
    except (IndexError, struct.error, ValueError):
        return None
    payload = packet[udp + _UDP_HEADER_BYTES :]
    if is_response(payload):
        return None
    try:
        name = parse_question(payload)
    except (IndexError, ValueError):
        name = ""
    return DnsPacket(name, source, source_port, destination, destination_port, len(payload))


def is_response(message: bytes) -> bool:
    """Return whether a message is an answer, as far as its header says."""
    return len(message) >= _DNS_HEADER.size and bool(_DNS_HEADER.unpack_from(message)[1] & _RESPONSE_FLAG)


def parse_question(message: bytes) -> str:
    r"""Return the name of a query's first question.

    Bytes other than printable ASCII, and dots and backslashes inside a label, appear as ``\DDD`` (RFC 4343).

    Raises
    ------
    ValueError
        The message is a response, asks nothing, or its name is cut off, compressed or too long.

    Examples
    --------
    >>> parse_question(bytes.fromhex("12340100000100000000000003777777076578616d706c6503636f6d0000010001"))
    'www.example.com'
    """
    if len(message) < _DNS_HEADER.size:
        raise ValueError("too short for a DNS message")
    _, flags, questions, _, _, _ = _DNS_HEADER.unpack_from(message)
    if flags & _RESPONSE_FLAG or questions == 0:
        raise ValueError("no query")
    labels = []
    offset = _DNS_HEADER.size
    while length := message[offset]:
        if length > 63 or offset + 1 + length >= len(message) or offset - _DNS_HEADER.size > _MAX_NAME_BYTES:
            raise ValueError("the name is cut off, compressed or too long")
        labels.append("".join(map(_printable, message[offset + 1 : offset + 1 + length])))
        offset += 1 + length
    return ".".join(labels) or "."


def _printable(byte: int) -> str:
    return chr(byte) if 0x21 <= byte <= 0x7E and byte not in b".\\" else f"\\{byte:03d}"


def _ipv4(packet: bytes) -> tuple[str, str, int]:
    if packet[9] != _UDP:
        raise ValueError("not UDP")
    source, destination = ipaddress.IPv4Address(packet[12:16]), ipaddress.IPv4Address(packet[16:20])
    return str(source), str(destination), 4 * (packet[0] & 0x0F)


def _ipv6(packet: bytes) -> tuple[str, str, int]:
    if packet[0] >> 4 != 6 or packet[6] != _UDP:
        raise ValueError("not UDP over IPv6")
    source, destination = ipaddress.IPv6Address(packet[8:24]), ipaddress.IPv6Address(packet[24:40])
    return str(source), str(destination), _IPV6_HEADER_BYTES
