"""What a server's answer is worth: read up to a cap, and sorted into success, refusal and trouble."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final, TypeVar

import httpcore2
import msgspec

from eguard.errors import ServerRefusalError, ServerUnavailableError, WireError
from eguard.wire.bodies import decode_body
from eguard.wire.control import ErrorBody

#: A body of refusal has one sentence and the fields; more is not read of it.
_MAX_ERROR_BYTES: Final = 65_536
_MAX_TEXT: Final = 300
#: What passes by itself: the server is busy, or gave up waiting for us.
_PASSING: Final = frozenset({408, 425, 429})
_TLS_REMEDY: Final = (
    "See that EGUARD_TLS_CA is the authority of this server's certificate, that EGUARD_SERVER names the server as its "
    "certificate does, and that this agent's certificate is neither expired nor revoked."
)

_Body = TypeVar("_Body", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read to its end. `tls` is the version of TLS that it came over."""

    status: int
    headers: dict[str, str]
    body: bytes
    tls: str = ""


def read_capped(response: httpcore2.Response, max_bytes: int, tls: str) -> Answer:
    """Return the answer, whose body has at most `max_bytes`.

    Raises
    ------
    ServerUnavailableError
        It has more. What was read is thrown away, and the rest not read.
    """
    is_success = 200 <= response.status < 300
    limit = max_bytes if is_success else _MAX_ERROR_BYTES
    chunks: list[bytes] = []
    size = 0
    for chunk in response.iter_stream():
        size += len(chunk)
        if size > limit:
            raise ServerUnavailableError(
                f"the server's answer is longer than {limit} bytes", reason="too_long", status=response.status
            )
        chunks.append(chunk)
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    return Answer(response.status, headers, b"".join(chunks), tls)


def checked(answer: Answer, server: str) -> Answer:
    """Return an answer of success.

    Raises
    ------
    ServerRefusalError
        Status 4xx that a repetition does not change.
    ServerUnavailableError
        Every other status. ``context["retry_after_seconds"]`` is what the server asked for.
    """
    if 200 <= answer.status < 300:
        return answer
    body = _error_body(answer)
    text = f"{server} answered {answer.status}" + (f": {printable(body.message)}" if body else "")
    pause = _retry_after(answer)
    if 400 <= answer.status < 500 and answer.status not in _PASSING:
        raise ServerRefusalError(
            answer.status,
            printable(body.code, 64) if body else f"http_{answer.status}",
            text,
            errors=[(printable(fault.field, 64), printable(fault.detail)) for fault in body.errors[:16]]
            if body
            else (),
            retry_after_seconds=pause,
        )
    raise ServerUnavailableError(text, reason="status", status=answer.status, retry_after_seconds=pause)


def decoded(body: bytes, form: type[_Body], server: str) -> _Body:
    """Return the body of an answer as a record of `form`.

    The server is authenticated, so nobody smuggles keys in twice; what matters is that nothing else gets through.

    Raises
    ------
    ServerUnavailableError
        It is none.
    """
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ServerUnavailableError(
            f"{server} answered what cannot be read: {printable(str(error))}",
            remedy="See whether EGUARD_SERVER is an eGuard server of this version.",
            reason="unreadable",
        ) from error


def unavailable(error: Exception, server: str) -> ServerUnavailableError:
    """Return what a failure of the network is called here."""
    cause = error.__cause__ or error.__context__ or error
    is_tls = isinstance(cause, ssl.SSLError) or "SSL" in str(error)
    if isinstance(error, httpcore2.TimeoutException):
        return ServerUnavailableError(f"{server} did not answer in time", reason="timeout")
    if is_tls:
        return ServerUnavailableError(
            f"no secure channel to {server}: {printable(str(error))}", remedy=_TLS_REMEDY, reason="tls"
        )
    what = "cannot be reached" if isinstance(error, httpcore2.ConnectError) else "broke off"
    return ServerUnavailableError(
        f"{server} {what}: {printable(str(error) or type(error).__name__)}",
        remedy="See whether the server runs and can be reached from here: eguard doctor.",
        reason="connect" if isinstance(error, httpcore2.ConnectError) else "broken_off",
    )


def printable(text: str, limit: int = _MAX_TEXT) -> str:
    r"""Return a server's text, short, with escapes for what is not to be printed.

    Examples
    --------
    >>> printable("no\x1b[2J")
    'no\\x1b[2J'
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:limit])


def _error_body(answer: Answer) -> ErrorBody | None:
    try:
        return decode_body(answer.body, ErrorBody, _MAX_ERROR_BYTES)
    except WireError:
        return None


def _retry_after(answer: Answer) -> float:
    """Return the header's seconds; its other form, a date, is not worth a second clock."""
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 0.0
