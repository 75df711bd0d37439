"""What an agent and its shards say to each other, as MessagePack in frames: eight bytes of length, then the message.

Numbers of a batch travel as the bytes of their arrays. Both ends run the same version on the same machine.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

import msgspec

from eguard.detection.engine_options import WindowOptions
from eguard.detection.window_batch import ClosedWindow

_LENGTH: Final = struct.Struct("=Q")


class Begin(msgspec.Struct, array_like=True, tag=True):
    """What a shard is told before all requests: sizes and settings of layer 3. It is not answered."""

    capacity: int
    options: WindowOptions


class Request(msgspec.Struct, array_like=True, tag=True):
    """Something to do with one version of the profiles; each request is answered once.

    `forgotten` are slots whose keys were evicted since the last request: their windows are cleared before all else.
    """

    version: int
    forgotten: list[int]


class Load(Request, array_like=True, tag=True):
    """Detect with other content: packed rules; indicators and the prefilter's strings as JSON."""

    rules: bytes
    indicators: bytes
    prefilter: bytes


class Detect(Request, array_like=True, tag=True):
    """Evaluate and learn a shard's events of one batch.

    `numbers` are columns of `n_events` as bytes, `texts` columns of text; a column of one value is all the same.
    `fields` is empty where no event has its own.
    """

    overdispersion: float
    n_events: int
    numbers: dict[str, bytes]
    texts: dict[str, list[Any]]
    fields: list[Any]


class Settle(Request, array_like=True, tag=True):
    """Learn what is older than `before_unix` in open windows."""

    before_unix: float


class ForgetTimes(Request, array_like=True, tag=True):
    """Forget when alarms were: the clock was set."""


AnyRequest = Load | Detect | Settle | ForgetTimes


class Answer(msgspec.Struct, array_like=True, tag=True):
    """That a request is done, with the version and the fleet generation that it was done with.

    `clock_steps` are the steps back in time seen while learning. `open_windows` and `waiting_events` say what would be
    lost with this shard: its open windows, and the events in them that are not learned yet.
    """

    version: int
    generation: int
    clock_steps: int
    open_windows: int
    waiting_events: int


class Found(Answer, array_like=True, tag=True):
    """What a shard found in its events; positions count its own events, ranks its own closed windows."""

    has_indicator: bytes
    signature_count: bytes
    rules: dict[int, tuple[int, ...]]
    enrichment: dict[int, tuple[int, ...]]
    closed: list[ClosedWindow]
    closed_index: bytes
    serials: bytes


class Settled(Answer, array_like=True, tag=True):
    """The slots that learned something from open windows."""

    slots: list[int]


AnyAnswer = Answer | Found | Settled

_encoder = msgspec.msgpack.Encoder()
_begin: Final = msgspec.msgpack.Decoder(Begin)
_requests: Final[msgspec.msgpack.Decoder[AnyRequest]] = msgspec.msgpack.Decoder(AnyRequest)
_answers: Final[msgspec.msgpack.Decoder[AnyAnswer]] = msgspec.msgpack.Decoder(AnyAnswer)


def encode(message: Begin | AnyRequest | AnyAnswer) -> bytes:
    """Return a message as bytes.

    Raises
    ------
    UnicodeEncodeError
        A text is no Unicode.
    """
    return _encoder.encode(message)


def decode_begin(data: bytes | bytearray) -> Begin:
    """Read what `encode` made of the first message."""
    return _begin.decode(data)


def decode_request(data: bytes | bytearray) -> AnyRequest:
    """Read what `encode` made of a request."""
    return _requests.decode(data)


def decode_answer(data: bytes | bytearray) -> AnyAnswer:
    """Read what `encode` made of an answer.

    Raises
    ------
    msgspec.DecodeError
        It is none.
    """
    return _answers.decode(data)


def send_frame(connection: socket.socket, payload: bytes) -> None:
    """Send one message.

    Raises
    ------
    OSError
        The other end is gone, or did not read in time.
    """
    connection.sendall(_LENGTH.pack(len(payload)) + payload)


def receive_frame(connection: socket.socket) -> bytearray:
    """Return the next message.

    Raises
    ------
    EOFError
        The other end is gone.
    OSError
        It did not answer in time.
    """
    (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
    return _receive(connection, length)


def _receive(connection: socket.socket, length: int) -> bytearray:
    buffer = bytearray(length)
    view, done = memoryview(buffer), 0
    while done < length:
        received = connection.recv_into(view[done:])
        if not received:
            raise EOFError
        done += received
    return buffer
