"""The process key: what it looks like, and which second spellings are refused."""

import pytest

from eguard.errors import WireError
from eguard.wire.process_key import (
    MAX_PROCESS_KEY_CHARACTERS,
    decode_process_key,
    encode_process_key,
    is_process_key,
    read_imported_key,
)


@pytest.mark.parametrize(
    ("comm", "parent_comm", "text"),
    [
        ("bash", "sshd", "bash:sshd"),
        ("kworker/0:1", "kthreadd", "kworker/0%3A1:kthreadd"),
        ("100%", "a:b:c", "100%25:a%3Ab%3Ac"),
        ("tab\there", "nul\x00del\x7f", "tab%09here:nul%00del%7F"),
        ("", "sshd", "unknown:sshd"),
        ("   ", "\t", "unknown:unknown"),
        ("Bash", "SSHD ", "Bash:SSHD "),
        ("café", "cafe\u0301", "café:cafe\u0301"),
        ("bad\udc80byte", "\ud800", "bad%uDC80byte:%uD800"),
        ("🦀", "Ω\u0085", "🦀:Ω\u0085"),
        ("%41", "%3A", "%2541:%253A"),
    ],
)
def test_text_of_a_pair_is_as_printed(comm, parent_comm, text):
    assert encode_process_key(comm, parent_comm) == text
    assert decode_process_key(text) == (
        comm if comm.strip() else "unknown",
        parent_comm if parent_comm.strip() else "unknown",
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bash",
        ":",
        "bash:",
        ":sshd",
        "a:b:c",
        "%41:b",  # an ordinary letter needs no escape
        "a%3ab:c",  # escapes are upper case
        "a%:b",
        "a%2:b",
        "a%GG:b",
        "a%u12:b",
        "a%u0041:b",  # only surrogates are written this way
        "a%80:b",  # bytes above 7F are never written so
        "a\n:b",
        "a\x7f:b",
        "a\ud800:b",
        " :b",
        "%09:b",  # decodes to a blank, which is written `unknown`
        "a:" + "b" * MAX_PROCESS_KEY_CHARACTERS,
    ],
)
def test_second_spellings_are_refused(text):
    assert not is_process_key(text)
    with pytest.raises(WireError) as caught:
        decode_process_key(text)
    assert caught.value.context["reason"] == "invalid_process_key"


def test_longest_key_is_accepted():
    text = "a:" + "b" * (MAX_PROCESS_KEY_CHARACTERS - 2)
    assert is_process_key(text)
    assert decode_process_key(text)[0] == "a"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("nginx", "nginx:fleet"),
        ("/usr/sbin/nginx", "nginx:fleet"),
        ("C\\Windows\\System32\\cmd.exe", "cmd.exe:fleet"),
        ("100%", "100%25:fleet"),
        ("bash:sshd", "bash:sshd"),
        ("kworker/0%3A1:kthreadd", "kworker/0%3A1:kthreadd"),
    ],
)
def test_imports_may_name_a_program_alone(text, key):
    assert read_imported_key(text) == key


@pytest.mark.parametrize("text", ["", "  ", "a:b:c", "%41:b", "x" * 600])
def test_imports_are_checked_too(text):
    with pytest.raises(WireError):
        read_imported_key(text)


def test_error_does_not_carry_an_endless_key():
    with pytest.raises(WireError) as caught:
        decode_process_key("x" * 100_000)
    assert len(caught.value.context["process_key"]) <= MAX_PROCESS_KEY_CHARACTERS
