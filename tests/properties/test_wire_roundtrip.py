"""What is encoded is what is decoded, and both readers of an upload agree on every body."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eguard.errors import WireError
from eguard.wire import (
    CLASS_NAMES,
    BaselineBatch,
    BaselineRow,
    ContinuousMoments,
    FleetPage,
    FleetRow,
    Moments,
    decode_baseline_batch,
    decode_fleet_page,
    distribution_from_vector,
    encode_baseline_batch,
    encode_fleet_page,
    encode_process_key,
    entropy_threshold,
    parse_strict_json,
)
from eguard.wire.baseline import _read_plain_batch, _read_strictly, receive_baseline_batch

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1, max_size=60)
COUNTS = st.lists(st.integers(0, 10**6), min_size=8, max_size=8).filter(any)
MOMENTS = st.builds(
    lambda count, mean, share: Moments(count=count, mean=mean, m2=share * count),
    st.integers(1, 2**40),
    st.floats(0, 64),
    st.floats(0, 1000),
)
CONTINUOUS = st.builds(ContinuousMoments, interarrival=st.none() | MOMENTS, payload=st.none() | MOMENTS)


@st.composite
def baseline_rows(draw):
    counts = np.array(draw(COUNTS))
    total = int(counts.sum())
    return BaselineRow(
        process_key=encode_process_key(draw(NAMES), draw(NAMES)),
        event_distribution=distribution_from_vector(counts / total),
        sample_count=total,
        entropy_threshold=entropy_threshold(total),
        learned_at_unix=draw(st.floats(0, 253_402_300_799)),
        seq=draw(st.integers(1, 2**53 - 1)),
        continuous=draw(st.none() | CONTINUOUS),
        prior_generation=draw(st.none() | st.integers(1, 2**53 - 1)),
    )


BATCHES = st.builds(
    BaselineBatch, agent_id=PRINTABLE, batch_id=PRINTABLE, baselines=st.lists(baseline_rows(), max_size=3)
)


@settings(max_examples=50, deadline=None)
@given(BATCHES)
def test_a_batch_comes_back_equal_and_encodes_to_the_same_bytes(batch):
    body = encode_baseline_batch(batch)
    assert decode_baseline_batch(body) == batch
    assert encode_baseline_batch(decode_baseline_batch(body)) == body


@settings(max_examples=50, deadline=None)
@given(BATCHES)
def test_other_writers_of_the_same_json_are_understood(batch):
    value = json.loads(encode_baseline_batch(batch))
    for body in (json.dumps(value), json.dumps(value, indent=1), json.dumps(value, ensure_ascii=False, sort_keys=True)):
        assert decode_baseline_batch(body.encode()) == batch


@settings(max_examples=150, deadline=None)
@given(BATCHES, st.data())
def test_fast_and_strict_reader_agree_on_damaged_bodies(batch, data):
    body = bytearray(encode_baseline_batch(batch))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b"0", b'"', b"-", b",", b"\xff", b"e9", b":"])
        )
    damaged = bytes(body)
    fast = _read_plain_batch(damaged) if damaged else None
    if fast is not None:
        strict = _read_strictly(damaged, len(damaged))
        assert receive_baseline_batch(damaged) == strict


def outcome(body):
    try:
        return type(decode_baseline_batch(body)).__name__
    except WireError as error:
        return error.context["reason"]


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_batch_or_a_refusal_with_a_reason(body):
    assert outcome(body)


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | NAMES,
        lambda children: st.lists(children, max_size=4) | st.dictionaries(NAMES, children, max_size=4),
        max_leaves=20,
    )
)
def test_strict_json_reads_every_ordinary_value(value):
    body = json.dumps(value, ensure_ascii=False).encode()
    assert parse_strict_json(body, max_bytes=1_000_000) == json.loads(body)


@settings(max_examples=50, deadline=None)
@given(st.lists(COUNTS, max_size=6), st.integers(0, 10**6), st.booleans())
def test_a_fleet_page_comes_back_equal(votes, generation, seed_enabled):
    rows = [
        FleetRow(
            process_key=encode_process_key(f"p{index}", "init"),
            median_distribution=distribution_from_vector(np.array(counts) / sum(counts)),
            agent_count=3 + index,
            stddev_kl=0.5 * index,
            tolerated_faults=1,
            source="aggregate",
        )
        for index, counts in enumerate(votes)
    ]
    page = FleetPage(seeded=len(rows), generation=generation, seed_enabled=seed_enabled, fleet_baselines=rows)
    assert decode_fleet_page(encode_fleet_page(page)) == page
    assert [set(row.median_distribution) <= set(CLASS_NAMES) for row in rows] == [True] * len(rows)
