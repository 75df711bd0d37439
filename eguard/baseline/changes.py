"""What one operation changes, as bytes: facts, then blocks of evicted slots, rows, seeds and held windows."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eguard.baseline.byte_reader import ByteReader, encode_keys
from eguard.baseline.facts import StoreFacts
from eguard.baseline.held import HeldWindow
from eguard.baseline.priors import PriorTable
from eguard.baseline.row_block import RowBlock, decode_rows
from eguard.baseline.slots import ProcessKey
from eguard.errors import StoreCorruptError
from eguard.events import N_EVENT_CLASSES

EVICTED: Final = 1
SEEN_ROWS: Final = 2
CHANGED_ROWS: Final = 3
SEEDS: Final = 4
RELEASED: Final = 5
HELD: Final = 6

HeldItem = tuple[str, HeldWindow]


class Seeds(NamedTuple):
    """All seeds of one fleet generation."""

    generation: int
    priors: dict[ProcessKey, NDArray[np.float64]]


class Changes(NamedTuple):
    """One operation's changes, applied in the order of these fields; None and empty where nothing changes."""

    facts: StoreFacts
    evicted: list[int]
    seen: RowBlock | None
    changed: RowBlock | None
    seeds: Seeds | None
    released: list[str]
    held: list[HeldItem]


def encode_changes(facts: StoreFacts, blocks: dict[int, bytes]) -> bytes:
    """Return facts and blocks as bytes; empty blocks are left out."""
    parts = [facts.encode()]
    for tag, block in sorted(blocks.items()):
        if block:
            parts += [struct.pack("<BI", tag, len(block)), block]
    return b"".join(parts)


def decode_changes(data: bytes) -> Changes:
    """Read what `encode_changes` wrote.

    Raises
    ------
    StoreCorruptError
        The bytes are nothing that it writes.
    """
    reader = ByteReader(data)
    facts = StoreFacts.decode(reader)
    blocks: dict[int, ByteReader] = {}
    while reader.left:
        tag, length = reader.unpack("<BI")
        if not EVICTED <= tag <= HELD or tag in blocks:
            raise StoreCorruptError(f"block {tag} is unknown or appears twice")
        blocks[tag] = ByteReader(reader.take(length))
    result = Changes(
        facts,
        _decode_slots(blocks[EVICTED]) if EVICTED in blocks else [],
        decode_rows(blocks[SEEN_ROWS]) if SEEN_ROWS in blocks else None,
        decode_rows(blocks[CHANGED_ROWS]) if CHANGED_ROWS in blocks else None,
        _decode_seeds(blocks[SEEDS]) if SEEDS in blocks else None,
        _decode_ids(blocks[RELEASED]) if RELEASED in blocks else [],
        _decode_held(blocks[HELD]) if HELD in blocks else [],
    )
    for block in blocks.values():
        block.finish()
    return result


def encode_slots(slots: Sequence[int]) -> bytes:
    """Return slots as a block."""
    return struct.pack("<I", len(slots)) + np.array(slots, dtype="<u2").tobytes() if slots else b""


def _decode_slots(reader: ByteReader) -> list[int]:
    (count,) = reader.unpack("<I")
    return [int(slot) for slot in reader.array("<u2", count)]


def encode_seeds(seeds: PriorTable) -> bytes:
    """Return all seeds as a block; none at all is a block too, for a withdrawal has to be written."""
    items = seeds.items()
    means = np.array([mean for _, mean in items], dtype="<f8").tobytes()
    return struct.pack("<QI", seeds.generation, len(items)) + means + encode_keys([key for key, _ in items])


def _decode_seeds(reader: ByteReader) -> Seeds:
    generation, count = reader.unpack("<QI")
    means = reader.floats(count * N_EVENT_CLASSES).reshape(count, N_EVENT_CLASSES)
    if generation >= 1 << 63:
        raise StoreCorruptError(f"a fleet generation of {generation} cannot be")
    return Seeds(generation, dict(zip(reader.keys(count), means, strict=True)))


def encode_ids(ids: Sequence[str]) -> bytes:
    """Return the ids of released windows as a block."""
    if not ids:
        return b""
    texts = [text.encode("utf-8", "surrogatepass") for text in ids]
    lengths = np.array([len(text) for text in texts], dtype="<u4").tobytes()
    return struct.pack("<I", len(texts)) + lengths + b"".join(texts)


def _decode_ids(reader: ByteReader) -> list[str]:
    (count,) = reader.unpack("<I")
    return [reader.text(length) for length in reader.array("<u4", count).tolist()]


def encode_held(items: Sequence[HeldItem]) -> bytes:
    """Return held windows as a block, oldest first."""
    if not items:
        return b""
    windows = [window for _, window in items]
    return b"".join(
        (
            struct.pack("<I", len(items)),
            np.array([window.held_at for window in windows], dtype="<f8").tobytes(),
            np.array([window.counts for window in windows], dtype="<i8").tobytes(),
            encode_keys([window.key for window in windows]),
            encode_ids([window_id for window_id, _ in items]),
        )
    )


def _decode_held(reader: ByteReader) -> list[HeldItem]:
    (count,) = reader.unpack("<I")
    held_at = reader.floats(count).tolist()
    counts = reader.integers("<i8", count * N_EVENT_CLASSES).reshape(count, N_EVENT_CLASSES)
    keys, ids = reader.keys(count), _decode_ids(reader)
    if len(ids) != count:
        raise StoreCorruptError(f"{count} held windows have {len(ids)} ids")
    windows = [HeldWindow(key, row, at) for key, row, at in zip(keys, counts, held_at, strict=True)]
    return list(zip(ids, windows, strict=True))
