"""Closed windows by slot, each packed into a short string of bytes: every key keeps its latest for its next alert."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from operator import attrgetter
from typing import Any, Final, get_type_hints

import msgspec

from eguard.detection.window_batch import ClosedWindow
from eguard.detection.window_test import WindowScore

_SCORE_FIELDS: Final[dict[str, Any]] = get_type_hints(WindowScore)
_WINDOW_FIELDS: Final[dict[str, Any]] = {
    name: kind for name, kind in get_type_hints(ClosedWindow).items() if name != "score"
}


def _tuple_of(kinds: Iterable[Any]) -> Any:
    """Return the type of tuples whose elements are of these types."""
    return tuple.__class_getitem__(tuple(kinds))


_window_values: Final = attrgetter(*_WINDOW_FIELDS)
_score_values: Final = attrgetter(*_SCORE_FIELDS)
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(
    _tuple_of((_tuple_of(_WINDOW_FIELDS.values()), _tuple_of(_SCORE_FIELDS.values())))
)


class PackedWindows(MutableMapping[int, ClosedWindow | None]):
    """A mapping of slots to closed windows, or to None, that makes the objects anew whenever they are asked for.

    A window takes about 250 bytes in here and four times as much as objects. Nothing is rounded.
    """

    def __init__(self) -> None:
        self._packed: dict[int, bytes | None] = {}

    def __getitem__(self, slot: int) -> ClosedWindow | None:
        packed = self._packed[slot]
        if packed is None:
            return None
        window, score = _decoder.decode(packed)
        return ClosedWindow(**dict(zip(_WINDOW_FIELDS, window, strict=True)), score=WindowScore(*score))

    def __setitem__(self, slot: int, window: ClosedWindow | None) -> None:
        self._packed[slot] = (
            None if window is None else _encoder.encode((_window_values(window), _score_values(window.score)))
        )

    def __delitem__(self, slot: int) -> None:
        del self._packed[slot]

    def __contains__(self, slot: object) -> bool:
        return slot in self._packed

    def __iter__(self) -> Iterator[int]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def discard(self, slot: int) -> None:
        """Remove a slot if it is there."""
        self._packed.pop(slot, None)

    def at(self, slots: Iterable[int]) -> PackedWindows:
        """Return what these slots hold now, None for those without a window; later changes here do not reach it."""
        taken = PackedWindows()
        taken._packed = {slot: self._packed.get(slot) for slot in slots}
        return taken
