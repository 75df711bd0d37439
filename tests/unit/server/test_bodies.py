import asyncio
import gzip
import json
import tracemalloc
import zlib

import pytest
import zstandard
from starlette.requests import Request

from eguard.errors import PayloadTooLargeError, ServerRefusalError, WireError
from eguard.server.bodies import answer, body_schema, read_body, read_bytes
from eguard.wire.baseline import BaselineBatch
from eguard.wire.control import CommandAcknowledgement, Heartbeat

BODY = b'{"command_id":"c1","status":"done"}'


def request(chunks, encoding=None, length=None):
    headers = [(b"content-encoding", encoding.encode())] if encoding else []
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    waiting = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive():
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b""}, receive)


def read(chunks, max_bytes=1000, **named):
    return asyncio.run(read_bytes(request(chunks, **named), max_bytes))


PACKED = {
    "identity": BODY,
    "gzip": gzip.compress(BODY, mtime=0),
    "zstd": zstandard.ZstdCompressor().compress(BODY),
}


@pytest.mark.parametrize("encoding", sorted(PACKED))
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_body_is_the_same_however_it_is_packed_and_cut(encoding, size):
    packed = PACKED[encoding]
    chunks = [packed[start : start + size] for start in range(0, len(packed), size)]
    assert read(chunks, encoding=encoding) == BODY


def test_the_cap_counts_what_comes_out():
    assert len(read([gzip.compress(b"a" * 1000)], encoding="gzip")) == 1000
    for packed, encoding in (
        (b"a" * 1001, None),
        (gzip.compress(b"a" * 1001), "gzip"),
        (zstandard.ZstdCompressor().compress(b"a" * 1001), "zstd"),
    ):
        with pytest.raises(PayloadTooLargeError):
            read([packed], encoding=encoding)


def test_a_length_beyond_the_cap_is_refused_before_a_byte_is_read():
    async def never():
        raise AssertionError("the body was read")

    asked = request([], length=1001)
    asked._receive = never
    with pytest.raises(PayloadTooLargeError):
        asyncio.run(read_bytes(asked, 1000))


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_takes_no_memory(encoding):
    size = 1 << 28
    if encoding == "gzip":
        packer = zlib.compressobj(9, wbits=31)
        bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(size >> 24)) + packer.flush()
    else:
        packer = zstandard.ZstdCompressor(level=3).compressobj()
        bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(size >> 24)) + packer.flush()
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLargeError):
            read([bomb], max_bytes=1_000_000, encoding=encoding)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32_000_000


@pytest.mark.parametrize(
    ("packed", "encoding", "code"),
    [
        (PACKED["gzip"][:-9], "gzip", "invalid_compression"),
        (PACKED["zstd"][:-3], "zstd", "invalid_compression"),
        (b"no gzip at all", "gzip", "invalid_compression"),
        (b"no zstd at all", "zstd", "invalid_compression"),
        (PACKED["gzip"] + b"tail", "gzip", "invalid_compression"),
        (BODY, "br", "unsupported_encoding"),
        (BODY, "gzip, gzip", "unsupported_encoding"),
    ],
    ids=["gzip cut", "zstd cut", "not gzip", "not zstd", "tail", "brotli", "twice"],
)
def test_bad_packing_has_a_code(packed, encoding, code):
    with pytest.raises(ServerRefusalError) as refused:
        read([packed], encoding=encoding)
    assert refused.value.reason == code
    assert refused.value.status in {400, 415}


def test_a_connection_that_ends_early_is_no_body():
    asked = request([])

    async def gone():
        return {"type": "http.disconnect"}

    asked._receive = gone
    with pytest.raises(ServerRefusalError) as refused:
        asyncio.run(read_bytes(asked, 1000))
    assert refused.value.reason == "incomplete_body"


def test_a_record_is_read_or_its_field_named():
    said = asyncio.run(read_body(request([BODY]), CommandAcknowledgement))
    assert (said.command_id, said.status) == ("c1", "done")
    with pytest.raises(WireError) as refused:
        asyncio.run(read_body(request([b'{"command_id":"c1","status":"perhaps"}']), CommandAcknowledgement))
    assert refused.value.context["field"] == "status"


def test_schemas_stand_alone():
    for form in (Heartbeat, BaselineBatch):
        text = json.dumps(body_schema(form))
        assert "$ref" not in text
        assert '"required"' in text


def test_an_answer_is_json():
    given = answer({"a": [1]}, 202)
    assert (given.status_code, given.body, given.media_type) == (202, b'{"a":[1]}', "application/json")
