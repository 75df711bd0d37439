"""Encoding a process key is a bijection between pairs of names and accepted texts, over all of Unicode."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from eguard.errors import WireError
from eguard.wire.process_key import decode_process_key, encode_process_key, is_process_key, read_imported_key

# Every code point, lone surrogates and control bytes included, and an alphabet in which escapes meet each other.
NAMES = st.text(st.characters(codec=None), max_size=40)
TRICKY = st.text("%:u0123456789ABCDEFabcdef \t\x00\x7f\ud800\udc80é", max_size=16)
ANY_NAME = st.one_of(NAMES, TRICKY)


def named(name: str) -> str:
    return name if name.strip() else "unknown"


@settings(deadline=None)
@given(ANY_NAME, ANY_NAME)
@example("", "")
@example("%u0041", "%41")
@example("\udcc3\udca9", "é")
def test_decoding_gives_back_the_pair(comm, parent_comm):
    text = encode_process_key(comm, parent_comm)
    assert decode_process_key(text) == (named(comm), named(parent_comm))


@settings(deadline=None)
@given(ANY_NAME, ANY_NAME)
def test_the_text_can_travel(comm, parent_comm):
    text = encode_process_key(comm, parent_comm)
    assert text.encode().decode() == text
    assert text.count(":") == 1
    assert not any(ord(character) < 0x20 or ord(character) == 0x7F for character in text)


@settings(deadline=None)
@given(ANY_NAME, ANY_NAME, ANY_NAME, ANY_NAME)
def test_different_pairs_have_different_texts(comm, parent_comm, other_comm, other_parent_comm):
    is_same_pair = (named(comm), named(parent_comm)) == (named(other_comm), named(other_parent_comm))
    is_same_text = encode_process_key(comm, parent_comm) == encode_process_key(other_comm, other_parent_comm)
    assert is_same_text == is_same_pair


@settings(max_examples=300, deadline=None)
@given(st.one_of(ANY_NAME, st.builds("{}:{}".format, TRICKY, TRICKY), st.builds("{}:{}".format, NAMES, NAMES)))
def test_an_accepted_text_is_the_only_text_of_its_pair(text):
    try:
        pair = decode_process_key(text)
    except WireError:
        assert not is_process_key(text)
    else:
        assert is_process_key(text)
        assert encode_process_key(*pair) == text


@settings(deadline=None)
@given(ANY_NAME)
def test_imports_yield_canonical_keys_or_are_refused(text):
    try:
        key = read_imported_key(text)
    except WireError:
        return
    assert is_process_key(key)
