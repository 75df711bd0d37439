"""Answers of an HTTP/1.1 server, read as they arrive: the little of it that a load generator needs, and nothing more.

A client library costs more time a request than TLS does, and ten thousand of its sessions more memory than the server
under test. What the contract does not use (chunks, continuations, upgrades) is refused rather than half understood.

References
----------
RFC 9112, sections 2.1 and 6.3.
"""

from __future__ import annotations

from typing import Final, NamedTuple

#: Longest head, and longest body: a page of seeds.
MAX_HEAD_BYTES: Final = 16_384
MAX_BODY_BYTES: Final = 4_194_304

_END_OF_HEAD: Final = b"\r\n\r\n"
_NO_BODY: Final = frozenset({204, 304})


class Answer(NamedTuple):
    """An answer that was read to its end. `is_last`: the server closes the connection after it."""

    status: int
    body: bytes
    is_last: bool


class MalformedAnswerError(ValueError):
    """What a server sent is no answer that can be read."""


class AnswerReader:
    r"""Collects one answer after the other.

    Examples
    --------
    >>> reader = AnswerReader()
    >>> reader.feed(b"HTTP/1.1 200 OK\r\nContent-Le")
    >>> reader.feed(b"ngth: 2\r\n\r\nhi")
    Answer(status=200, body=b'hi', is_last=False)
    """

    __slots__ = ("_is_last", "_received", "_status", "_wanted_bytes")

    def __init__(self) -> None:
        self._received = b""
        self._status = 0
        self._is_last = False
        self._wanted_bytes = -1

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come of an answer that is not complete."""
        return not self._received and self._wanted_bytes < 0

    def feed(self, data: bytes) -> Answer | None:
        """Take what arrived; return the answer once it is complete.

        Raises
        ------
        MalformedAnswerError
            It is no answer, or there is something behind it that nobody asked for.
        """
        self._received = self._received + data if self._received else data
        if self._wanted_bytes < 0 and not self._read_head():
            return None
        if len(self._received) < self._wanted_bytes:
            return None
        if len(self._received) > self._wanted_bytes:
            raise MalformedAnswerError("there is more than was asked for")
        answer = Answer(self._status, self._received, self._is_last)
        self._received, self._wanted_bytes = b"", -1
        return answer

    def _read_head(self) -> bool:
        end = self._received.find(_END_OF_HEAD)
        if end < 0 or end > MAX_HEAD_BYTES:
            if len(self._received) > MAX_HEAD_BYTES:
                raise MalformedAnswerError("the head is too long")
            return False
        lines = self._received[:end].split(b"\r\n")
        self._status = _status(lines[0])
        self._wanted_bytes, self._is_last = _framing(lines[1:], self._status)
        self._received = self._received[end + len(_END_OF_HEAD) :]
        return True


def _status(line: bytes) -> int:
    version, _, rest = line.partition(b" ")
    code = rest[:3]
    if version != b"HTTP/1.1" or not code.isdigit() or rest[3:4] not in (b"", b" ") or not 200 <= int(code) <= 599:
        raise MalformedAnswerError(f"no status line of HTTP/1.1: {line[:60]!r}")
    return int(code)


def _framing(lines: list[bytes], status: int) -> tuple[int, bool]:
    """Return the length of the body and whether the connection ends behind it."""
    length = 0 if status in _NO_BODY else -1
    is_last = False
    for line in lines:
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if not colon or not name:
            raise MalformedAnswerError(f"no header field: {line[:60]!r}")
        if name == b"content-length":
            if not value.isdigit() or length not in (-1, 0, int(value)) or int(value) > MAX_BODY_BYTES:
                raise MalformedAnswerError(f"no length of a body: {value[:20]!r}")
            length = 0 if status in _NO_BODY else int(value)
        elif name == b"transfer-encoding":
            raise MalformedAnswerError("the body comes in pieces, which the contract does not use")
        elif name == b"connection":
            is_last = value.lower() == b"close"
    if length < 0:
        raise MalformedAnswerError("the body has no length")
    return length, is_last
