"""Files as their uncompressed content, told apart by their first bytes and never by their names.

gzip, xz, zip, tar, and any of these inside another. Everything streams forwards, in blocks of at most
`BLOCK_BYTES`, so that a file which breaks off still delivers what it holds up to the break. That is why zip and tar
members are walked here from their own headers: the standard modules want to seek (a zip without its directory cannot
be opened) or lose the last block of a damaged stream.

References
----------
RFC 1952 (gzip); PKWARE APPNOTE 6.3.10, sections 4.3.7 to 4.3.16 (zip); POSIX.1-2017, pax, ustar interchange format.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from eguard.errors import ParseError
from eguard.events.parsers.byte_reader import BLOCK_BYTES, ByteReader

#: A log in a tar in a gzip in a zip is believable; more is an attack.
MAX_NESTING: Final = 4
#: Marks the end of one member of an archive in a stream of blocks.
MEMBER_END: Final = b""

_GZIP: Final = b"\x1f\x8b"
_XZ: Final = b"\xfd7zXZ\x00"
_ZIP: Final = b"PK\x03\x04"
_ZIP_EMPTY: Final = b"PK\x05\x06"


def content_blocks(path: Path) -> Iterator[bytes]:
    """Yield the uncompressed content of a file; `MEMBER_END` after each member of an archive and at the end.

    Raises
    ------
    ParseError
        The file cannot be opened or read.
    CorruptFileError
        It breaks off or is damaged; everything before that was yielded.
    """
    yield from _unwrapped(ByteReader(_file_blocks(path), path), 0)


def _file_blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block
    except OSError as error:
        raise ParseError(f"cannot read {path}: {error.strerror}", path=str(path)) from error


def _unwrapped(reader: ByteReader, depth: int) -> Iterator[bytes]:
    if depth > MAX_NESTING:
        raise reader.damage(f"archives are nested more than {MAX_NESTING} deep")
    head = reader.peek(512)
    if head.startswith(_GZIP):
        yield from _unwrapped(ByteReader(_gunzipped(reader), reader.path), depth + 1)
    elif head.startswith(_XZ):
        yield from _unwrapped(ByteReader(_unxzed(reader), reader.path), depth + 1)
    elif head.startswith((_ZIP, _ZIP_EMPTY)):
        yield from _zip_members(reader, depth)
    elif head[257:262] == b"ustar":
        yield from _tar_members(reader, depth)
    else:
        while data := reader.some():
            yield data
        yield MEMBER_END


def _inflated(reader: ByteReader, window_bits: int) -> Iterator[bytes]:
    """Decompress one deflate stream and leave the reader behind its end."""
    inflater = zlib.decompressobj(wbits=window_bits)
    while not inflater.eof:
        data = reader.some()
        if not data:
            if rest := inflater.flush():
                yield rest
            raise reader.damage("the compressed data break off")
        try:
            while data and not inflater.eof:
                if block := inflater.decompress(data, BLOCK_BYTES):
                    yield block
                data = inflater.unconsumed_tail
        except zlib.error as error:
            raise reader.damage(f"the compressed data are not sound ({error})") from error
    reader.give_back(inflater.unused_data)


def _gunzipped(reader: ByteReader) -> Iterator[bytes]:
    while reader.peek(2) == _GZIP:
        yield from _inflated(reader, 16 + zlib.MAX_WBITS)
    while data := reader.some():
        if data.strip(b"\0"):
            raise reader.damage("something that is not gzip follows the compressed data")


def _unxzed(reader: ByteReader) -> Iterator[bytes]:
    while reader.peek(len(_XZ)) == _XZ:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        while not decompressor.eof:
            data = reader.some() if decompressor.needs_input else b""
            if decompressor.needs_input and not data:
                raise reader.damage("the compressed data break off")
            try:
                block = decompressor.decompress(data, BLOCK_BYTES)
            except lzma.LZMAError as error:
                raise reader.damage(f"the compressed data are not sound ({error})") from error
            if block:
                yield block
        reader.give_back(decompressor.unused_data)
    while data := reader.some():
        if data.strip(b"\0"):
            raise reader.damage("something that is not xz follows the compressed data")


def _zip_members(reader: ByteReader, depth: int) -> Iterator[bytes]:
    while reader.peek(4) == _ZIP:
        header = reader.exactly(30, "a zip member's header")
        flags, method = (int.from_bytes(header[at : at + 2], "little") for at in (6, 8))
        crc, packed, _unpacked = (int.from_bytes(header[at : at + 4], "little") for at in (14, 18, 22))
        name_size, extra_size = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        name = reader.exactly(name_size, "a zip member's name").decode("utf-8", "replace")
        reader.exactly(extra_size, "a zip member's header")
        is_described_after = bool(flags & 8)
        if flags & 1:
            raise reader.damage(f"the zip member {name!r} is encrypted")
        if method == zlib.DEFLATED:
            content = _inflated(reader, -zlib.MAX_WBITS)
        elif method == 0 and not is_described_after and packed < 0xFFFFFFFF:
            content = reader.span(packed, f"the zip member {name!r}")
        else:
            raise reader.damage(f"the zip member {name!r} uses a compression that is not supported ({method})")
        checked = _Checked(content)
        yield from _unwrapped(ByteReader(iter(checked), reader.path), depth + 1)
        if is_described_after:
            crc = _zip_descriptor(reader, checked.size_bytes)
        if checked.crc != crc:
            raise reader.damage(f"the zip member {name!r} fails its checksum")
    _zip_directory(reader)


class _Checked:
    """Blocks that are summed up on their way."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.crc = 0
        self.size_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.crc = zlib.crc32(block, self.crc)
            self.size_bytes += len(block)
            yield block


