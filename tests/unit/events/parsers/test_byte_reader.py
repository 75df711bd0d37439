from pathlib import Path

import pytest

from eguard.errors import CorruptFileError
from eguard.events.parsers.byte_reader import ByteReader


def reader(*blocks, is_damaged=False):
    def stream():
        yield from blocks
        if is_damaged:
            raise CorruptFileError("broken")

    return ByteReader(stream(), Path("file"))


def test_looking_ahead_consumes_nothing():
    source = reader(b"ab", b"", b"cd")
    assert [source.peek(3), source.peek(9), source.offset_bytes] == [b"abc", b"abcd", 0]
    assert [source.exactly(3, "x"), source.some(), source.some()] == [b"abc", b"d", b""]
    assert source.offset_bytes == 4


def test_bytes_given_back_come_again():
    source = reader(b"abcd")
    assert source.some(3) == b"abc"
    source.give_back(b"bc")
    assert source.offset_bytes == 1
    assert b"".join(source.span(3, "x")) == b"bcd"


def test_what_stands_before_damage_is_delivered_before_it():
    source = reader(b"ab", is_damaged=True)
    assert source.peek(9) == b"ab"
    assert source.some() == b"ab"
    for _ in range(2):
        with pytest.raises(CorruptFileError, match="broken"):
            source.some()
    with pytest.raises(CorruptFileError, match="broken"):
        reader(b"ab", is_damaged=True).exactly(3, "x")


def test_a_stream_that_is_too_short_is_damage_at_its_position():
    source = reader(b"abcd")
    source.some(1)
    with pytest.raises(CorruptFileError, match="file is damaged at byte 1: it breaks off inside a header") as caught:
        source.exactly(4, "a header")
    assert caught.value.context["byte"] == 1
    with pytest.raises(CorruptFileError, match="at byte 4: it breaks off inside a member"):
        list(source.span(9, "a member"))
