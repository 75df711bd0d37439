"""Uploads: good rows are kept, bad ones are named, and nothing slips through the fast reader."""

import json

import pytest

from eguard.errors import PayloadTooLargeError, WireError
from eguard.wire import (
    BaselineBatch,
    BaselineRow,
    ContinuousMoments,
    Moments,
    decode_baseline_batch,
    encode_baseline_batch,
    entropy_threshold,
    receive_baseline_batch,
)
from eguard.wire.baseline import _read_plain_batch


def row(**changes):
    values = {
        "process_key": "bash:sshd",
        "event_distribution": {"process_exec": 0.75, "file_open": 0.25},
        "sample_count": 400,
        "entropy_threshold": entropy_threshold(400),
        "learned_at_unix": 1_772_000_000.5,
        "seq": 7,
        "continuous": ContinuousMoments(interarrival=Moments(count=399, mean=1.5, m2=20.0)),
        "prior_generation": 3,
    }
    return BaselineRow(**{**values, **changes})


def batch(*rows):
    return BaselineBatch(agent_id="agent-31bbb93f38b4", batch_id="b-1", baselines=list(rows))


def body_of(*rows):
    return {"agent_id": "agent-1", "batch_id": "b-1", "baselines": list(rows)}


def plain_row(**changes):
    values = {
        "process_key": "bash:sshd",
        "event_distribution": {"process_exec": 1.0},
        "sample_count": 50,
        "entropy_threshold": 2.7,
        "learned_at_unix": 0,
        "seq": 1,
    }
    return {**values, **changes}


def test_entropy_threshold_is_one_plus_the_decimal_logarithm():
    assert [entropy_threshold(n) for n in (0, 1, 10, 1000)] == [1.0, 1.0, 2.0, 4.0]


def test_body_is_as_the_contract_prints_it():
    body = json.loads(encode_baseline_batch(batch(row())))
    assert body == {
        "agent_id": "agent-31bbb93f38b4",
        "batch_id": "b-1",
        "baselines": [
            {
                "process_key": "bash:sshd",
                "event_distribution": {"process_exec": 0.75, "file_open": 0.25},
                "sample_count": 400,
                "entropy_threshold": entropy_threshold(400),
                "learned_at_unix": 1_772_000_000.5,
                "seq": 7,
                "continuous": {"interarrival": {"count": 399, "mean": 1.5, "m2": 20.0}},
                "prior_generation": 3,
            }
        ],
    }


def test_optional_fields_are_left_out_when_there_is_nothing_to_say():
    body = json.loads(encode_baseline_batch(batch(row(continuous=None, prior_generation=None))))
    assert "continuous" not in body["baselines"][0]
    assert "prior_generation" not in body["baselines"][0]


def test_ordinary_bodies_take_the_fast_reader_and_escapes_the_strict_one():
    encoded = encode_baseline_batch(batch(row(), row(process_key="naïve:🦀")))
    assert _read_plain_batch(encoded) is not None
    escaped = json.dumps(json.loads(encoded)).encode()
    assert b"\\u" in escaped
    assert _read_plain_batch(escaped) is None
    assert decode_baseline_batch(escaped) == decode_baseline_batch(encoded)


@pytest.mark.parametrize(
    "duplicate",
    [
        b'{"agent_id":"a","agent_id":"a","batch_id":"b","baselines":[]}',
        b'{"agent_id":"a","batch_id":"b","baselines":[],"baselines":[]}',
        (
            b'{"agent_id":"a","batch_id":"b","baselines":[{"process_key":"a:b","event_distribution":{"alert":0.5,"alert":1},'
            b'"sample_count":1,"entropy_threshold":1,"learned_at_unix":0,"seq":1}]}'
        ),
        (
            b'{"agent_id":"a","batch_id":"b","baselines":[{"process_key":"a:b","event_distribution":{"alert":1},'
            b'"sample_count":1,"sample_count":9,"entropy_threshold":1,"learned_at_unix":0,"seq":1}]}'
        ),
        (
            b'{"agent_id":"a","batch_id":"b","baselines":[{"process_key":"a:b","event_distribution":{"alert":1},"sample_count":1,'
            b'"entropy_threshold":1,"learned_at_unix":0,"seq":1,"continuous":{"payload":{"count":1,"mean":1,"m2":0,"m2":0}}}]}'
        ),
        # An escaped colon in the key makes the raw colons of the body add up again.
        (
            b'{"agent_id":"a","agent_id":"a","batch_id":"b","baselines":[{"process_key":"a\\u003ab","event_distribution":'
            b'{"alert":1},"sample_count":1,"entropy_threshold":1,"learned_at_unix":0,"seq":1}]}'
        ),
    ],
)
def test_duplicate_keys_are_refused_at_every_level(duplicate):
    with pytest.raises(WireError) as caught:
        receive_baseline_batch(duplicate)
    assert caught.value.context["reason"] == "duplicate_key"


