"""Bytes of a stream of blocks with look-ahead: what the readers of archives stand on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from eguard.errors import CorruptFileError

#: Largest block that is handed on; what an unreadable block may cost before damage.
BLOCK_BYTES: Final = 1 << 16


class ByteReader:
    """Bytes from a stream of blocks, with look-ahead; counts what it handed out.

    Parameters
    ----------
    blocks : iterator of bytes
        The stream.
    path : Path
        The file, for messages.
    """

    def __init__(self, blocks: Iterator[bytes], path: Path) -> None:
        self._blocks = blocks
        self._ahead = b""
        self._failure: CorruptFileError | None = None  # kept back until what stands before it is consumed
        self.path = path
        self.offset_bytes = 0

    def _next_block(self) -> bytes:
        """Return the next block that is not empty; empty at the end and at damage."""
        if self._failure is None:
            try:
                return next(filter(None, self._blocks), b"")
            except CorruptFileError as error:
                self._failure = error
        return b""

    def peek(self, size: int) -> bytes:
        """Return up to `size` bytes without consuming them."""
        while len(self._ahead) < size and (block := self._next_block()):
            self._ahead += block
        return self._ahead[:size]

    def some(self, most: int = BLOCK_BYTES) -> bytes:
        """Consume whatever is at hand, at most `most` bytes; empty only at the end."""
        self._ahead = self._ahead or self._next_block()
        if not self._ahead and self._failure is not None:
            raise self._failure
        if len(self._ahead) <= most:
            data, self._ahead = self._ahead, b""
        else:
            data, self._ahead = self._ahead[:most], self._ahead[most:]
        self.offset_bytes += len(data)
        return data

    def exactly(self, size: int, what: str) -> bytes:
        """Consume `size` bytes; the stream ending before them is damage."""
        data = self.peek(size)
        if len(data) < size:
            raise self._failure or self.damage(f"it breaks off inside {what}")
        self._ahead = self._ahead[size:]
        self.offset_bytes += size
        return data

    def give_back(self, data: bytes) -> None:
        """Return bytes that a decompressor did not want."""
        self._ahead = data + self._ahead
        self.offset_bytes -= len(data)

    def span(self, size: int, what: str) -> Iterator[bytes]:
        """Consume `size` bytes in blocks."""
        left = size
        while left:
            data = self.some(min(left, BLOCK_BYTES))
            if not data:
                raise self.damage(f"it breaks off inside {what}")
            left -= len(data)
            yield data

    def damage(self, what: str) -> CorruptFileError:
        """Build the error for damage at the present position."""
        return CorruptFileError(
            f"{self.path} is damaged at byte {self.offset_bytes:,}: {what}",
            remedy="Fetch the file again; the rows before the damage were delivered.",
            path=str(self.path),
            byte=self.offset_bytes,
        )
