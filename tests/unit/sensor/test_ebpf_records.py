import ipaddress
import struct

import pytest

from eguard.sensor.ebpf_records import (
    AT_FDCWD,
    RecordKind,
    parse_contact,
    parse_exec,
    parse_file,
    parse_flow,
    parse_header,
    parse_module,
)


def _header(kind, comm=b"curl", parent_comm=b"bash"):
    return struct.pack("=QIIIHH16s16s", 5_000_000_000, 812, 700, 1000, kind, 1, comm, parent_comm)


def _flow(family, destination, *, established=1):
    source = bytes(16)
    return _header(RecordKind.CLOSED) + struct.pack(
        "=HHHH16s16sQQQ", family, 40000, 443, established, source, destination, 2_500_000_000, 1000, 50
    )


def test_a_header_is_read_from_its_bytes():
    header = parse_header(_header(RecordKind.EXEC, comm=b"\x1b[2J\xff" + b"\x00" * 11))
    assert (header.monotonic_ns, header.pid, header.parent_pid, header.uid) == (5_000_000_000, 812, 700, 1000)
    assert (header.kind, header.comm, header.parent_comm) == (RecordKind.EXEC, "\x1b[2J\\xff", "bash")


def test_a_torn_header_is_an_error_and_not_a_guess():
    with pytest.raises(struct.error):
        parse_header(_header(RecordKind.EXIT)[:55])


def test_an_execution_carries_its_path_and_arguments():
    raw = _header(RecordKind.EXEC) + b"/usr/bin/curl".ljust(256, b"\x00") + b"curl\x00-s\x00http://x\x00"
    assert parse_exec(raw) == ("/usr/bin/curl", "curl -s http://x")
    assert parse_exec(raw[: 56 + 256]).command_line == ""


def test_an_opening_carries_its_folder_flags_and_path():
    raw = _header(RecordKind.FILE_OPEN) + struct.pack("=iI256s", -100, 0x241, b"notes.txt")
    assert parse_file(raw) == (AT_FDCWD, 0x241, "notes.txt")


def test_a_connection_carries_addresses_of_both_families_and_its_account():
    mapped = ipaddress.IPv6Address("::ffff:192.0.2.7").packed
    flow = parse_flow(_flow(2, mapped))
    assert (flow.destination_address, flow.destination_port, flow.is_established) == ("192.0.2.7", 443, True)
    assert (flow.duration_seconds, flow.sent_bytes, flow.received_bytes) == (2.5, 1000, 50)
    assert parse_flow(_flow(10, ipaddress.IPv6Address("2001:db8::7").packed)).destination_address == "2001:db8::7"
    assert parse_flow(_flow(10, mapped, established=0)).destination_address == "192.0.2.7"


def test_the_server_that_a_process_turned_to_is_read_for_both_families():
    four = _header(RecordKind.DNS_SENDER) + struct.pack("=HH16sI", 2, 53, b"\x0a\x00\x00\x35", 0)
    six = _header(RecordKind.DNS_SENDER) + struct.pack("=HH16sI", 10, 53, ipaddress.IPv6Address("fd00::53").packed, 0)
    assert (parse_contact(four), parse_contact(six)) == (("10.0.0.53", 53), ("fd00::53", 53))


def test_a_module_carries_its_name_and_the_kernels_padding_is_no_part_of_it():
    raw = _header(RecordKind.MODULE, comm=b"modprobe") + b"nf_tables".ljust(64, b"\x00")
    assert (parse_header(raw).comm, parse_module(raw)) == ("modprobe", "nf_tables")
