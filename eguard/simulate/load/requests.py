"""Requests as bytes, and answers checked and read: what the contract says, without a client library."""

from __future__ import annotations

from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from eguard.simulate.load.answers import Answer
from eguard.simulate.load.connection import LoadFailureError
from eguard.wire.baseline import UpsertResult
from eguard.wire.control import INCARNATION_HEADER, ErrorBody, HeartbeatAnswer
from eguard.wire.policy import SignedPolicy

_BASE: Final = "/api/v1/endpoint/"
_AGENT: Final = "Host: server\r\nUser-Agent: eguard-load\r\nAccept: application/json\r\n"
_UNREADABLE: Final = "unreadable"
_Body = TypeVar("_Body")


class _Document(msgspec.Struct):
    baseline_upload_enabled: bool = True


class _Payload(msgspec.Struct):
    revision: int
    policy: _Document


class _Page(msgspec.Struct):
    seeded: int
    next_cursor: str | None


_UPSERT: Final = msgspec.json.Decoder(UpsertResult)
_BEAT: Final = msgspec.json.Decoder(HeartbeatAnswer)
_SIGNED: Final = msgspec.json.Decoder(SignedPolicy)
_PAYLOAD: Final = msgspec.json.Decoder(_Payload)
_PAGE: Final = msgspec.json.Decoder(_Page)
_ERROR: Final = msgspec.json.Decoder(ErrorBody)


def get(path: str) -> bytes:
    r"""Return a request for something.

    Examples
    --------
    >>> get("policy?revision=3").split(b"\r\n")[0]
    b'GET /api/v1/endpoint/policy?revision=3 HTTP/1.1'
    """
    return f"GET {_BASE}{path} HTTP/1.1\r\n{_AGENT}\r\n".encode()


def post(path: str, body: bytes, incarnation: str = "") -> bytes:
    """Return a request that brings JSON; an upload says in which incarnation."""
    extra = f"{INCARNATION_HEADER}: {incarnation}\r\n" if incarnation else ""
    head = f"POST {_BASE}{path} HTTP/1.1\r\n{_AGENT}Content-Type: application/json\r\n{extra}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def get_page(limit: int, cursor: str | None) -> bytes:
    """Return a request for a page of seeds."""
    return get(f"baseline/fleet?limit={limit}" + (f"&cursor={quote(cursor, safe='')}" if cursor is not None else ""))


def checked(answer: Answer) -> Answer:
    """Return an answer of success.

    Raises
    ------
    LoadFailureError
        Its kind is status and code, such as ``403_baseline_upload_disabled``.
    """
    if 200 <= answer.status < 300:
        return answer
    try:
        raise LoadFailureError(f"{answer.status}_{_ERROR.decode(answer.body).code}")
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise LoadFailureError(str(answer.status)) from None


def read_result(answer: Answer) -> UpsertResult:
    """Return what became of an upload."""
    return _read(_UPSERT, answer.body)


def read_beat(answer: Answer) -> HeartbeatAnswer:
    """Return the answer to a heartbeat."""
    return _read(_BEAT, answer.body)


def read_page(answer: Answer) -> tuple[int, str | None]:
    """Return how many seeds a page has, and where the next one begins."""
    page = _read(_PAGE, answer.body)
    return page.seeded, page.next_cursor


def read_policy(answer: Answer) -> tuple[int, bool]:
    """Return a policy's revision and whether it wants uploads. Its signature is not checked."""
    payload = _read(_PAYLOAD, _read(_SIGNED, answer.body).payload)
    return payload.revision, payload.policy.baseline_upload_enabled


def _read(decoder: msgspec.json.Decoder[_Body], text: bytes | str) -> _Body:
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LoadFailureError(_UNREADABLE) from error
