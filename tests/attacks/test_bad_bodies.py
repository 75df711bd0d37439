"""Bad uploads as a table: each is refused by name, whole or by row, and none surprises the reader.

A case is a full body (bytes), or a change of one good row. A refusal of the body raises; a refusal of a row names that
row and keeps the good rows around it.
"""

import gzip
import json

import pytest

from eguard.errors import PayloadTooLargeError, WireError
from eguard.wire import decode_baseline_batch, receive_baseline_batch

GOOD = {
    "process_key": "bash:sshd",
    "event_distribution": {"process_exec": 0.75, "file_open": 0.25},
    "sample_count": 400,
    "entropy_threshold": 3.6,
    "learned_at_unix": 1_772_000_000,
    "seq": 7,
}


def body(*rows: str, head: str = '"agent_id":"agent-1","batch_id":"b-1"') -> bytes:
    return f'{{{head},"baselines":[{",".join(rows)}]}}'.encode()


def good(key: str) -> str:
    return json.dumps({**GOOD, "process_key": key})


def changed(field: str, text: str) -> str:
    """Return the good row with `text`, verbatim JSON, as the value of `field`."""
    pairs = {**{name: json.dumps(value) for name, value in GOOD.items()}, field: text}
    return "{" + ",".join(f'"{name}":{value}' for name, value in pairs.items()) + "}"


def without(field: str) -> str:
    return json.dumps({name: value for name, value in GOOD.items() if name != field})


MOMENTS = '{"interarrival":{"count":%s,"mean":%s,"m2":%s}}'

