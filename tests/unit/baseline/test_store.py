"""The store as its callers see it: what is durable when, who may open it, and when it compacts."""

import json
import struct
import zlib

import numpy as np
import pytest

from eguard.baseline.facts import BaselineStatus
from eguard.baseline.store import MAX_WAITING_EVENTS, MIN_COMPACTION_BYTES, BaselineStore
from eguard.baseline.store_dump import dump_state, read_store
from eguard.clock import SimulatedClock
from eguard.errors import BaselineStoreError


@pytest.fixture
def clock():
    return SimulatedClock(0.0)


@pytest.fixture
def opened(tmp_path, clock):
    with BaselineStore.open(tmp_path / "state", capacity=8, clock=clock) as store:
        yield store


def learn(store, keys, at=100.0):
    count = len(keys)
    store.learn(keys, np.zeros(count, dtype=np.int64), np.full(count, at), np.zeros(count, dtype=np.int64))


def on_disk(store):
    """Return what the files hold now, the open store notwithstanding."""
    found, _ = read_store(store._files.folder)
    return dump_state(found.table, found.facts)


def test_learned_counts_wait_until_a_second_has_passed(opened, clock):
    learn(opened, [("sh", "cron")])
    assert on_disk(opened)["profiles"] == []
    clock.advance_to(0.9)
    opened.tick()
    assert on_disk(opened)["profiles"] == []
    clock.advance_to(1.0)
    opened.tick()
    assert on_disk(opened)["profiles"][0]["counts"] == [1, 0, 0, 0, 0, 0, 0, 0]


def test_a_sensor_batch_of_events_is_written_at_once(opened):
    learn(opened, [("sh", "cron")] * (MAX_WAITING_EVENTS - 1))
    assert on_disk(opened)["profiles"] == []
    learn(opened, [("sh", "cron")])
    assert on_disk(opened)["profiles"][0]["sample_count"] == MAX_WAITING_EVENTS


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        (lambda store: store.set_status(BaselineStatus.STALE), "status", "stale"),
        (lambda store: store.set_policy_revision(12), "policy_revision", 12),
        (lambda store: store.acknowledge([("sh", "cron")], [1]), "uploaded_sequence", 1),
        (lambda store: store.seed({("sh", "fleet"): np.full(8, 0.125)}, 5), "seed_generation", 5),
    ],
    ids=["status", "policy", "upload", "seed"],
)
def test_other_changes_are_written_with_all_that_waited_before_them(opened, change, field, value):
    learn(opened, [("sh", "cron")])
    change(opened)
    state = on_disk(opened)
    assert state[field] == value
    assert state["profiles"][0]["sample_count"] == 1


def test_a_verdict_is_written(opened):
    slots = opened.table.slots_for([("sh", "cron")], np.array([100.0]))
    opened.table.held.hold("alert-1", ("sh", "cron"), np.array([0, 0, 0, 9, 0, 0, 0, 0]), 100.0)
    opened.record(slots)
    opened.sync()
    assert [window["window_id"] for window in on_disk(opened)["held"]] == ["alert-1"]
    assert opened.adjudicate("alert-1", is_benign=True)
    assert on_disk(opened)["held"] == []
    assert on_disk(opened)["profiles"][0]["counts"] == [0, 0, 0, 9, 0, 0, 0, 0]


def test_everything_is_there_after_reopening(tmp_path):
    folder = tmp_path / "state"
    with BaselineStore.open(folder, capacity=4) as store:
        learn(store, [(f"p{number}", "init") for number in range(4)])
        learn(store, [("p9", "init"), ("p1", "init")], at=200.0)  # p0 makes room
        store.seed({("p9", "init"): np.arange(1.0, 9.0) / 36}, 3)
        before = dump_state(store.table, store.facts)
        life = store.incarnation
    with BaselineStore.open(folder, capacity=4) as store:
        assert dump_state(store.table, store.facts) == before
        assert store.incarnation == life
        assert [key for key, _ in store.table.index.items()] == [(name, "init") for name in ("p2", "p3", "p1", "p9")]
        assert before["profiles"][3]["prior"] == (np.arange(1.0, 9.0) / 36).tolist()


