r"""Compact recordings: batches of events as columns, each text once a block, each block under a checksum.

::

    file    = "EGREC1\n" block*
    block   = length (u32) crc32 of the payload (u32) payload          both numbers little endian
    payload = MessagePack map:
      "n"       events in the block, 1 to 65,536
      "numbers" {column: its values, little endian, in the width that `EventBatch` has}
      "texts"   {column: [distinct texts as UTF-8 with surrogates passed, u16 index of each event's text]}
      "fields"  {row: {name: text}} of the events that carry fields of their source

Columns that hold nothing but their default are left out. Reading a block touches each text once, however many events
share it, which is what makes it several times faster than a line an event.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from eguard.errors import CorruptFileError
from eguard.events import N_EVENT_CLASSES, UNCOUNTED, EventBatch
from eguard.events.columns import LIST_COLUMNS, NUMERIC_COLUMNS

MAGIC: Final = b"EGREC1\n"
MAX_BLOCK_EVENTS: Final = 1 << 16
#: A block of ordinary events takes half a megabyte; a length beyond this is damage.
MAX_BLOCK_BYTES: Final = 1 << 28
_HEAD: Final = struct.Struct("<II")
_TEXT_COLUMNS: Final = tuple(name for name in LIST_COLUMNS if name != "fields")


class _Block(msgspec.Struct, forbid_unknown_fields=True):
    n: int
    numbers: dict[str, bytes]
    texts: dict[str, tuple[list[bytes], bytes]]
    fields: dict[int, dict[bytes, bytes]]


_decoder: Final = msgspec.msgpack.Decoder(_Block)


class CompactWriter:
    """Writes batches to a file, each as one block, so that a crash costs at most the last one.

    Parameters
    ----------
    path : Path
        The file; an earlier one of that name is replaced.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "day.egrec"
    >>> with CompactWriter(path) as writer:
    ...     writer.write(EventBatch(time_unix=[1.0, 2.0], event_class=[0, 3], comm=["sh", "sh"]))
    >>> [batch.comm for batch in read_compact(path)]
    [['sh', 'sh']]
    """

    def __init__(self, path: Path) -> None:
        self._stream: BinaryIO = path.open("wb")
        self._stream.write(MAGIC)
        self.events_total = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, batch: EventBatch) -> None:
        """Append a batch and hand it to the kernel."""
        for part in batch.chunks(MAX_BLOCK_EVENTS):
            payload = msgspec.msgpack.encode(_encoded(part))
            self._stream.write(_HEAD.pack(len(payload), zlib.crc32(payload)) + payload)
            self.events_total += len(part)
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def is_compact(path: Path) -> bool:
    """Tell whether a file is a compact recording."""
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def read_compact(path: Path) -> Iterator[EventBatch]:
    """Yield the batches of a compact recording as they were written.

    Raises
    ------
    CorruptFileError
        A block breaks off or is damaged; the blocks before it were delivered.
    """
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise _corrupt(path, 0, "this is no compact recording")
        while True:
            at = stream.tell()
            head = stream.read(_HEAD.size)
            if not head:
                return
            if len(head) < _HEAD.size:
                raise _corrupt(path, at, "it breaks off")
            length, checksum = _HEAD.unpack(head)
            payload = stream.read(length) if length <= MAX_BLOCK_BYTES else b""
            if len(payload) < length:
                raise _corrupt(path, at, "it breaks off")
            if zlib.crc32(payload) != checksum:
                raise _corrupt(path, at, "a checksum does not fit")
            try:
                batch = _decoded(_decoder.decode(payload))
            except (msgspec.DecodeError, ValueError) as error:
                raise _corrupt(path, at, str(error)) from error
            yield batch


def _corrupt(path: Path, at: int, what: str) -> CorruptFileError:
    return CorruptFileError(
        f"{path} is damaged at byte {at}: {what}",
        remedy="What comes before was read. Record again, or take the file from where it was whole.",
        path=str(path),
        position=at,
    )


def _encoded(batch: EventBatch) -> _Block:
    numbers = {}
    for name, dtype in NUMERIC_COLUMNS.items():
        column: NDArray[Any] = getattr(batch, name)
        if column.any():
            numbers[name] = column.astype(np.dtype(dtype).newbyteorder("<")).tobytes()
    texts = {}
    for name in _TEXT_COLUMNS:
        texts_of: list[str] = getattr(batch, name)
        distinct = {text: index for index, text in enumerate(dict.fromkeys(texts_of))}
        if distinct.keys() - {""}:
            codes = np.fromiter(map(distinct.__getitem__, texts_of), np.dtype("<u2"), len(texts_of))
            texts[name] = ([_to_bytes(text) for text in distinct], codes.tobytes())
    fields = {
        row: {_to_bytes(name): _to_bytes(text) for name, text in own.items()}
        for row, own in enumerate(batch.fields)
        if own is not None
    }
    return _Block(len(batch), numbers, texts, fields)


def _decoded(block: _Block) -> EventBatch:
    n = block.n
    if not 1 <= n <= MAX_BLOCK_EVENTS:
        raise ValueError(f"a block of {n} events cannot be")
    columns: dict[str, Any] = {"time_unix": np.zeros(n)}
    for name, data in block.numbers.items():
        if name not in NUMERIC_COLUMNS:
            raise ValueError(f"there is no column of numbers {name!r}")
        dtype = np.dtype(NUMERIC_COLUMNS[name])
        if len(data) != n * dtype.itemsize:
            raise ValueError(f"column {name} has {len(data)} bytes for {n} events")
        # A copy: what a buffer holds cannot be written to, and may be nothing that a bool can be.
        stored = np.uint8 if dtype == np.bool_ else dtype.newbyteorder("<")
        columns[name] = np.frombuffer(data, stored).astype(dtype)
    classes = columns.get("event_class")
    if classes is not None and (classes.min() < UNCOUNTED or classes.max() >= N_EVENT_CLASSES):
        raise ValueError("an event class is out of range")
    for name, (distinct, data) in block.texts.items():
        if name not in _TEXT_COLUMNS:
            raise ValueError(f"there is no column of texts {name!r}")
        columns[name] = _texts(name, distinct, data, n)
    if block.fields:
        fields: list[dict[str, str] | None] = [None] * n
        for row, own in block.fields.items():
            if not 0 <= row < n:
                raise ValueError(f"fields of event {row} of {n}")
            fields[row] = {_to_text(name): _to_text(text) for name, text in own.items()}
        columns["fields"] = fields
    return EventBatch(**columns)


def _texts(name: str, distinct: list[bytes], data: bytes, n: int) -> list[str]:
    codes = np.frombuffer(data, "<u2") if len(data) == 2 * n else None
    if codes is None or not distinct or int(codes.max()) >= len(distinct):
        raise ValueError(f"column {name} does not fit its texts")
    shared = np.array([_to_text(text) for text in distinct], dtype=object)
    texts: list[str] = shared[codes].tolist()
    return texts


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
