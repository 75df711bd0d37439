"""JSON from strangers: read strictly, refused with a reason, never with a surprise.

JSON readers differ on what they let through: duplicate keys (the last one wins, silently), ``NaN`` and ``Infinity``,
numbers that overflow, lone surrogates that no UTF-8 writer accepts later, nesting that exhausts the stack. Each of
these lets two readers of one body see two different things, so each is refused here by name.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NoReturn

from eguard.errors import PayloadTooLargeError, WireError

#: Brackets that may be open at once.
MAX_DEPTH: Final = 64
#: Longest string, in characters, keys included.
MAX_STRING_CHARACTERS: Final = 8192
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

# A string is swallowed whole, closed or not, so that the pass is linear in the body even where quotes never close.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKET = re.compile(r"[^\[\]{}]++")
_INT64_CHARACTERS: Final = 20


def check_size(body: bytes, max_bytes: int) -> None:
    """Refuse a body that is empty or larger than `max_bytes`.

    Raises
    ------
    PayloadTooLargeError
        The body exceeds the cap.
    WireError
        The body is empty; reason ``empty_body``.
    """
    if len(body) > max_bytes:
        raise PayloadTooLargeError(
            f"body has {len(body)} bytes, at most {max_bytes} are taken",
            remedy="Split the batch into smaller ones.",
            reason="payload_too_large",
            size_bytes=len(body),
            max_bytes=max_bytes,
        )
    if not body:
        raise refusal("empty_body", "body is empty")


def parse_strict_json(body: bytes, *, max_bytes: int, max_depth: int = MAX_DEPTH) -> Any:
    r"""Return the value of a JSON body as dicts, lists, strings, ints, floats, booleans and None.

    Parameters
    ----------
    body : bytes
        UTF-8 without byte order mark.
    max_bytes : int
        Cap on the body. The caller caps the *decompressed* size while it streams.
    max_depth : int
        Brackets that may be open at once.

    Raises
    ------
    PayloadTooLargeError
        The body exceeds `max_bytes`.
    WireError
        ``context["reason"]`` is one of ``empty_body``, ``invalid_utf8``, ``too_deep``, ``invalid_json``,
        ``duplicate_key``, ``non_finite_number``, ``number_out_of_range``, ``lone_surrogate``, ``string_too_long``.

    Notes
    -----
    One linear pass for the depth, then the standard library's parser, which keeps every pair of an object and the
    text of every number; about 15 MB/s. Integers have to fit int64, floats have to be finite.

    Examples
    --------
    >>> parse_strict_json(b'{"a": [1, 2.5]}', max_bytes=100)
    {'a': [1, 2.5]}
    >>> parse_strict_json(b'{"a": 1, "a": 2}', max_bytes=100)
    Traceback (most recent call last):
        ...
    eguard.errors.WireError: key 'a' appears twice in one object
    """
    check_size(body, max_bytes)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refusal("invalid_utf8", f"body is not UTF-8 at byte {error.start}") from error
    _check_depth(text, max_depth)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique_pairs,
            parse_float=_finite_float,
            parse_int=_int64,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        raise refusal("invalid_json", f"body is not JSON at character {error.pos}: {error.msg}") from error
    _check_strings(value)
    return value


def refusal(reason: str, message: str, **context: Any) -> WireError:
    """Return a `WireError` whose context names the `reason` in one stable word."""
    return WireError(
        message, remedy="Correct the body; sending it again unchanged will not help.", reason=reason, **context
    )


def _check_depth(text: str, max_depth: int) -> None:
    depth = 0
    for bracket in _NO_BRACKET.sub("", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > max_depth:
            raise refusal("too_deep", f"body nests deeper than {max_depth} levels", max_depth=max_depth)


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise refusal("duplicate_key", f"key {key[:80]!r} appears twice in one object", field=key[:80])
            seen.add(key)
    return value


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise refusal("number_out_of_range", f"number {text[:32]} is beyond the range of a double")
    return value


def _int64(text: str) -> int:
    if len(text) <= _INT64_CHARACTERS:
        value = int(text)
        if INT64_MIN <= value <= INT64_MAX:
            return value
    raise refusal("number_out_of_range", f"integer {text[:32]} does not fit 64 bits")


def _refuse_constant(text: str) -> NoReturn:
    raise refusal("non_finite_number", f"{text} is not a JSON number")


def _check_strings(value: Any) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            for key, member in item.items():
                _check_string(key)
                if isinstance(member, str | list | dict):
                    pending.append(member)
        elif isinstance(item, list):
            pending.extend(member for member in item if isinstance(member, str | list | dict))
        elif isinstance(item, str):
            _check_string(item)


def _check_string(text: str) -> None:
    if len(text) > MAX_STRING_CHARACTERS:
        raise refusal(
            "string_too_long", f"string has {len(text)} characters, at most {MAX_STRING_CHARACTERS} are taken"
        )
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise refusal("lone_surrogate", f"string holds the lone surrogate U+{ord(text[error.start]):04X}") from error
