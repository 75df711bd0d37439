"""Headers, checksums and record frames of the store's files; what is inside a frame is `changes`' business."""

from __future__ import annotations

import struct
import zlib
from typing import Final, NamedTuple

from eguard.errors import BaselineStoreError, StoreCorruptError

FORMAT_VERSION: Final = 1
SNAPSHOT_MAGIC: Final = b"eGuardBS"
JOURNAL_MAGIC: Final = b"eGuardBJ"
RECORD_MAGIC: Final = b"eGjr"
#: A longer file or record is none of ours, whatever it says.
MAX_FILE_BYTES: Final = 1 << 28
MAX_RECORD_BYTES: Final = 1 << 26
# What a search behind a damaged record may cost; beyond it the worse case is assumed.
_MAX_SEARCH_BYTES: Final = 1 << 26

_HEADER: Final = "<8sIIQQQ16sII"
HEADER_BYTES: Final = struct.calcsize(_HEADER)
_CHECKSUM_AT: Final = 12
_FRAME: Final = "<4sII"
FRAME_BYTES: Final = struct.calcsize(_FRAME)
_NUMBERS: Final = "<QQ"


class FileHeader(NamedTuple):
    """The first 64 bytes of a snapshot or journal.

    `operation` is the number of the last operation that a snapshot contains, or that precedes a journal's first
    record. `incarnation` names this life of the folder; `capacity` bounds its slots.
    """

    generation: int
    operation: int
    incarnation: bytes
    capacity: int


class Record(NamedTuple):
    """One record of a journal: where it starts, the number of its operation, and what it changes."""

    offset: int
    operation: int
    changes: bytes


class JournalScan(NamedTuple):
    """What a journal's bytes hold.

    `valid_bytes` is the length up to the end of the last good record. `ending` is ``whole``, ``torn`` (what follows is
    one write that never finished) or ``damaged`` (good records follow the bad bytes), with `reason` if not whole.
    """

    header: FileHeader
    records: list[Record]
    valid_bytes: int
    ending: str
    reason: str


def encode_snapshot(header: FileHeader, body: bytes) -> bytes:
    """Return the bytes of a snapshot file."""
    return _encode_header(SNAPSHOT_MAGIC, header, body) + body


def encode_journal_header(header: FileHeader) -> bytes:
    """Return the bytes a journal begins with."""
    return _encode_header(JOURNAL_MAGIC, header, b"")


def _encode_header(magic: bytes, header: FileHeader, body: bytes) -> bytes:
    generation, operation, incarnation, capacity = header
    fields = (generation, operation, len(body), incarnation, capacity, 0)
    unsigned = struct.pack(_HEADER, magic, FORMAT_VERSION, 0, *fields)
    return struct.pack(_HEADER, magic, FORMAT_VERSION, _checksum(unsigned, body), *fields)


def _checksum(header: bytes, body: bytes) -> int:
    """Cover every byte of header and body but the checksum's own four."""
    return zlib.crc32(body, zlib.crc32(header[_CHECKSUM_AT + 4 :], zlib.crc32(header[:_CHECKSUM_AT])))


def decode_snapshot(data: bytes) -> tuple[FileHeader, bytes]:
    """Return header and body of a snapshot.

    Raises
    ------
    StoreCorruptError
        One byte is not what it was.
    BaselineStoreError
        It is intact, and of a later format.
    """
    header, body_bytes = _decode_header(SNAPSHOT_MAGIC, data, data[HEADER_BYTES:])
    if body_bytes != len(data) - HEADER_BYTES:
        raise StoreCorruptError(f"the body has {len(data) - HEADER_BYTES} bytes and should have {body_bytes}")
    return header, data[HEADER_BYTES:]


