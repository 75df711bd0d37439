import struct

import pytest

from eguard.sensor.btf import KERNEL_BTF, member_offsets

STRINGS = b"\x00int\x00tcp_sock\x00bytes_sent\x00flags\x00"


def _btf(*, bit_fields=False):
    def at(text):
        return STRINGS.index(text + b"\x00")

    offset = (1 << 24 | 12 * 8) if bit_fields else 12 * 8
    integer = struct.pack("<IIII", at(b"int"), 1 << 24, 4, 32)
    pointer = struct.pack("<III", 0, 2 << 24, 1)
    members = struct.pack("<III", at(b"flags"), 1, 0) + struct.pack("<III", at(b"bytes_sent"), 1, offset)
    structure = struct.pack("<III", at(b"tcp_sock"), (bit_fields << 31) | 4 << 24 | 2, 16) + members
    types = integer + pointer + structure
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(STRINGS)) + types + STRINGS


@pytest.mark.parametrize("bit_fields", [False, True], ids=["plain", "bit-fields"])
def test_the_offset_of_a_member_is_found_behind_other_types(bit_fields):
    raw = _btf(bit_fields=bit_fields)
    assert member_offsets(raw, "tcp_sock", ["bytes_sent", "absent"]) == {"bytes_sent": 12}
    assert member_offsets(raw, "unix_sock", ["bytes_sent"]) == {}


@pytest.mark.parametrize("raw", [b"", b"\x00" * 64, _btf()[:40]], ids=["empty", "zeros", "torn"])
def test_other_bytes_are_refused(raw):
    with pytest.raises(ValueError, match="BTF"):
        member_offsets(raw, "tcp_sock", ["bytes_sent"])


def test_a_kind_that_came_later_is_refused():
    raw = bytearray(_btf())
    raw[24 + 7] = 31
    with pytest.raises(ValueError, match="BTF"):
        member_offsets(bytes(raw), "tcp_sock", ["bytes_sent"])


@pytest.mark.skipif(not KERNEL_BTF.exists(), reason="this kernel carries no BTF")
def test_this_kernel_describes_the_byte_counts_of_its_sockets():
    wanted = {"bytes_sent", "bytes_retrans", "bytes_received"}
    offsets = member_offsets(KERNEL_BTF.read_bytes(), "tcp_sock", wanted)
    assert offsets.keys() == wanted
    assert all(0 < offset < 8192 and offset % 8 == 0 for offset in offsets.values())
