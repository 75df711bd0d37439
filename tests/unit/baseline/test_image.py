"""Operations that cannot be leave no trace, whatever their checksum says."""

import struct

import numpy as np
import pytest

from eguard.baseline.changes import (
    EVICTED,
    HELD,
    RELEASED,
    SEEN_ROWS,
    decode_changes,
    encode_changes,
    encode_held,
    encode_ids,
    encode_slots,
)
from eguard.baseline.facts import StoreFacts
from eguard.baseline.held import HeldWindow
from eguard.baseline.image import StoreImage
from eguard.baseline.profile import ProfileTable
from eguard.baseline.row_block import encode_rows
from eguard.errors import StoreCorruptError


def rows(*keys, named=True, slots=None):
    table = ProfileTable(16)
    at = table.slots_for(list(keys), np.full(len(keys), 5.0))
    table.observe(at, np.zeros(len(keys), dtype=np.int64), np.full(len(keys), 5.0), np.zeros(len(keys)))
    block = bytearray(encode_rows(table, at, np.full(len(keys), named)))
    if slots:
        struct.pack_into(f"<{len(slots)}H", block, 4, *slots)
    return bytes(block)


def held(name):
    return encode_held([(name, HeldWindow(("sh", "cron"), np.zeros(8, dtype=np.int64), 1.0))])


@pytest.fixture
def image():
    found = StoreImage(16)
    blocks = {SEEN_ROWS: rows(("sh", "cron"), ("ls", "sh")), HELD: held("w1")}
    found.apply(decode_changes(encode_changes(StoreFacts(sequence=1), blocks)))
    return found


@pytest.mark.parametrize(
    "blocks",
    [
        {EVICTED: encode_slots([9])},
        {EVICTED: encode_slots([0, 0])},
        {SEEN_ROWS: rows(("ps", "sh"), slots=[0])},
        {SEEN_ROWS: rows(("sh", "cron"), slots=[7])},
        {SEEN_ROWS: rows(("ps", "sh"), named=False, slots=[7])},
        {SEEN_ROWS: rows(("ps", "sh"), slots=[16])},
        {SEEN_ROWS: rows(("ps", "sh"), ("top", "sh"), slots=[7, 7])},
        {RELEASED: encode_ids(["w2"])},
        {RELEASED: encode_ids(["w1", "w1"])},
        {HELD: held("w1")},
        {9: b"unknown"},
        {SEEN_ROWS: rows(("ps", "sh"), slots=[7])[:-1]},
        {SEEN_ROWS: rows(("ps", "sh"), slots=[7]) + b"x"},
        {SEEN_ROWS: struct.pack("<I", 0xFFFFFFFF)},
        {HELD: struct.pack("<I", 0xFFFFFFFF)},
        {RELEASED: struct.pack("<II", 1, 1) + b"\xff"},
    ],
    ids=[
        "evict-free", "evict-twice", "slot-taken", "key-taken", "nameless", "beyond", "slot-twice", "release-free",
        "release-twice", "hold-twice", "unknown-block", "cut", "surplus", "huge-rows", "huge-held", "no-utf8",
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_whole(image, blocks):
    with pytest.raises(StoreCorruptError):
        image.apply(decode_changes(encode_changes(StoreFacts(sequence=2), blocks)))
    table = image.finish(16)
    assert [key for key, _ in table.index.items()] == [("sh", "cron"), ("ls", "sh")]
    assert table.sequence == 1
    assert list(dict(table.held.items())) == ["w1"]


def test_a_slot_may_change_its_owner_in_one_operation(image):
    blocks = {EVICTED: encode_slots([0]), SEEN_ROWS: rows(("ps", "sh"))}
    image.apply(decode_changes(encode_changes(StoreFacts(sequence=2), blocks)))
    assert image.finish(16).index.items() == [(("ls", "sh"), 1), (("ps", "sh"), 0)]


def test_facts_that_cannot_be_are_refused():
    with pytest.raises(StoreCorruptError):
        decode_changes(b"\x07" + StoreFacts().encode()[1:])