def _zip_descriptor(reader: ByteReader, size_bytes: int) -> int:
    """Consume the data descriptor behind a member and return its checksum. Signature and 64-bit sizes are optional."""
    if reader.peek(4) == b"PK\x07\x08":
        reader.exactly(4, "a zip data descriptor")
    crc = int.from_bytes(reader.exactly(4, "a zip data descriptor"), "little")
    is_wide = int.from_bytes(reader.peek(16)[8:16], "little") == size_bytes and reader.peek(20)[16:18] == b"PK"
    reader.exactly(16 if is_wide else 8, "a zip data descriptor")
    return crc


def _zip_directory(reader: ByteReader) -> None:
    """Consume what follows the members. A zip without its closing record was cut off."""
    if reader.peek(4) not in {b"PK\x01\x02", _ZIP_EMPTY}:
        raise reader.damage("the zip directory is missing")
    tail = b""
    while data := reader.some():
        tail = (tail + data)[-BLOCK_BYTES - 22 :]
    closing = tail.rfind(_ZIP_EMPTY)
    if closing < 0 or len(tail) - closing < 22 + int.from_bytes(tail[closing + 20 : closing + 22], "little"):
        raise reader.damage("the zip directory breaks off")


def _tar_members(reader: ByteReader, depth: int) -> Iterator[bytes]:
    while True:
        header = reader.exactly(512, "a tar header")
        if not header.strip(b"\0"):
            break
        blanked = header[:148] + b" " * 8 + header[156:]
        size, expected = _tar_number(header[124:136]), _tar_number(header[148:156])
        if size is None or expected != sum(blanked):
            raise reader.damage("a tar header fails its checksum")
        name = header[:100].rstrip(b"\0").decode("utf-8", "replace")
        content = reader.span(size, f"the tar member {name!r}")
        if header[156:157] in {b"0", b"\0", b"7"}:
            yield from _unwrapped(ByteReader(content, reader.path), depth + 1)
        for _ in content:
            continue
        reader.exactly(-size % 512, f"the tar member {name!r}")
    while reader.some():
        continue


def _tar_number(text: bytes) -> int | None:
    """Return an octal field, or a base-256 one for sizes of 8 GiB and more."""
    if text[0] & 0x80:
        return int.from_bytes(text[1:], "big")
    digits = text.strip(b" \0") or b"0"
    return int(digits, 8) if not digits.strip(b"01234567") else None
