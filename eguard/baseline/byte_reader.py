"""Reading bytes that may be anything: every length is checked before it is believed."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eguard.baseline.slots import ProcessKey
from eguard.errors import StoreCorruptError


class ByteReader:
    """A cursor over bytes. Reading beyond the end raises, so that no length in the bytes can make it allocate more.

    Examples
    --------
    >>> reader = ByteReader(bytes([2, 0, 7, 0, 9, 0]))
    >>> reader.array("<u2", reader.unpack("<H")[0]).tolist()
    [7, 9]
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._position

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if count > self.left:
            raise StoreCorruptError(f"{count} bytes are announced where {self.left} are left")
        start = self._position
        self._position += count
        return self._data[start : self._position]

    def unpack(self, layout: str) -> tuple[Any, ...]:
        """Return the next values of a `struct` layout."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def array(self, dtype: str, count: int) -> NDArray[Any]:
        """Return the next `count` numbers."""
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype=dtype)

    def integers(self, dtype: str, count: int) -> NDArray[np.int64]:
        """Return the next `count` integers, widened; negative ones mean that the bytes are not ours."""
        values = self.array(dtype, count).astype(np.int64)
        if (values < 0).any():
            raise StoreCorruptError("a count or number is negative or too large")
        return values

    def floats(self, count: int) -> NDArray[np.float64]:
        """Return the next `count` floating-point numbers, whatever they are."""
        return self.array("<f8", count).astype(np.float64)

    def text(self, count: int) -> str:
        """Return the next `count` bytes as text; lone surrogates, which stand for bytes that are no text, survive."""
        try:
            return self.take(count).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise StoreCorruptError(f"a name is no UTF-8: {error.reason}") from error

    def keys(self, count: int) -> list[ProcessKey]:
        """Return the next `count` process keys."""
        lengths = self.array("<u4", 2 * count).tolist()
        names = [self.text(length) for length in lengths]
        return list(zip(names[::2], names[1::2], strict=True))

    def finish(self) -> None:
        """Raise unless everything was read."""
        if self.left:
            raise StoreCorruptError(f"{self.left} bytes follow where nothing should")


def encode_keys(keys: list[ProcessKey]) -> bytes:
    """Return process keys as `ByteReader.keys` reads them: the lengths of all names, then the names."""
    names = [name.encode("utf-8", "surrogatepass") for key in keys for name in key]
    return np.array([len(name) for name in names], dtype="<u4").tobytes() + b"".join(names)