BAD_BODIES = {
    "nothing": (b"", "empty_body"),
    "blank": (b"  \n", "invalid_json"),
    "not JSON": (b"process_key=bash", "invalid_json"),
    "cut off": (body(good("a:b"))[:-5], "invalid_json"),
    "cut in a string": (b'{"agent_id":"agent', "invalid_json"),
    "cut in an escape": (b'{"agent_id":"\\u00', "invalid_json"),
    "trailing text": (body(good("a:b")) + b"x", "invalid_json"),
    "two documents": (body() + body(), "invalid_json"),
    "trailing comma": (body(good("a:b") + ","), "invalid_json"),
    "comment": (b"/* hello */" + body(), "invalid_json"),
    "single quotes": (b"{'agent_id':'a'}", "invalid_json"),
    "byte order mark": (b"\xef\xbb\xbf" + body(), "invalid_json"),
    "UTF-16": (body().decode().encode("utf-16"), "invalid_utf8"),
    "UTF-32": (body().decode().encode("utf-32-be"), "invalid_json"),
    "gzip": (gzip.compress(body(), mtime=0), "invalid_utf8"),
    "zeros": (b"\0" * 64, "invalid_json"),
    "Latin-1": (body(good("caf:b")).replace(b"caf", b"caf\xe9"), "invalid_utf8"),
    "overlong slash": (body(good("a:b")).replace(b"a:b", b"\xc0\xaf:b"), "invalid_utf8"),
    "surrogate in UTF-8": (body(good("a:b")).replace(b"a:b", b"\xed\xa0\x80:b"), "invalid_utf8"),
    "beyond Unicode": (body(good("a:b")).replace(b"a:b", b"\xf4\x90\x80\x80:b"), "invalid_utf8"),
    "raw control byte": (body(good("a:b")).replace(b"a:b", b"a\x01:b"), "invalid_json"),
    "raw newline": (body(good("a:b")).replace(b"a:b", b"a\n:b"), "invalid_json"),
    "null": (b"null", "wrong_type"),
    "number": (b"42", "wrong_type"),
    "list": (b"[]", "wrong_type"),
    "string": (b'"agent"', "wrong_type"),
    "true": (b"true", "wrong_type"),
    "empty object": (b"{}", "missing_field"),
    "no rows": (b'{"agent_id":"a","batch_id":"b"}', "missing_field"),
    "no agent": (b'{"batch_id":"b","baselines":[]}', "missing_field"),
    "rows are an object": (b'{"agent_id":"a","batch_id":"b","baselines":{}}', "wrong_type"),
    "rows are null": (b'{"agent_id":"a","batch_id":"b","baselines":null}', "wrong_type"),
    "unknown field": (body(head='"agent_id":"a","batch_id":"b","admin":true'), "unknown_field"),
    "agent is a number": (body(head='"agent_id":1,"batch_id":"b"'), "wrong_type"),
    "agent is empty": (body(head='"agent_id":"","batch_id":"b"'), "invalid_length"),
    "agent is long": (body(head=f'"agent_id":"{"a" * 129}","batch_id":"b"'), "invalid_length"),
    "agent with newline": (body(head='"agent_id":"a\\nb","batch_id":"b"'), "invalid_name"),
    "agent ends in newline": (body(head='"agent_id":"a\\n","batch_id":"b"'), "invalid_name"),
    "agent with escape": (body(head='"agent_id":"\\u001b[31m","batch_id":"b"'), "invalid_name"),
    "batch with NUL": (body(head='"agent_id":"a","batch_id":"\\u0000"'), "invalid_name"),
    "agent twice": (body(head='"agent_id":"a","agent_id":"b","batch_id":"b"'), "duplicate_key"),
    "agent twice, escaped": (body(head='"agent_id":"a","agent\\u005fid":"b","batch_id":"b"'), "duplicate_key"),
    "rows twice": (b'{"agent_id":"a","batch_id":"b","baselines":[],"baselines":[]}', "duplicate_key"),
    "class twice": (body(changed("event_distribution", '{"alert":0.5,"alert":1}')), "duplicate_key"),
    "moments twice": (
        body(changed("continuous", '{"payload":{"count":1,"mean":1,"mean":2,"m2":0}}')),
        "duplicate_key",
    ),
    "seq twice": (body(good("a:b"), good("c:d")[:-1] + ',"seq":8}'), "duplicate_key"),
    "NaN": (body(changed("learned_at_unix", "NaN")), "non_finite_number"),
    "Infinity": (body(changed("learned_at_unix", "Infinity")), "non_finite_number"),
    "-Infinity": (body(changed("learned_at_unix", "-Infinity")), "non_finite_number"),
    "NaN probability": (body(changed("event_distribution", '{"alert":NaN}')), "non_finite_number"),
    "1e400": (body(changed("learned_at_unix", "1e400")), "number_out_of_range"),
    "-1e400": (body(changed("learned_at_unix", "-1e400")), "number_out_of_range"),
    "1e999999999": (body(changed("entropy_threshold", "1e999999999")), "number_out_of_range"),
    "2^63": (body(changed("sample_count", "9223372036854775808")), "number_out_of_range"),
    "2^64": (body(changed("seq", "18446744073709551616")), "number_out_of_range"),
    "-2^63-1": (body(changed("seq", "-9223372036854775809")), "number_out_of_range"),
    "five thousand digits": (body(changed("seq", "1" * 5000)), "number_out_of_range"),
    "leading zero": (body(changed("seq", "07")), "invalid_json"),
    "leading plus": (body(changed("seq", "+7")), "invalid_json"),
    "hexadecimal": (body(changed("seq", "0x7")), "invalid_json"),
    "underscore": (body(changed("seq", "1_000")), "invalid_json"),
    "bare point": (body(changed("entropy_threshold", "3.")), "invalid_json"),
    "Python True": (body(changed("seq", "True")), "invalid_json"),
    "lone high surrogate": (body(changed("process_key", '"\\ud800:b"')), "lone_surrogate"),
    "lone low surrogate": (body(changed("process_key", '"a:\\udc00"')), "lone_surrogate"),
    "surrogates reversed": (body(changed("process_key", '"\\ude00\\ud83d:b"')), "lone_surrogate"),
    "surrogate as a class": (body(changed("event_distribution", '{"\\ud800":1}')), "lone_surrogate"),
    "65 lists": (b"[" * 65 + b"]" * 65, "too_deep"),
    "deep row": (body("[" * 100 + "]" * 100), "too_deep"),
    "deep value": (body(changed("continuous", '{"x":' * 90 + "1" + "}" * 90)), "too_deep"),
    "100,000 open lists": (b"[" * 100_000, "too_deep"),
    "400,000 open objects": (b'{"a":' * 190_000, "too_deep"),
    "long string": (body(changed("process_key", json.dumps("x" * 9000))), "string_too_long"),
    "long unknown key": (body(changed("y" * 9000, "1")), "string_too_long"),
    "over the cap": (body(*(good(f"p{number}:init") for number in range(6000))), "payload_too_large"),
    "over the cap in blanks": (body() + b" " * 1_000_000, "payload_too_large"),
}