def test_names_of_any_kind_survive(tmp_path):
    names = [("kworker/0:1", "%"), ("\ud8ff", "\x00"), ("", " "), ("größe", "木"), ("x" * 70_000, "y")]
    with BaselineStore.open(tmp_path / "state", capacity=8) as store:
        learn(store, names)
    with BaselineStore.open(tmp_path / "state", capacity=8) as store:
        kept = [key for key, _ in store.table.index.items()]
        assert kept == [*names[:2], ("unknown", "unknown"), *names[3:]]


def test_a_smaller_store_keeps_what_was_seen_last(tmp_path):
    with BaselineStore.open(tmp_path / "state", capacity=8) as store:
        learn(store, [(f"p{number}", "init") for number in range(6)])
        learn(store, [("p0", "init")])
        kept = {row["process_key"]: row for row in dump_state(store.table, store.facts)["profiles"]}
    for _ in range(2):
        with BaselineStore.open(tmp_path / "state", capacity=3) as store:
            rows = dump_state(store.table, store.facts)["profiles"]
            assert rows == [kept[name] for name in ("p4:init", "p5:init", "p0:init")]


def test_one_process_at_a_time(opened):
    with pytest.raises(BaselineStoreError, match="another process"):
        BaselineStore.open(opened._files.folder)


def test_compaction_is_due_after_six_hours(opened, clock):
    learn(opened, [("sh", "cron")])
    generation = opened.generation
    clock.advance_to(6 * 3600.0 - 1)
    opened.tick()
    assert opened.generation == generation
    clock.advance_to(6 * 3600.0)
    opened.tick()
    assert opened.generation == generation + 1
    assert on_disk(opened) == dump_state(opened.table, opened.facts)


def test_compaction_is_due_when_the_journal_is_long(opened):
    seeds = {(f"p{number}", "x" * 1000): np.full(8, 0.125) for number in range(32)}
    generation, longest = opened.generation, 0
    while opened.generation == generation:
        longest = opened.journal_bytes
        opened.seed(seeds, 1)
        opened.tick()
    assert MIN_COMPACTION_BYTES - 40_000 < longest <= MIN_COMPACTION_BYTES


def test_the_hint_is_for_people_and_read_by_nobody(tmp_path):
    folder = tmp_path / "state"
    with BaselineStore.open(folder, capacity=8) as store:
        learn(store, [("sh", "cron")])
        state, life = dump_state(store.table, store.facts), store.incarnation
    hint = folder / "baselines.journal.meta"
    assert json.loads(hint.read_text())["incarnation"] == life
    for spoil in (lambda: hint.write_bytes(b"\xff\x00 nonsense"), hint.unlink):
        spoil()
        with BaselineStore.open(folder, capacity=8) as store:
            assert dump_state(store.table, store.facts) == state
            assert store.incarnation == life


def test_a_key_that_learns_anew_is_written(opened):
    learn(opened, [("sh", "cron")])
    slot = int(opened.table.index.lookup([("sh", "cron")])[0])
    opened.table.relearn(slot, 500.0)
    opened.touch([slot])
    opened.sync()
    (row,) = on_disk(opened)["profiles"]
    assert (row["sample_count"], row["relearn_since"]) == (0, 500.0)


@pytest.mark.parametrize("name", ["baselines.bin", "baselines.journal"])
def test_a_store_of_a_later_version_is_refused_by_its_number_and_left_as_it_is(tmp_path, name):
    folder = tmp_path / "state"
    with BaselineStore.open(folder, capacity=8) as store:
        learn(store, [("sh", "cron")])
        store.compact()
        learn(store, [("cat", "sh")])
    data = bytearray((folder / name).read_bytes())
    data[8:12] = struct.pack("<I", 2)
    covered = bytes(data) if name == "baselines.bin" else bytes(data[:64])
    data[12:16] = struct.pack("<I", zlib.crc32(covered[16:], zlib.crc32(covered[:12])))
    (folder / name).write_bytes(data)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(BaselineStoreError, match="has format 2, which a later version of eGuard wrote") as caught:
        BaselineStore.open(folder, capacity=8)
    assert "Install that version" in caught.value.remedy
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
