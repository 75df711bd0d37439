"""Reading and writing the control plane's bodies: strict on the way in, plain JSON on the way out."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from eguard.wire.strict_json import parse_strict_json, refusal

#: Cap on a control body. Bulk bodies (baselines, telemetry, calibration) have caps of their own.
MAX_CONTROL_BYTES = 65_536

_Body = TypeVar("_Body", bound=Struct)


def decode_body(body: bytes, form: type[_Body], max_bytes: int = MAX_CONTROL_BYTES) -> _Body:
    """Return the body as a record of `form`.

    Raises
    ------
    PayloadTooLargeError
        The body exceeds `max_bytes`.
    WireError
        The body is no strict JSON (`eguard.wire.strict_json`), or no `form`: reason ``invalid_body``, with the path of
        the field in ``context["field"]``.

    Examples
    --------
    >>> from eguard.wire.control import CommandAcknowledgement
    >>> decode_body(b'{"command_id":"c1","status":"done"}', CommandAcknowledgement).status
    'done'
    """
    value = parse_strict_json(body, max_bytes=max_bytes)
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        field = path.rstrip("`").removeprefix("$").removeprefix(".")
        raise refusal("invalid_body", f"{field or 'body'}: {message}", field=field, detail=message) from error


def encode_body(body: object) -> bytes:
    """Return a record as JSON."""
    return msgspec.json.encode(body)
