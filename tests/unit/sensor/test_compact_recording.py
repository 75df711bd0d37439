"""Compact recordings: what was written comes back, and damage is told where it is."""

import random
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eguard.errors import CorruptFileError
from eguard.events import Event, EventBatch
from eguard.sensor.compact_recording import _HEAD, MAGIC, CompactWriter, is_compact, read_compact
from eguard.sensor.replay import ReplaySensor

TEXTS = st.text(st.characters(), max_size=6) | st.sampled_from(["", "sh", "\udcff", "a:\x1b[2J\n", "\0"])
EVENTS = st.builds(
    Event,
    time_unix=st.floats(0, 4e9),
    host_id=TEXTS,
    event_class=st.integers(-1, 7),
    comm=TEXTS,
    command_line=TEXTS,
    target=TEXTS,
    pid=st.integers(0, 2**63 - 1),
    destination_port=st.integers(0, 65_535),
    is_elevated=st.booleans(),
    duration_seconds=st.floats(0, 1e9),
    fields=st.none() | st.dictionaries(TEXTS, TEXTS, max_size=3),
)


def written(path, *batches):
    with CompactWriter(path) as writer:
        for batch in batches:
            writer.write(batch)
    return path


def some(n, start=0):
    return EventBatch(
        time_unix=np.arange(start, start + n, dtype=float),
        event_class=np.arange(n) % 9 - 1,
        comm=[f"program-{row % 3}" for row in range(n)],
        command_line=[f"x {row}" for row in range(n)],
        is_elevated=np.arange(n) % 2 == 0,
    )


def rows(batches):
    return [msgspec.structs.astuple(row) for batch in batches for row in batch.rows()]


@settings(max_examples=60, deadline=None)
@given(batches=st.lists(st.lists(EVENTS, max_size=8), max_size=4))
def test_what_was_written_comes_back(tmp_path_factory, batches):
    given_batches = [EventBatch.from_events(batch) for batch in batches]
    path = written(tmp_path_factory.mktemp("recording") / "r.egrec", *given_batches)
    assert rows(read_compact(path)) == rows(given_batches)


def test_columns_can_be_written_to_and_have_the_types_of_the_model(tmp_path):
    (batch,) = read_compact(written(tmp_path / "r", some(10)))
    plain = some(10)
    for name in ("time_unix", "event_class", "is_elevated", "pid"):
        assert getattr(batch, name).dtype == getattr(plain, name).dtype
        getattr(batch, name)[0] = 1


def test_more_events_than_a_block_holds_become_several(tmp_path):
    large = some(70_000)
    assert [len(batch) for batch in read_compact(written(tmp_path / "r", large))] == [65_536, 70_000 - 65_536]


def test_wherever_it_is_cut_the_whole_blocks_come_first(tmp_path):
    path = written(tmp_path / "r", some(5), some(4, 10))
    data = path.read_bytes()
    second = len(MAGIC) + _HEAD.size + _HEAD.unpack_from(data, len(MAGIC))[0]
    for length in range(len(MAGIC), len(data)):
        path.write_bytes(data[:length])
        delivered = []
        if length in (len(MAGIC), second):  # cut between two blocks: nothing shows that there was more
            delivered = list(read_compact(path))
        else:
            with pytest.raises(CorruptFileError, match="at byte"):
                delivered += read_compact(path)
            delivered = [] if length < second else [some(5)]
        assert len(delivered) == (length >= second)


def test_every_flipped_byte_is_damage_and_nothing_worse(tmp_path):
    path = written(tmp_path / "r", some(3), some(3, 10))
    data = path.read_bytes()
    flips = random.Random(1)
    for position in range(len(MAGIC), len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << flips.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError):
            list(read_compact(path))


@pytest.mark.parametrize(
    "change",
    [
        {"n": 0},
        {"n": 2**40},
        {"n": 4},
        {"numbers": {"nonsense": b""}},
        {"numbers": {"event_class": b"\x09\x00\x00"}},
        {"texts": {"comm": ([b"a"], b"\x01\x00" * 3)}},
        {"texts": {"comm": ([], b"\x00\x00" * 3)}},
        {"texts": {"fields": ([b"a"], b"\x00\x00" * 3)}},
        {"texts": {"comm": ([b"\xff\xfe"], b"\x00\x00" * 3)}},
        {"fields": {7: {}}},
        {"more": 1},
    ],
    ids=["none", "too-many", "other-length", "column", "class", "index", "no-text", "fields", "no-utf8", "row", "key"],
)
def test_a_block_that_cannot_be_is_damage_though_its_checksum_fits(tmp_path, change):
    block = {"n": 3, "numbers": {"time_unix": bytes(24)}, "texts": {"comm": ([b"a"], bytes(6))}, "fields": {}}
    payload = msgspec.msgpack.encode(block | change)
    path = tmp_path / "r"
    path.write_bytes(MAGIC + _HEAD.pack(len(payload), zlib.crc32(payload)) + payload)
    with pytest.raises(CorruptFileError):
        list(read_compact(path))


def test_a_claimed_length_of_gigabytes_takes_no_memory(tmp_path):
    path = tmp_path / "r"
    path.write_bytes(MAGIC + _HEAD.pack(2**32 - 1, 0) + b"x")
    with pytest.raises(CorruptFileError, match="breaks off"):
        list(read_compact(path))


def test_the_replay_sensor_reads_it_by_itself(tmp_path):
    path = written(tmp_path / "r", some(5))
    assert is_compact(path)
    sensor = ReplaySensor(path, host_id="web")
    sensor.open()
    batch = sensor.poll(0.0)
    assert (len(batch), set(batch.host_id)) == (5, {"web"})
    assert sensor.counters.received.sum() == 5
    assert len(sensor.poll(0.0)) == 0
    assert sensor.is_exhausted
