"""Offsets inside kernel structures, from the type information (BTF) that the running kernel carries.

References
----------
Linux, ``Documentation/bpf/btf.rst``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

KERNEL_BTF: Final = Path("/sys/kernel/btf/vmlinux")
_MAGIC: Final = 0xEB9F
_HEADER: Final = struct.Struct("<HBBIIIII")
_TYPE: Final = struct.Struct("<III")
_MEMBER: Final = struct.Struct("<III")
_KIND_STRUCT: Final = 4
# Bytes that follow a type: a fixed part and a part for each of its members, by kind (btf.rst, 2.2).
_EXTRA_BYTES: Final[dict[int, tuple[int, int]]] = {
    1: (4, 0), 2: (0, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 7: (0, 0), 8: (0, 0), 9: (0, 0), 10: (0, 0),
    11: (0, 0), 12: (0, 0), 13: (0, 8), 14: (4, 0), 15: (0, 12), 16: (0, 0), 17: (4, 0), 18: (0, 0), 19: (0, 12),
}  # fmt: skip


def member_offsets(raw: bytes, structure: str, members: Iterable[str]) -> dict[str, int]:
    """Return the offsets in bytes of the members of a structure; members that it lacks are left out.

    Raises
    ------
    ValueError
        The bytes are no BTF, or of a kind that came later than this reader.
    """
    wanted = {name.encode() for name in members}
    try:
        magic, _, _, header_bytes, type_offset, type_bytes, string_offset, _ = _HEADER.unpack_from(raw)
        if magic != _MAGIC:
            raise ValueError("no BTF")
        strings = header_bytes + string_offset
        start = header_bytes + type_offset
        for name, info, at in _types(raw, start, start + type_bytes):
            if info >> 24 & 0x1F == _KIND_STRUCT and _text(raw, strings + name) == structure.encode():
                return _offsets(raw, strings, info, at, wanted)
    except (struct.error, KeyError) as error:
        raise ValueError(f"BTF that cannot be read: {error}") from error
    return {}


def _types(raw: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    while position < end:
        name, info, _ = _TYPE.unpack_from(raw, position)
        position += _TYPE.size
        yield name, info, position
        fixed, each = _EXTRA_BYTES[info >> 24 & 0x1F]
        position += fixed + each * (info & 0xFFFF)


def _offsets(raw: bytes, strings: int, info: int, position: int, wanted: set[bytes]) -> dict[str, int]:
    has_bit_fields = info >> 31
    found = {}
    for number in range(info & 0xFFFF):
        name, _, offset = _MEMBER.unpack_from(raw, position + number * _MEMBER.size)
        text = _text(raw, strings + name)
        if text in wanted:
            found[text.decode()] = (offset & 0xFF_FFFF if has_bit_fields else offset) // 8
    return found


def _text(raw: bytes, position: int) -> bytes:
    return raw[position : raw.index(b"\x00", position)]