def _decode_header(magic: bytes, data: bytes, body: bytes) -> tuple[FileHeader, int]:
    if len(data) < HEADER_BYTES:
        raise StoreCorruptError(f"{len(data)} bytes are less than a header")
    if len(data) > MAX_FILE_BYTES:
        raise StoreCorruptError(f"the file is longer than {MAX_FILE_BYTES} bytes")
    found, version, checksum, *fields = struct.unpack_from(_HEADER, data)
    if found != magic:
        raise StoreCorruptError("the file does not begin as it should")
    if _checksum(data[:HEADER_BYTES], body) != checksum:
        raise StoreCorruptError("the checksum does not match")
    if version > FORMAT_VERSION:
        # Intact, so no damage: to start anew beside it would lose what a later version has learned.
        raise BaselineStoreError(
            f"the baseline store has format {version}, which a later version of eGuard wrote; this one reads "
            f"{FORMAT_VERSION}",
            remedy="Install that version again, or move the folder EGUARD_BASELINE_PATH away to learn anew. Nothing in "
            "it was changed.",
            found=version,
        )
    if version != FORMAT_VERSION:
        raise StoreCorruptError(f"format version {version} is not known, only {FORMAT_VERSION}")
    generation, operation, body_bytes, incarnation, capacity, _ = fields
    if not 1 <= capacity <= 1 << 16:
        raise StoreCorruptError(f"a capacity of {capacity} cannot be")
    return FileHeader(generation, operation, incarnation, capacity), body_bytes


def encode_record(generation: int, operation: int, changes: bytes) -> bytes:
    """Return one framed record."""
    payload = struct.pack(_NUMBERS, generation, operation) + changes
    return struct.pack(_FRAME, RECORD_MAGIC, len(payload), _record_checksum(payload)) + payload


def _record_checksum(payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(struct.pack("<I", len(payload))))


def _payload_at(data: bytes, offset: int) -> bytes | None:
    """Return the payload of the frame at `offset`, None if there is no intact one."""
    if len(data) - offset < FRAME_BYTES:
        return None
    magic, length, checksum = struct.unpack_from(_FRAME, data, offset)
    start = offset + FRAME_BYTES
    if magic != RECORD_MAGIC or not 16 <= length <= MAX_RECORD_BYTES or length > len(data) - start:
        return None
    payload = data[start : start + length]
    return payload if _record_checksum(payload) == checksum else None


def scan_journal(data: bytes) -> JournalScan:
    """Return the good records from the start of a journal up to the first byte that is not good.

    Raises
    ------
    StoreCorruptError
        The header is not intact, so that nothing in the file can be placed.
    """
    header, _ = _decode_header(JOURNAL_MAGIC, data, b"")
    records: list[Record] = []
    offset = HEADER_BYTES
    while offset < len(data):
        payload = _payload_at(data, offset)
        if payload is None:
            is_torn = not _has_record_after(data, offset)
            reason = "the last write is not whole" if is_torn else f"bytes at {offset} are damaged, good records follow"
            return JournalScan(header, records, offset, "torn" if is_torn else "damaged", reason)
        generation, operation = struct.unpack_from(_NUMBERS, payload)
        if (generation, operation) != (header.generation, header.operation + len(records) + 1):
            reason = f"the record at {offset} is operation {operation} of generation {generation}, out of its turn"
            return JournalScan(header, records, offset, "damaged", reason)
        records.append(Record(offset, operation, payload[struct.calcsize(_NUMBERS) :]))
        offset += FRAME_BYTES + len(payload)
    return JournalScan(header, records, offset, "whole", "")


def _has_record_after(data: bytes, offset: int) -> bool:
    allowance = _MAX_SEARCH_BYTES
    position = data.find(RECORD_MAGIC, offset + 1)
    while position >= 0:
        if _payload_at(data, position) is not None:
            return True
        allowance -= min(
            len(data) - position, struct.unpack_from("<I", data[position + 4 : position + 8].ljust(4, b"\0"))[0]
        )
        if allowance < 0:
            return True
        position = data.find(RECORD_MAGIC, position + 1)
    return False
