"""Frames and messages: values come back as they were, and an end that is gone is told from one that is slow."""

import math
import socket
import threading

import msgspec
import pytest

from eguard.agent.shards.messages import (
    Answer,
    Begin,
    Found,
    Settle,
    Settled,
    decode_answer,
    decode_begin,
    decode_request,
    encode,
    receive_frame,
    send_frame,
)
from eguard.detection.engine_options import WindowOptions
from eguard.detection.window_batch import ClosedWindow
from eguard.detection.window_test import WindowLevel, WindowScore

WINDOW = ClosedWindow(
    window_id="s-3.1",
    index=2,
    slot=3,
    started_unix=0.1 + 0.2,
    closed_unix=2.0,
    counts=(1, 0, 0, 0, 0, 0, 0, 15),
    learned_counts=(0,) * 8,
    score=WindowScore(WindowLevel.HIGH, 1.25, (0.125,) * 8, 99, 12.0, math.inf, 0.75),
    is_held=True,
    drift_alarm=False,
    rate_alarm=True,
    recent_alarms=(1.0, 2.0),
    archived=(4,) * 8,
)


@pytest.fixture
def ends():
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_a_closed_window_comes_back_as_it_was():
    found = Found(1, 2, 3, 4, 5, b"", b"", {7: (0, 2)}, {}, [WINDOW], b"", b"")
    again = decode_answer(encode(found))
    assert again == found
    assert again.closed == [WINDOW]
    assert isinstance(again.closed[0].score.level, WindowLevel)
    assert isinstance(again.closed[0].counts, tuple)


def test_what_is_not_a_number_stays_so():
    untested = WindowScore(WindowLevel.UNTESTED, 1.25, (0.125,) * 8, 0, 1.0)
    assert math.isnan(msgspec.msgpack.decode(encode(untested), type=WindowScore).threshold_medium_bits)


def test_kinds_of_messages_are_told_apart():
    assert type(decode_answer(encode(Answer(1, 2, 3, 4, 5)))) is Answer
    assert type(decode_answer(encode(Settled(1, 2, 3, 4, 5, slots=[6])))) is Settled
    settle = Settle(1, [7], 9.5)
    assert decode_request(encode(settle)) == settle
    begin = Begin(16, WindowOptions(window_events=9, session="s"))
    assert decode_begin(encode(begin)) == begin
    for decode in (decode_answer, decode_request):
        with pytest.raises(msgspec.DecodeError):
            decode(encode(begin))


def test_a_frame_larger_than_the_sockets_buffer_arrives_whole(ends):
    one, other = ends
    payload = bytes(range(256)) * 20_000
    sender = threading.Thread(target=send_frame, args=(one, payload))
    sender.start()
    assert receive_frame(other) == payload
    sender.join()
    send_frame(one, b"")
    assert receive_frame(other) == b""


def test_an_end_that_is_gone_is_told_even_within_a_frame(ends):
    one, other = ends
    one.sendall(b"\x05\0\0\0\0\0\0\0ab")
    one.close()
    with pytest.raises(EOFError):
        receive_frame(other)


def test_a_slow_end_is_told(ends):
    one, other = ends
    other.settimeout(0.01)
    with pytest.raises(TimeoutError):
        receive_frame(other)
    one.settimeout(0.01)
    with pytest.raises(TimeoutError):
        send_frame(one, bytes(10_000_000))