BAD_ROWS = {
    "null": ("null", "wrong_type"),
    "number": ("1", "wrong_type"),
    "list": ("[]", "wrong_type"),
    "empty": ("{}", "missing_field"),
    "no key": (without("process_key"), "missing_field"),
    "no distribution": (without("event_distribution"), "missing_field"),
    "no seq": (without("seq"), "missing_field"),
    "unknown field": (changed("prior", "[1,0,0,0,0,0,0,0]"), "unknown_field"),
    "key is null": (changed("process_key", "null"), "wrong_type"),
    "key is empty": (changed("process_key", '""'), "invalid_length"),
    "key without colon": (changed("process_key", '"bash"'), "invalid_process_key"),
    "key with two colons": (changed("process_key", '"a:b:c"'), "invalid_process_key"),
    "key with blank part": (changed("process_key", '"bash:"'), "invalid_process_key"),
    "key of blanks": (changed("process_key", '"  :  "'), "invalid_process_key"),
    "key with needless escape": (changed("process_key", '"%62ash:sshd"'), "invalid_process_key"),
    "key with lower-case escape": (changed("process_key", '"a%3ab:c"'), "invalid_process_key"),
    "key with open escape": (changed("process_key", '"a%:bc"'), "invalid_process_key"),
    "key with control byte": (changed("process_key", '"a\\u0000:b"'), "invalid_process_key"),
    "key with DEL": (changed("process_key", '"a\\u007f:b"'), "invalid_process_key"),
    "key too long": (changed("process_key", json.dumps("a:" + "b" * 511)), "invalid_length"),
    "unknown class": (changed("event_distribution", '{"keystroke":1}'), "unknown_event_class"),
    "class in capitals": (changed("event_distribution", '{"ALERT":1}'), "unknown_event_class"),
    "class by index": (changed("event_distribution", '{"7":1}'), "unknown_event_class"),
    "negative probability": (changed("event_distribution", '{"alert":1.5,"login":-0.5}'), "out_of_range"),
    "probability above 1": (changed("event_distribution", '{"alert":1.5}'), "out_of_range"),
    "probability is text": (changed("event_distribution", '{"alert":"1"}'), "wrong_type"),
    "probability is true": (changed("event_distribution", '{"alert":true}'), "wrong_type"),
    "probability is null": (changed("event_distribution", '{"alert":null}'), "wrong_type"),
    "distribution is a list": (changed("event_distribution", "[1,0,0,0,0,0,0,0]"), "wrong_type"),
    "no classes": (changed("event_distribution", "{}"), "sum_not_one"),
    "sum too small": (changed("event_distribution", '{"alert":0.999998}'), "sum_not_one"),
    "sum too large": (changed("event_distribution", '{"alert":1,"login":0.000002}'), "sum_not_one"),
    "sum is eight": (
        changed(
            "event_distribution",
            '{"process_exec":1,"process_exit":1,"file_open":1,"network_connect":1,"dns_query":1,"module_load":1,"login":1,"alert":1}',
        ),
        "sum_not_one",
    ),
    "negative count": (changed("sample_count", "-1"), "out_of_range"),
    "count of zero": (changed("sample_count", "0"), "out_of_range"),
    "fractional count": (changed("sample_count", "1.5"), "wrong_type"),
    "count as float": (changed("sample_count", "400.0"), "wrong_type"),
    "count in exponent": (changed("sample_count", "4e2"), "wrong_type"),
    "count is text": (changed("sample_count", '"400"'), "wrong_type"),
    "count is true": (changed("sample_count", "true"), "wrong_type"),
    "count of 2^53": (changed("sample_count", "9007199254740992"), "out_of_range"),
    "count of 2^63-1": (changed("sample_count", "9223372036854775807"), "out_of_range"),
    "seq of zero": (changed("seq", "0"), "out_of_range"),
    "negative seq": (changed("seq", "-9223372036854775808"), "out_of_range"),
    "negative time": (changed("learned_at_unix", "-1"), "out_of_range"),
    "time in year 10000": (changed("learned_at_unix", "253402300800"), "out_of_range"),
    "time of 1e308": (changed("learned_at_unix", "1e308"), "out_of_range"),
    "time is text": (changed("learned_at_unix", '"2026-03-01"'), "wrong_type"),
    "threshold below one": (changed("entropy_threshold", "0.5"), "out_of_range"),
    "threshold of 1e300": (changed("entropy_threshold", "1e300"), "out_of_range"),
    "generation of zero": (changed("prior_generation", "0"), "out_of_range"),
    "generation is text": (changed("prior_generation", '"7"'), "wrong_type"),
    "moments are a list": (changed("continuous", "[]"), "wrong_type"),
    "unknown feature": (changed("continuous", '{"entropy":null}'), "unknown_field"),
    "moments without count": (changed("continuous", '{"payload":{"mean":1,"m2":0}}'), "missing_field"),
    "negative moment count": (changed("continuous", MOMENTS % (-1, 1, 1)), "out_of_range"),
    "negative mean": (changed("continuous", MOMENTS % (5, -0.5, 1)), "out_of_range"),
    "mean beyond log1p": (changed("continuous", MOMENTS % (5, 64.5, 1)), "out_of_range"),
    "negative m2": (changed("continuous", MOMENTS % (5, 1, -1)), "out_of_range"),
    "impossible m2": (changed("continuous", MOMENTS % (5, 1, 1e300)), "impossible_moments"),
    "mean of nothing": (changed("continuous", MOMENTS % (0, 1, 0)), "impossible_moments"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_bodies_are_refused_whole(name):
    data, reason = BAD_BODIES[name]
    for read in (decode_baseline_batch, receive_baseline_batch):
        with pytest.raises(WireError) as caught:
            read(data)
        assert caught.value.context["reason"] == reason
        assert isinstance(caught.value, PayloadTooLargeError) == (reason == "payload_too_large")
        assert caught.value.remedy
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows_are_named_and_their_neighbours_kept(name):
    row, code = BAD_ROWS[name]
    received = receive_baseline_batch(body(good("before:init"), row, good("after:init")))
    assert [item.process_key for item in received.baselines] == ["before:init", "after:init"]
    (rejection,) = received.rejected
    assert rejection.index == 1
    assert rejection.code == code
    assert 0 < len(rejection.detail) <= 200


@pytest.mark.parametrize("name", BAD_ROWS)
def test_strict_reading_raises_for_them(name):
    row, _ = BAD_ROWS[name]
    with pytest.raises(WireError) as caught:
        decode_baseline_batch(body(row))
    assert caught.value.context["index"] == 0


@pytest.mark.parametrize("name", BAD_ROWS)
def test_every_row_bad_stores_nothing_and_names_all(name):
    row, _ = BAD_ROWS[name]
    received = receive_baseline_batch(body(row, row, row))
    assert received.baselines == []
    assert [rejection.index for rejection in received.rejected] == [0, 1, 2]


def test_the_good_row_is_good():
    assert len(decode_baseline_batch(body(good("bash:sshd"), changed("seq", "8"))).baselines) == 2


def test_the_table_is_long_enough():
    assert len(BAD_BODIES) + len(BAD_ROWS) >= 80
