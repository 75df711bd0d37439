"""Headers and records, byte by byte as the page on the format gives them."""

import struct
import zlib

import pytest

from eguard.baseline.framing import (
    HEADER_BYTES,
    FileHeader,
    decode_snapshot,
    encode_journal_header,
    encode_record,
    encode_snapshot,
    scan_journal,
)
from eguard.errors import StoreCorruptError

HEADER = FileHeader(generation=3, operation=40, incarnation=bytes(range(16)), capacity=4096)


def journal(*operations, generation=3):
    records = [encode_record(generation, number, b"changes") for number in operations]
    return encode_journal_header(HEADER) + b"".join(records)


def test_a_snapshot_begins_with_the_documented_header():
    data = encode_snapshot(HEADER, b"body")
    rest = struct.pack("<QQQ16sII", 3, 40, 4, bytes(range(16)), 4096, 0)
    start = b"eGuardBS" + struct.pack("<I", 1)
    assert data == start + struct.pack("<I", zlib.crc32(start + rest + b"body")) + rest + b"body"
    assert decode_snapshot(data) == (HEADER, b"body")


def test_records_follow_one_another():
    scan = scan_journal(journal(41, 42))
    assert [(record.operation, record.changes) for record in scan.records] == [(41, b"changes"), (42, b"changes")]
    assert scan.ending == "whole"


@pytest.mark.parametrize("operations", [(42,), (41, 43), (41, 41), (40,)], ids=["gap", "later-gap", "twice", "before"])
def test_operations_out_of_turn_are_damage(operations):
    scan = scan_journal(journal(*operations))
    assert scan.ending == "damaged"
    assert len(scan.records) == (operations[0] == 41)


def test_a_record_of_another_generation_is_damage():
    assert scan_journal(journal(41, generation=2)).ending == "damaged"


def test_a_tail_is_torn_only_if_no_record_follows():
    whole = journal(41)
    assert scan_journal(whole + b"eGjr").ending == "torn"
    assert scan_journal(whole + b"?" + encode_record(3, 42, b"")).ending == "damaged"
    assert scan_journal(whole + b"eGjr" * 100).valid_bytes == len(whole)


def test_many_false_beginnings_do_not_take_for_ever():
    fake = b"eGjr" + struct.pack("<II", 1 << 25, 0)
    scan = scan_journal(journal(41) + fake * 20_000)
    assert scan.ending in {"torn", "damaged"}


@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES - 1], ids=["nothing", "a-byte", "almost"])
def test_less_than_a_header_is_refused(length):
    with pytest.raises(StoreCorruptError):
        scan_journal(journal()[:length])


def test_a_snapshot_is_no_journal():
    with pytest.raises(StoreCorruptError, match="begin"):
        scan_journal(encode_snapshot(HEADER, b""))
