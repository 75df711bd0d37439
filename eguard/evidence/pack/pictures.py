"""Pictures of the console: PNG files, and of these the picture alone."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from eguard.errors import EvidenceError
from eguard.evidence.pack.writer import PackWriter
from eguard.evidence.tables import load_table

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
#: What a picture is made of. Texts, times and camera data are left behind: who made it wrote things into them.
_KEPT: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB"})
_MAX_BYTES: Final = 32 << 20


def collect_screenshots(pack: PackWriter, folder: Path | None) -> None:
    """Take the PNG files of a folder into the pack; the pages of manual 8.4 that none shows are named."""
    with pack.section("screenshots") as section:
        if folder is None:
            pack.miss(section, "no folder of screenshots was named (--screenshots)")
            return
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png" and not path.is_symlink())
        for path in found:
            try:
                with path.open("rb") as stream:
                    pack.add_clean(section, path.name, bare_png(stream.read(_MAX_BYTES + 1)))
            except (EvidenceError, OSError) as error:
                pack.miss(section, f"{path.name}: {error}")
        names = {path.stem for path in found}
        for row in load_table("screens"):
            if row["name"] not in names:
                pack.miss(section, f"no {row['name']}.png, a picture of {row['page']}")


def bare_png(data: bytes) -> bytes:
    """Return a PNG file with nothing in it but its picture.

    Raises
    ------
    EvidenceError
        It is no PNG file, is damaged or too large.
    """
    if len(data) > _MAX_BYTES:
        raise EvidenceError(f"a picture of more than {_MAX_BYTES >> 20} MiB")
    kept = [_chunk(kind, body) for kind, body in _chunks(data) if kind in _KEPT]
    return _SIGNATURE + b"".join(kept)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not data.startswith(_SIGNATURE):
        raise EvidenceError("no PNG file")
    place = len(_SIGNATURE)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        if len(body) < length or data[place + 8 + length : place + 12 + length] != _checksum(kind, body):
            break
        yield kind, body
        if kind == b"IEND":
            return
        place += 12 + length
    raise EvidenceError("a damaged PNG file")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + _checksum(kind, body)


def _checksum(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(kind + body))
