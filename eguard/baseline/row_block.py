"""Profiles as bytes, column by column: the same block serves the snapshot (all rows) and the journal (changed rows)."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eguard.baseline.byte_reader import ByteReader, encode_keys
from eguard.baseline.moments import MomentColumns
from eguard.baseline.profile import ProfileTable
from eguard.baseline.slots import ProcessKey
from eguard.errors import StoreCorruptError
from eguard.events import N_EVENT_CLASSES

NAMED: Final = 1
LEARNED: Final = 2
INTERARRIVAL: Final = 4
PAYLOAD: Final = 8
RELEARNING: Final = 16
DIRTY: Final = 32
_KNOWN_FLAGS: Final = 63


class Moments(NamedTuple):
    """Running moments of some rows: which rows have any, and what they are."""

    rows: NDArray[np.intp]
    counts: NDArray[np.int64]
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]


class RowBlock(NamedTuple):
    """Profiles read from a block, not yet put anywhere; every column has one value a row."""

    slots: NDArray[np.intp]
    keys: dict[int, ProcessKey]
    first_seen: NDArray[np.float64]
    last_seen: NDArray[np.float64]
    seq: NDArray[np.int64]
    last_learned: NDArray[np.float64]
    interarrival: Moments
    payload: Moments
    relearn_since: NDArray[np.float64]
    dirty_since: NDArray[np.int64]
    counts: NDArray[np.int64]

    def put(self, table: ProfileTable) -> None:
        """Write the rows into the arrays of a table; keys and seeds are the caller's."""
        slots = self.slots
        if len(slots):
            table.reserve(int(slots.max()) + 1)
        table.counts[slots] = self.counts
        table.sample_count[slots] = self.counts.sum(axis=1)
        table.first_seen[slots] = self.first_seen
        table.last_seen[slots] = self.last_seen
        table.last_learned[slots] = self.last_learned
        table.relearn_since[slots] = self.relearn_since
        table.seq[slots] = self.seq
        table.dirty_since[slots] = self.dirty_since
        for columns, moments in ((table.interarrival, self.interarrival), (table.payload, self.payload)):
            columns.reset(slots)
            owners = slots[moments.rows]
            columns.count[owners], columns.mean[owners], columns.m2[owners] = moments[1:]


def encode_rows(table: ProfileTable, slots: NDArray[np.intp], named: NDArray[np.bool_]) -> bytes:
    """Return the rows of `slots`; those where `named` is true carry their key."""
    counts = table.counts[slots]
    last_learned, relearn_since = table.last_learned[slots], table.relearn_since[slots]
    dirty_since = table.dirty_since[slots]
    present = {
        NAMED: named,
        LEARNED: ~np.isnan(last_learned),
        INTERARRIVAL: table.interarrival.count[slots] > 0,
        PAYLOAD: table.payload.count[slots] > 0,
        RELEARNING: ~np.isnan(relearn_since),
        DIRTY: dirty_since != 0,
    }
    flags = np.zeros(len(slots), dtype=np.uint8)
    for flag, rows in present.items():
        flags |= np.where(rows, np.uint8(flag), np.uint8(0))
    return b"".join(
        (
            struct.pack("<I", len(slots)),
            slots.astype("<u2").tobytes(),
            flags.tobytes(),
            np.packbits(counts != 0, axis=1, bitorder="little").tobytes(),
            table.first_seen[slots].astype("<f8").tobytes(),
            table.last_seen[slots].astype("<f8").tobytes(),
            table.seq[slots].astype("<i8").tobytes(),
            last_learned[present[LEARNED]].astype("<f8").tobytes(),
            _encode_moments(table.interarrival, slots[present[INTERARRIVAL]]),
            _encode_moments(table.payload, slots[present[PAYLOAD]]),
            relearn_since[present[RELEARNING]].astype("<f8").tobytes(),
            dirty_since[present[DIRTY]].astype("<i8").tobytes(),
            counts[counts != 0].astype("<i8").tobytes(),
            encode_keys([table.index.key_of(slot) for slot in slots[named].tolist()]),
        )
    )


def _encode_moments(columns: MomentColumns, slots: NDArray[np.intp]) -> bytes:
    count, mean, m2 = columns.count[slots], columns.mean[slots], columns.m2[slots]
    return count.astype("<i8").tobytes() + mean.astype("<f8").tobytes() + m2.astype("<f8").tobytes()


def decode_rows(reader: ByteReader) -> RowBlock:
    """Read a block of rows.

    Raises
    ------
    StoreCorruptError
        The bytes are no block of rows, or name a slot twice.
    """
    (n_rows,) = reader.unpack("<I")
    slots = reader.array("<u2", n_rows).astype(np.intp)
    if len(np.unique(slots)) != n_rows:
        raise StoreCorruptError("a slot appears twice in one block")
    flags = reader.array("u1", n_rows)
    if (flags & ~np.uint8(_KNOWN_FLAGS)).any():
        raise StoreCorruptError("a row has flags that this version does not know")
    has_count = np.unpackbits(reader.array("u1", n_rows), bitorder="little").reshape(n_rows, N_EVENT_CLASSES) > 0
    first_seen, last_seen = reader.floats(n_rows), reader.floats(n_rows)
    seq = reader.integers("<i8", n_rows)
    last_learned = np.full(n_rows, np.nan)
    last_learned[_rows(flags, LEARNED)] = reader.floats(len(_rows(flags, LEARNED)))
    interarrival = _decode_moments(reader, _rows(flags, INTERARRIVAL))
    payload = _decode_moments(reader, _rows(flags, PAYLOAD))
    relearn_since = np.full(n_rows, np.nan)
    relearn_since[_rows(flags, RELEARNING)] = reader.floats(len(_rows(flags, RELEARNING)))
    dirty_since = np.zeros(n_rows, dtype=np.int64)
    dirty_since[_rows(flags, DIRTY)] = reader.integers("<i8", len(_rows(flags, DIRTY)))
    counts = np.zeros((n_rows, N_EVENT_CLASSES), dtype=np.int64)
    counts[has_count] = reader.integers("<i8", int(has_count.sum()))
    named = _rows(flags, NAMED).tolist()
    keys = dict(zip(named, reader.keys(len(named)), strict=True))
    return RowBlock(
        slots, keys, first_seen, last_seen, seq, last_learned, interarrival, payload, relearn_since, dirty_since, counts
    )


def _rows(flags: NDArray[np.uint8], flag: int) -> NDArray[np.intp]:
    return np.flatnonzero(flags & np.uint8(flag))


def _decode_moments(reader: ByteReader, rows: NDArray[np.intp]) -> Moments:
    return Moments(rows, reader.integers("<i8", len(rows)), reader.floats(len(rows)), reader.floats(len(rows)))