def test_bad_rows_are_named_by_index_and_the_good_ones_kept():
    body = json.dumps(
        body_of(
            plain_row(),
            plain_row(event_distribution={"process_exec": 0.5}),
            plain_row(process_key="ls:bash"),
            plain_row(event_distribution={"keylogging": 1.0}),
            plain_row(process_key="%41:b"),
            plain_row(sample_count=-1),
            {"process_key": "a:b"},
            17,
            plain_row(process_key="ps:bash", seq=2),
        )
    ).encode()
    received = receive_baseline_batch(body)
    assert [good.process_key for good in received.baselines] == ["bash:sshd", "ls:bash", "ps:bash"]
    assert received.indices == [0, 2, 8]
    assert [(bad.index, bad.code) for bad in received.rejected] == [
        (1, "sum_not_one"),
        (3, "unknown_event_class"),
        (4, "invalid_process_key"),
        (5, "out_of_range"),
        (6, "missing_field"),
        (7, "wrong_type"),
    ]


def test_strict_reading_raises_for_the_first_bad_row():
    body = json.dumps(body_of(plain_row(), plain_row(seq=0), plain_row(seq=-1))).encode()
    with pytest.raises(WireError) as caught:
        decode_baseline_batch(body)
    assert (caught.value.context["reason"], caught.value.context["index"]) == ("out_of_range", 1)


def test_sum_may_be_off_by_a_millionth_and_no_more():
    inside = json.dumps(body_of(plain_row(event_distribution={"alert": 1 - 9e-7}))).encode()
    outside = json.dumps(body_of(plain_row(event_distribution={"alert": 1 - 1.1e-6}))).encode()
    assert len(decode_baseline_batch(inside).baselines) == 1
    assert receive_baseline_batch(outside).rejected[0].code == "sum_not_one"


@pytest.mark.parametrize("moments", [{"count": 0, "mean": 1.0, "m2": 0.0}, {"count": 10, "mean": 1.0, "m2": 10_241.0}])
def test_moments_that_no_data_have_are_refused(moments):
    body = json.dumps(body_of(plain_row(continuous={"payload": moments}))).encode()
    assert receive_baseline_batch(body).rejected[0].code == "impossible_moments"


def test_cap_counts_bytes_and_is_inclusive():
    encoded = encode_baseline_batch(batch(row()))
    assert decode_baseline_batch(encoded, max_bytes=len(encoded)).agent_id == "agent-31bbb93f38b4"
    with pytest.raises(PayloadTooLargeError):
        decode_baseline_batch(encoded, max_bytes=len(encoded) - 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"event_distribution": {"process_exec": float("nan")}},
        {"event_distribution": {"process_exec": 2.0}},
        {"learned_at_unix": float("inf")},
        {"sample_count": 0},
        {"sample_count": 2**53},
        {"process_key": "bash"},
        {"prior_generation": 0},
    ],
)
def test_an_agent_cannot_encode_what_the_server_would_refuse(changes):
    with pytest.raises(WireError):
        encode_baseline_batch(batch(row(**changes)))


def test_details_are_short_whatever_the_body_holds():
    body = json.dumps(body_of({**plain_row(), "x" * 5000: 1})).encode()
    assert len(receive_baseline_batch(body).rejected[0].detail) <= 200
