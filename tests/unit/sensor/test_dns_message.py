import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.sensor.dns_message import DnsPacket, parse_query_packet, parse_question

QUESTION = bytes.fromhex("12340100000100000000000003777777076578616d706c6503636f6d0000010001")


def _ipv4(payload, port=53, protocol=17, options=b""):
    udp = struct.pack(">HHHH", 40000, port, 8 + len(payload), 0) + payload
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45 + len(options) // 4, 0, 20 + len(options) + len(udp), 1, 0, 64, protocol, 0,
        ipaddress.IPv4Address("10.0.0.1").packed, ipaddress.IPv4Address("10.0.0.53").packed,
    )  # fmt: skip
    return header + options + udp


def _ipv6(payload, next_header=17):
    udp = struct.pack(">HHHH", 40001, 53, 8 + len(payload), 0) + payload
    ends = ipaddress.IPv6Address("fd00::1").packed + ipaddress.IPv6Address("fd00::53").packed
    return struct.pack(">IHBB", 0x60000000, len(udp), next_header, 64) + ends + udp


def test_queries_are_read_from_both_protocols():
    assert parse_query_packet(_ipv4(QUESTION)) == DnsPacket("www.example.com", "10.0.0.1", 40000, "10.0.0.53", 53, 33)
    assert parse_query_packet(_ipv6(QUESTION)) == DnsPacket("www.example.com", "fd00::1", 40001, "fd00::53", 53, 33)


def test_options_of_the_header_are_stepped_over():
    assert parse_query_packet(_ipv4(QUESTION, options=bytes(8))).name == "www.example.com"


@pytest.mark.parametrize(
    "packet",
    [_ipv4(QUESTION, port=5353), _ipv4(QUESTION, protocol=6), _ipv6(QUESTION, next_header=58), b"", b"\x45" * 19],
    ids=["port", "tcp", "icmp6", "empty", "short"],
)
def test_anything_else_is_left_alone(packet):
    assert parse_query_packet(packet) is None


def test_every_truncation_is_no_query():
    packet = _ipv4(QUESTION)
    cut = [parse_query_packet(packet[:length]) for length in range(len(packet) - 4)]
    assert {each.name for each in cut if each is not None} == {""}
    assert cut[:28] == [None] * 28


def test_what_is_no_query_but_goes_to_that_port_has_no_name_and_answers_are_left_alone():
    beacon = parse_query_packet(_ipv4(b"any bytes that are no query"))
    assert (beacon.name, beacon.destination_address, beacon.payload_bytes) == ("", "10.0.0.53", 27)
    assert parse_query_packet(_ipv4(b"")).name == ""
    assert parse_query_packet(_ipv4(QUESTION[:2] + b"\x81\x80" + QUESTION[4:])) is None


def test_hostile_labels_are_escaped_and_cannot_forge_a_dot():
    name = b"\x05a.b\\c" + b"\x03\x1b[2" + b"\x00"
    assert parse_question(QUESTION[:12] + name + b"\x00\x01\x00\x01") == r"a\046b\092c.\027[2"


@pytest.mark.parametrize(
    "message",
    [
        QUESTION[:2] + b"\x81\x80" + QUESTION[4:],
        QUESTION[:4] + b"\x00\x00" + QUESTION[6:],
        QUESTION[:12] + b"\xc0\x0c\x00\x01\x00\x01",
        QUESTION[:12] + b"\x3f" * 400 + b"\x00",
        QUESTION[:5],
    ],
    ids=["response", "nothing-asked", "compressed", "too-long", "short"],
)
def test_what_is_no_query_is_refused(message):
    with pytest.raises(ValueError, match=r"query|name|short"):
        parse_question(message)


def test_the_root_has_a_name():
    assert parse_question(QUESTION[:12] + b"\x00\x00\x02\x00\x01") == "."


@given(st.binary(max_size=120))
def test_no_bytes_make_it_stumble(raw):
    packet = parse_query_packet(b"\x45" + raw)
    assert packet is None or packet.name.isprintable()
