"""Uploads: own counts, oldest change first, nobody held up by one bad row."""

import numpy as np
import pytest

from eguard.baseline import ProfileTable, pack_uploads, to_wire
from eguard.wire import decode_baseline_batch


def learn(table, keys, start=0.0):
    times = start + np.arange(len(keys), dtype=np.float64)
    slots = table.slots_for(keys, times)
    table.observe(slots, np.zeros(len(keys), dtype=np.int8), times, np.full(len(keys), 100))
    return slots


def test_row_says_what_was_learned():
    table = ProfileTable(capacity=4)
    times = np.array([100.0, 101.0, 104.0])
    slots = table.slots_for([("kworker/0:1", "kthreadd")] * 3, times)
    table.observe(slots, np.array([0, 0, 3]), times, np.array([0, 0, 999]))
    (row,) = to_wire(table)
    assert row.process_key == "kworker/0%3A1:kthreadd"
    assert row.event_distribution == {"process_exec": 2 / 3, "network_connect": 1 / 3}
    assert (row.sample_count, row.learned_at_unix, row.seq) == (3, 104.0, 1)
    assert row.continuous.interarrival.count == 2
    assert np.isclose(row.continuous.interarrival.mean, (np.log1p(1.0) + np.log1p(3.0)) / 2)
    assert np.isclose(row.continuous.payload.mean, np.log1p(999))


def test_oldest_change_goes_first_and_acknowledged_rows_go_no_more():
    table = ProfileTable(capacity=8)
    for number in (2, 0, 1):
        learn(table, [(f"p{number}", "init")], start=number)
    rows = to_wire(table)
    assert [row.process_key for row in rows] == ["p2:init", "p0:init", "p1:init"]
    table.acknowledge([("p2", "init"), ("p1", "init")], [rows[0].seq, rows[2].seq])
    assert [row.process_key for row in to_wire(table)] == ["p0:init"]


def test_a_key_that_changed_after_it_was_sent_stays_dirty():
    table = ProfileTable(capacity=8)
    learn(table, [("p", "init")])
    sent = to_wire(table)[0]
    learn(table, [("p", "init")], start=10.0)
    table.acknowledge([("p", "init")], [sent.seq])
    (again,) = to_wire(table)
    assert again.sample_count == 2
    assert again.seq > sent.seq


def test_an_evicted_key_is_not_acknowledged_in_its_successors_place():
    table = ProfileTable(capacity=1)
    learn(table, [("old", "init")])
    sent = to_wire(table)[0]
    learn(table, [("new", "init")], start=5.0)
    table.acknowledge([("old", "init")], [sent.seq])
    assert [row.process_key for row in to_wire(table)] == ["new:init"]


def test_bodies_keep_to_their_caps_and_lose_no_row():
    table = ProfileTable(capacity=512)
    learn(table, [(f"process-{number}", "systemd") for number in range(300)])
    rows = to_wire(table)
    packed = pack_uploads("agent-1", rows)
    assert [len(decode_baseline_batch(body).baselines) for body in packed.bodies] == [128, 128, 44]
    packed = pack_uploads("agent-1", rows, max_bytes=5000)
    assert max(map(len, packed.bodies)) <= 5000
    assert [row for body in packed.bodies for row in decode_baseline_batch(body).baselines] == rows
    assert packed.unsendable == []


@pytest.mark.parametrize("name", ["x" * 600, "%" * 200])
def test_a_row_that_no_body_carries_holds_up_nobody(name):
    table = ProfileTable(capacity=8)
    learn(table, [("first", "init"), (name, "init"), ("last", "init")])
    packed = pack_uploads("agent-1", to_wire(table))
    assert [row.process_key for row in decode_baseline_batch(packed.bodies[0]).baselines] == ["first:init", "last:init"]
    assert len(packed.unsendable) == 1


def test_retries_have_the_same_bytes():
    table = ProfileTable(capacity=8)
    learn(table, [("a", "init"), ("b", "init")])
    assert pack_uploads("agent-1", to_wire(table)) == pack_uploads("agent-1", to_wire(table))


def test_times_outside_the_wire_are_brought_inside():
    table = ProfileTable(capacity=8)
    learn(table, [("a", "init")], start=-5.0)
    learn(table, [("b", "init")], start=1e15)
    packed = pack_uploads("agent-1", to_wire(table))
    assert packed.unsendable == []
