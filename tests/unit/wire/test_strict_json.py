"""Strict JSON: every refusal by its reason, and linear time on hostile bodies."""

import json
import time

import pytest

from eguard.errors import PayloadTooLargeError, WireError
from eguard.wire.strict_json import MAX_STRING_CHARACTERS, parse_strict_json


def reason_of(body: bytes, max_bytes: int = 2_000_000) -> str:
    with pytest.raises(WireError) as caught:
        parse_strict_json(body, max_bytes=max_bytes)
    return caught.value.context["reason"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty_body"),
        (b" ", "invalid_json"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b"{", "invalid_json"),
        (b"{}x", "invalid_json"),
        (b"[1,]", "invalid_json"),
        (b"{'a':1}", "invalid_json"),
        (b"[01]", "invalid_json"),
        (b"[+1]", "invalid_json"),
        (b"[.5]", "invalid_json"),
        (b"[1.]", "invalid_json"),
        (b"[0x10]", "invalid_json"),
        (b'["a\nb"]', "invalid_json"),
        (b'["\\x"]', "invalid_json"),
        (b'["\xff"]', "invalid_utf8"),
        (b'["\xed\xa0\x80"]', "invalid_utf8"),
        (b'["\xc0\x80"]', "invalid_utf8"),
        (b"[NaN]", "non_finite_number"),
        (b"[Infinity]", "non_finite_number"),
        (b"[-Infinity]", "non_finite_number"),
        (b"[1e400]", "number_out_of_range"),
        (b"[-1e400]", "number_out_of_range"),
        (b"[9223372036854775808]", "number_out_of_range"),
        (b"[-9223372036854775809]", "number_out_of_range"),
        (b"[" + b"1" * 5000 + b"]", "number_out_of_range"),
        (b'{"a":1,"a":1}', "duplicate_key"),
        (b'{"a":1,"\\u0061":2}', "duplicate_key"),
        (b'[[{"x":{"y":1,"y":2}}]]', "duplicate_key"),
        (b'["\\ud800"]', "lone_surrogate"),
        (b'{"\\udfff":1}', "lone_surrogate"),
        (b'["\\ude00\\ud83d"]', "lone_surrogate"),
        (b"[" * 65 + b"]" * 65, "too_deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "too_deep"),
        (b'["' + b"x" * (MAX_STRING_CHARACTERS + 1) + b'"]', "string_too_long"),
        (b'{"' + b"x" * (MAX_STRING_CHARACTERS + 1) + b'":1}', "string_too_long"),
    ],
)
def test_refusals_have_their_reason(body, reason):
    assert reason_of(body) == reason


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[9223372036854775807,-9223372036854775808]",
        b"[1e308,-0.0,1e-400]",
        b"[" * 64 + b"]" * 64,
        b'["' + b"[" * 1000 + b'"]',  # brackets in a string open nothing
        b'["\\"[[[", "\\\\", "\\ud83d\\ude00"]',
        '{"é":[true,false,null]}'.encode(),
    ],
)
def test_good_bodies_read_as_the_standard_library_reads_them(body):
    assert parse_strict_json(body, max_bytes=10_000) == json.loads(body)


def test_cap_is_inclusive():
    assert parse_strict_json(b"[1]", max_bytes=3) == [1]
    with pytest.raises(PayloadTooLargeError) as caught:
        parse_strict_json(b"[1] ", max_bytes=3)
    assert caught.value.context["reason"] == "payload_too_large"


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * 499_000,  # a string that never closes, full of quotes that do not count
        b'"' * 999_999,
        b"[" * 999_999,
        b"[]" * 499_999,
        b"{" * 64 + b'"' * 900_000,
        b'["\\' * 249_999,
    ],
)
def test_a_megabyte_of_hostile_bytes_is_refused_in_linear_time(body):
    started = time.perf_counter()
    reason_of(body)
    assert time.perf_counter() - started < 3.0
