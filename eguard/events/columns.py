"""Batches of events as columns: the form in which everything after a parser or sensor works.

Numbers are NumPy arrays, so that layers score a batch with array operations. Text stays in Python lists: endpoints
carry no dataframe library, and a list of interned strings is what dictionary look-ups want.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.events.model import Event

#: Numeric columns and their storage. Every other field of `Event` is a list column.
NUMERIC_COLUMNS: Final[dict[str, type[np.generic]]] = {
    "time_unix": np.float64,
    "event_class": np.int8,
    "event_code": np.int32,
    "pid": np.int64,
    "parent_pid": np.int64,
    "is_elevated": np.bool_,
    "destination_port": np.int32,
    "sent_bytes": np.int64,
    "received_bytes": np.int64,
    "duration_seconds": np.float64,
    "event_bytes": np.int64,
}
LIST_COLUMNS: Final[tuple[str, ...]] = tuple(name for name in Event.__struct_fields__ if name not in NUMERIC_COLUMNS)
#: Events that travel together: a sensor hands over at most this many at once.
BATCH_EVENTS: Final = 4096


class EventBatch:
    """Events of any number of hosts as columns of equal length, in the order they were delivered.

    Parameters
    ----------
    **columns : ndarray or list of str
        One column for each field of `Event`; a missing one is filled with the field's default.

    Raises
    ------
    ValueError
        A column is unknown or its length differs from that of ``time_unix``.

    Examples
    --------
    >>> batch = EventBatch(time_unix=np.array([1.0, 2.0]), host_id=["a", "b"], comm=["sh", "ls"])
    >>> len(batch), batch.comm, batch.destination_port.tolist()
    (2, ['sh', 'ls'], [0, 0])
    >>> batch.row(1).comm
    'ls'
    """

    __slots__ = ("_size", *Event.__struct_fields__)

    time_unix: NDArray[np.float64]
    event_class: NDArray[np.int8]
    event_code: NDArray[np.int32]
    pid: NDArray[np.int64]
    parent_pid: NDArray[np.int64]
    is_elevated: NDArray[np.bool_]
    destination_port: NDArray[np.int32]
    sent_bytes: NDArray[np.int64]
    received_bytes: NDArray[np.int64]
    duration_seconds: NDArray[np.float64]
    event_bytes: NDArray[np.int64]
    host_id: list[str]
    comm: list[str]
    parent_comm: list[str]
    source: list[str]
    event_type: list[str]
    group: list[str]
    process_guid: list[str]
    parent_guid: list[str]
    user: list[str]
    image_path: list[str]
    command_line: list[str]
    target: list[str]
    destination_address: list[str]
    file_sha256: list[str]
    rule_id: list[str]
    detector: list[str]
    label: list[str]
    fields: list[dict[str, str] | None]

    def __init__(self, **columns: Any) -> None:
        unknown = columns.keys() - set(Event.__struct_fields__)
        if unknown:
            raise ValueError(f"no such column: {', '.join(sorted(unknown))}")
        self._size = len(columns.get("time_unix", ()))
        for name, dtype in NUMERIC_COLUMNS.items():
            given = columns.get(name)
            column = np.zeros(self._size, dtype) if given is None else np.asarray(given, dtype)
            self._set(name, column)
        for name in LIST_COLUMNS:
            given = columns.get(name)
            default = None if name == "fields" else ""
            self._set(name, [default] * self._size if given is None else list(given))

    def _set(self, name: str, column: Any) -> None:
        if len(column) != self._size:
            raise ValueError(f"column {name} has {len(column)} rows, time_unix has {self._size}")
        setattr(self, name, column)

    def __len__(self) -> int:
        return self._size

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> EventBatch:
        """Turn records into columns."""
        rows = list(events)
        return cls(**{name: [getattr(row, name) for row in rows] for name in Event.__struct_fields__})

    def row(self, index: int) -> Event:
        """Return one event as a record."""
        values = {name: getattr(self, name)[index].item() for name in NUMERIC_COLUMNS}
        values.update({name: getattr(self, name)[index] for name in LIST_COLUMNS})
        return Event(**values)

    def rows(self) -> Iterator[Event]:
        """Iterate over the events as records."""
        return (self.row(index) for index in range(self._size))

    def take(self, indices: NDArray[np.intp] | Sequence[int]) -> EventBatch:
        """Return the rows at `indices`, in that order."""
        positions = np.asarray(indices, dtype=np.intp)
        columns: dict[str, Any] = {name: getattr(self, name)[positions] for name in NUMERIC_COLUMNS}
        wanted = positions.tolist()
        for name in LIST_COLUMNS:
            column = getattr(self, name)
            columns[name] = [column[index] for index in wanted]
        return EventBatch(**columns)

    def slice(self, start: int, stop: int) -> EventBatch:
        """Return rows `start` to `stop` (exclusive); numeric columns are views."""
        return EventBatch(**{name: getattr(self, name)[start:stop] for name in Event.__struct_fields__})

    def chunks(self, size: int = BATCH_EVENTS) -> Iterator[EventBatch]:
        """Cut into batches of at most `size` events, in order."""
        return (self.slice(start, min(start + size, self._size)) for start in range(0, self._size, size))

    def sorted_by_time(self) -> EventBatch:
        """Return the batch in time order; events of one instant keep their order."""
        return self.take(np.argsort(self.time_unix, kind="stable"))

    @classmethod
    def concatenate(cls, batches: Sequence[EventBatch]) -> EventBatch:
        """Join batches end to end."""
        columns: dict[str, Any] = {}
        for name in NUMERIC_COLUMNS:
            parts = [getattr(batch, name) for batch in batches]
            columns[name] = np.concatenate(parts) if parts else ()
        for name in LIST_COLUMNS:
            column: list[Any] = []
            for batch in batches:
                column.extend(getattr(batch, name))  # one list into another is a copy of memory; a chain goes by items
            columns[name] = column
        return cls(**columns)


def batched(events: Iterable[Event], size: int = BATCH_EVENTS) -> Iterator[EventBatch]:
    """Collect a stream of records into batches of at most `size`, without holding more than one in memory."""
    stream = iter(events)
    while rows := list(islice(stream, size)):
        yield EventBatch.from_events(rows)
