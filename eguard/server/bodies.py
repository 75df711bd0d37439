"""Bodies in and out: capped while they arrive, decompressed no further than allowed, read strictly."""

from __future__ import annotations

import zlib
from typing import Any, Final, TypeVar

import msgspec
import zstandard
from msgspec import Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from eguard.errors import PayloadTooLargeError, ServerRefusalError
from eguard.wire.bodies import MAX_CONTROL_BYTES, decode_body, encode_body

_CHUNK_BYTES: Final = 65_536
_GZIP: Final = 16 + zlib.MAX_WBITS
#: A frame may ask for a window of gigabytes; eight megabytes is what every writer uses by default.
_MAX_WINDOW_BYTES: Final = 8 << 20

_Body = TypeVar("_Body", bound=Struct)


async def read_bytes(request: Request, max_bytes: int) -> bytes:
    """Return a request's body, decompressed, as long as it has at most `max_bytes`.

    Raises
    ------
    PayloadTooLargeError
        There is more. What came so far is dropped, and the rest is not read.
    ServerRefusalError
        415 for an encoding other than identity, gzip and zstd; 400 for one that is damaged or cut off.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    length = request.headers.get("content-length")
    if length is not None and length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    expander = _expander(encoding)
    body = bytearray()
    try:
        async for chunk in request.stream():
            for start in range(0, len(chunk), _CHUNK_BYTES):
                piece = chunk[start : start + _CHUNK_BYTES]
                body += piece if expander is None else expander.expand(piece, max_bytes + 1 - len(body))
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
    except ClientDisconnect as error:
        raise ServerRefusalError(400, "incomplete_body", "the connection ended before the body did") from error
    if expander is not None and not expander.is_complete:
        raise ServerRefusalError(400, "invalid_compression", f"the {encoding} body is cut off")
    return bytes(body)


async def read_body(request: Request, form: type[_Body], max_bytes: int = MAX_CONTROL_BYTES) -> _Body:
    """Return a request's body as a record.

    Raises
    ------
    PayloadTooLargeError, WireError, ServerRefusalError
        As `read_bytes` and `eguard.wire.bodies.decode_body`.
    """
    return decode_body(await read_bytes(request, max_bytes), form, max_bytes)


def body_schema(*forms: type[Struct]) -> dict[str, Any]:
    """Return the OpenAPI of a request body that is read as one of `forms`."""
    schemas = [msgspec.json.schema(form, ref_template="#/components/schemas/{name}") for form in forms]
    inlined = [_inline(schema) for schema in schemas]
    schema = inlined[0] if len(inlined) == 1 else {"anyOf": inlined}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a record or plain value as a JSON answer."""
    return Response(encode_body(value), status, headers, "application/json")


def _inline(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that refers to nothing outside itself."""
    definitions = schema.get("$defs", {})

    def resolve(part: Any) -> Any:
        if isinstance(part, dict):
            name = part.get("$ref", "").rpartition("/")[2]
            if name in definitions:
                return resolve(definitions[name])
            return {key: _ecma(key, resolve(value)) for key, value in part.items() if key != "$defs"}
        return [resolve(item) for item in part] if isinstance(part, list) else part

    resolved: dict[str, Any] = resolve(schema)
    return resolved


def _ecma(key: str, value: Any) -> Any:
    """Return a schema's value; JSON Schema marks the ends of a text with other letters than Python does."""
    if key == "pattern" and isinstance(value, str):
        return value.replace(r"\A", "^").replace(r"\Z", "$")
    return value


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(_GZIP)

    @property
    def is_complete(self) -> bool:
        return self._inner.eof and not self._inner.unused_data

    def expand(self, data: bytes, limit_bytes: int) -> bytes:
        try:
            return self._inner.decompress(data, max(limit_bytes, 1))
        except zlib.error as error:
            raise ServerRefusalError(400, "invalid_compression", f"the gzip body is damaged: {error}") from error


class _Zstandard:
    """Expands a single frame; its output is taken in small pieces, so a bomb stops at the limit."""

    def __init__(self) -> None:
        self._inner = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).decompressobj(
            write_size=_CHUNK_BYTES
        )

    @property
    def is_complete(self) -> bool:
        return bool(self._inner.eof) and not self._inner.unused_data

    def expand(self, data: bytes, limit_bytes: int) -> bytes:
        expanded = bytearray()
        try:
            for start in range(0, len(data), 64):  # at most 64 blocks' worth of output ahead of the limit
                expanded += self._inner.decompress(data[start : start + 64])
                if len(expanded) > limit_bytes:
                    break
        except zstandard.ZstdError as error:
            raise ServerRefusalError(400, "invalid_compression", f"the zstd body is damaged: {error}") from error
        return bytes(expanded)


def _expander(encoding: str) -> _Gzip | _Zstandard | None:
    if encoding in {"", "identity"}:
        return None
    if encoding == "gzip":
        return _Gzip()
    if encoding == "zstd":
        return _Zstandard()
    raise ServerRefusalError(415, "unsupported_encoding", "bodies are taken plain, as gzip or as zstd")


def _too_large(max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"the body has more than {max_bytes} bytes", remedy="Split it into smaller ones.", max_bytes=max_bytes
    )
