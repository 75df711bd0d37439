"""Reading answers: whatever the pieces, and whatever the rubbish."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.simulate.load.answers import MAX_BODY_BYTES, MAX_HEAD_BYTES, Answer, AnswerReader, MalformedAnswerError


def whole(status=200, body=b"", fields=b""):
    return b"HTTP/1.1 %d Some Phrase\r\ncontent-length: %d\r\n%s\r\n" % (status, len(body), fields) + body


def fed(reader, data, cuts):
    """Feed `data` in pieces; return the answers."""
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[begin:end] for begin, end in pairwise(edges) if end > begin]
    return [answer for piece in pieces if (answer := reader.feed(piece)) is not None]


@given(st.binary(max_size=300), st.sampled_from([200, 201, 403, 503]), st.lists(st.integers(1, 400), max_size=8))
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(body, status, cuts):
    reader = AnswerReader()
    assert fed(reader, whole(status, body), cuts) == [Answer(status, body, is_last=False)]
    assert reader.is_empty
    assert fed(reader, whole(204), cuts) == [Answer(204, b"", is_last=False)]


@given(st.binary(min_size=1, max_size=400), st.lists(st.integers(1, 400), max_size=4))
def test_rubbish_is_refused_or_waited_for_and_never_an_answer(rubbish, cuts):
    reader = AnswerReader()
    try:
        answers = fed(reader, rubbish, cuts)
    except MalformedAnswerError:
        return
    assert not answers
    assert not reader.is_empty


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxy",
        b"HTTP/1.1 204 Nothing\r\n\r\nx",
        b"x" * (MAX_HEAD_BYTES + 1),
        b"HTTP/1.1 200 OK\r\na: " + b"x" * MAX_HEAD_BYTES + b"\r\ncontent-length: 0\r\n\r\n",
    ],
    ids=[
        "old version", "no number", "four digits", "continue", "no length", "negative", "two lengths", "huge", "chunks",
        "no colon", "more than was said", "a body of nothing", "endless head", "long head",
    ],
)  # fmt: skip
def test_what_the_contract_does_not_use_is_refused(data):
    with pytest.raises(MalformedAnswerError):
        AnswerReader().feed(data)


def test_a_server_that_closes_says_so():
    assert AnswerReader().feed(whole(503, b"{}", b"Connection: close\r\n")).is_last
    assert not AnswerReader().feed(whole(200, b"{}", b"Connection: keep-alive\r\n")).is_last
