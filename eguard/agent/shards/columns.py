"""A shard's part of a batch, and the content that looks at it, as they go over: what is read there and nothing more."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.agent.shards.messages import Detect, Load, encode
from eguard.detection.indicators import IndicatorSet
from eguard.detection.layers import DetectionContent
from eguard.detection.prefilter import CommandLinePrefilter
from eguard.detection.rules import RuleSet
from eguard.detection.sigma_fields import ColumnValues
from eguard.errors import RuleError
from eguard.events import EventBatch
from eguard.events.columns import LIST_COLUMNS

#: Columns of text that each layer reads.
_RULE_TEXTS: Final = tuple(name for name in ColumnValues._fields if name in LIST_COLUMNS)
_INDICATOR_TEXTS: Final = ("host_id", "target", "destination_address", "file_sha256")
_PREFILTER_TEXTS: Final = ("command_line",)
#: Columns of numbers that go over in any case. The payload goes as a sum.
_NUMBERS: Final[dict[str, type[np.generic]]] = {
    "time_unix": np.float64,
    "event_class": np.int8,
    "event_code": np.int32,
    "destination_port": np.int32,
    "sent_bytes": np.int64,
}

_Take = Callable[[list[Any]], list[Any]]


def texts_read_by(content: DetectionContent) -> tuple[str, ...]:
    """Return the columns of text that content reads, sorted."""
    names = {*(_RULE_TEXTS if len(content.rules) else ())}
    names |= {*(_INDICATOR_TEXTS if len(content.indicators) else ())}
    names |= {*(_PREFILTER_TEXTS if len(content.prefilter) else ())}
    return tuple(sorted(names))


def load_request(content: DetectionContent, version: int = 0, forgotten: Sequence[int] = ()) -> Load:
    """Return the request to detect with `content`.

    Raises
    ------
    RuleError
        The rules were put together by hand and have no form that can be sent.
    """
    if len(content.rules) and not content.rules.packed:
        raise RuleError("rules that were not read from a rule file cannot be given to a shard", reason="not packed")
    return Load(
        version,
        list(forgotten),
        content.rules.packed,
        json.dumps(content.indicators.to_json()).encode(),
        json.dumps({"prefilter": content.prefilter.rules_by_text}).encode(),
    )


def read_content(request: Load) -> DetectionContent:
    """Return the content of a request; the fleet's tables, which no layer reads, are not in it."""
    return DetectionContent(
        indicators=IndicatorSet.from_json(json.loads(request.indicators)),
        rules=RuleSet.from_packed(request.rules),
        prefilter=CommandLinePrefilter.from_json(json.loads(request.prefilter)),
    )


class PartEncoder:
    """Turns parts of batches into requests.

    Parameters
    ----------
    content : DetectionContent
        What the shards detect with.
    """

    def __init__(self, content: DetectionContent) -> None:
        self._texts = texts_read_by(content)
        self._has_rules = bool(len(content.rules))

    def encode(
        self,
        batch: EventBatch,
        slots: NDArray[np.intp],
        rows: NDArray[np.intp],
        *,
        version: int,
        forgotten: list[int],
        overdispersion: float,
    ) -> bytes:
        """Return the request to evaluate the events at `rows`, as bytes."""
        take = _taking(rows, len(batch))
        sizes = batch.sent_bytes[rows] + batch.received_bytes[rows]
        numbers = {name: (sizes if name == "sent_bytes" else getattr(batch, name)[rows]).tobytes() for name in _NUMBERS}
        numbers["slots"] = slots[rows].astype(np.int64).tobytes()
        fields = take(batch.fields) if self._has_rules else []
        request = Detect(
            version=version,
            forgotten=forgotten,
            overdispersion=overdispersion,
            n_events=len(rows),
            numbers=numbers,
            texts={name: _once(take(getattr(batch, name))) for name in self._texts},
            fields=[] if fields.count(None) == len(fields) else fields,
        )
        try:
            return encode(request)
        except UnicodeEncodeError:
            return encode(_as_bytes(request))


def read_part(request: Detect) -> tuple[EventBatch, NDArray[np.intp]]:
    """Return the events of a request and their slots; columns that nothing reads have their defaults."""
    columns: dict[str, Any] = {name: np.frombuffer(request.numbers[name], dtype) for name, dtype in _NUMBERS.items()}
    for name, texts in request.texts.items():
        whole = texts * request.n_events if len(texts) == 1 else texts
        columns[name] = [_as_text(text) for text in whole] if isinstance(whole[0], bytes) else whole
    if request.fields:
        columns["fields"] = [own and {_as_text(k): _as_text(v) for k, v in own.items()} for own in request.fields]
    return EventBatch(**columns), np.frombuffer(request.numbers["slots"], np.int64).astype(np.intp)


def _taking(rows: NDArray[np.intp], n_events: int) -> _Take:
    """Return a function that takes `rows` out of a list."""
    if len(rows) == n_events:
        return lambda column: column
    if len(rows) == 1:
        only = int(rows[0])
        return lambda column: [column[only]]
    take = itemgetter(*rows.tolist())
    return lambda column: list(take(column))


def _once(column: list[str]) -> list[str]:
    """Return a column that holds one value only as that value."""
    return column[:1] if column.count(column[0]) == len(column) else column


def _as_bytes(request: Detect) -> Detect:
    """Return a request with its texts as bytes: some of them hold what is no Unicode, as names of processes may."""
    request.texts = {
        name: [text.encode("utf-8", "surrogatepass") for text in column] for name, column in request.texts.items()
    }
    request.fields = [own and {_to_bytes(k): _to_bytes(v) for k, v in own.items()} for own in request.fields]
    return request


def _to_bytes(text: Any) -> Any:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def _as_text(text: Any) -> Any:
    return text.decode("utf-8", "surrogatepass") if isinstance(text, bytes) else text
