"""Profiles: what a batch teaches, what it must not, and equality with a dictionary of scalars."""

import math
from collections import defaultdict

import numpy as np
import pytest

from eguard.baseline import ProfileTable
from eguard.events import UNCOUNTED

SH, LS = ("sh", "cron"), ("ls", "sh")


def observe(table, keys, classes, times, payload=None):
    times = np.asarray(times, dtype=np.float64)
    slots = table.slots_for(keys, times)
    table.observe(slots, np.asarray(classes), times, np.asarray(payload if payload is not None else [0] * len(keys)))
    return slots


def test_classes_are_counted_by_key():
    table = ProfileTable(capacity=8)
    slots = observe(table, [SH, LS, SH, SH], [0, 7, 0, 2], [1, 2, 3, 4])
    assert table.counts[slots[0]].tolist() == [2, 0, 1, 0, 0, 0, 0, 0]
    assert table.counts[slots[1]].tolist() == [0, 0, 0, 0, 0, 0, 0, 1]
    assert table.sample_count[slots[:2]].tolist() == [3, 1]


def test_uncounted_events_are_seen_and_not_learned():
    table = ProfileTable(capacity=8)
    slots = observe(table, [SH, SH], [UNCOUNTED, UNCOUNTED], [10, 20], [500, 500])
    assert table.sample_count[slots[0]] == 0
    assert (table.first_seen[slots[0]], table.last_seen[slots[0]]) == (10.0, 20.0)
    assert table.payload.count[slots[0]] == 0
    assert len(table.dirty_slots()) == 0


def test_looking_slots_up_learns_nothing():
    table = ProfileTable(capacity=8)
    slots = table.slots_for([SH, SH], np.array([1.0, 2.0]))
    assert table.counts.sum() == 0
    assert slots[0] == slots[1]


def test_inter_arrival_times_run_across_batches():
    table = ProfileTable(capacity=8)
    slots = observe(table, [SH, SH], [0, 0], [100, 101])
    observe(table, [LS, SH], [0, 0], [102, 108])
    expected = [math.log1p(1), math.log1p(7)]
    assert table.interarrival.count[slots[0]] == 2
    assert math.isclose(table.interarrival.mean[slots[0]], sum(expected) / 2)


def test_a_clock_that_steps_back_is_counted_and_skipped():
    table = ProfileTable(capacity=8)
    slots = observe(table, [SH, SH, SH], [0, 0, 0], [100, 40, 50])
    assert table.clock_steps_total == 1
    assert table.interarrival.count[slots[0]] == 1
    assert math.isclose(table.interarrival.mean[slots[0]], math.log1p(10))
    assert (table.first_seen[slots[0]], table.last_seen[slots[0]]) == (40.0, 100.0)


def test_events_without_payload_leave_its_moments_alone():
    table = ProfileTable(capacity=8)
    slots = observe(table, [SH, SH, SH], [3, 3, 0], [1, 2, 3], [100, 300, 0])
    assert table.payload.count[slots[0]] == 2
    assert math.isclose(table.payload.mean[slots[0]], (math.log1p(100) + math.log1p(300)) / 2)


def test_eviction_clears_the_slot_and_is_reported():
    table = ProfileTable(capacity=2)
    observe(table, [SH, LS], [0, 1], [1, 2], [5, 5])
    slots = observe(table, [("ps", "sh")], [2], [3])
    assert table.evicted == [(SH, slots[0])]
    assert table.evictions_total == 1
    assert table.counts[slots[0]].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert table.first_seen[slots[0]] == 3.0
    assert table.interarrival.count[slots[0]] == 0
    table.slots_for([LS], np.array([4.0]))
    assert table.evicted == []


def test_a_batch_wider_than_the_table_mixes_nobody_up():
    table = ProfileTable(capacity=2)
    slots = observe(table, [SH, LS, ("ps", "sh"), SH], [0, 1, 2, 0], [1, 2, 3, 4])
    assert slots[2] == -1
    assert table.counts.sum() == 3
    assert table.untracked_events_total == 1
    assert table.counts[slots[0]].tolist() == [2, 0, 0, 0, 0, 0, 0, 0]


def test_every_change_raises_seq():
    table = ProfileTable(capacity=4)
    slots = observe(table, [SH, LS], [0, 0], [1, 2])
    first = table.seq[slots].tolist()
    observe(table, [SH], [0], [3])
    assert table.seq[slots[0]] > first[0]
    assert table.seq[slots[1]] == first[1]


def test_held_events_are_learned_once_when_judged_benign():
    table = ProfileTable(capacity=4)
    slots = observe(table, [SH] * 2, [0, 0], [1, 2])
    seq = table.seq[slots[0]]
    table.held.hold("alert", SH, np.array([1, 0, 0, 2, 0, 0, 0, 0]), held_at=5.0)
    assert table.sample_count[slots[0]] == 2
    assert table.adjudicate("alert", is_benign=True)
    assert table.counts[slots[0]].tolist() == [3, 0, 0, 2, 0, 0, 0, 0]
    assert table.seq[slots[0]] > seq
    assert not table.adjudicate("alert", is_benign=True)
    assert table.sample_count[slots[0]] == 5


def test_true_positives_are_never_learned():
    table = ProfileTable(capacity=4)
    slots = table.slots_for([SH], np.array([1.0]))
    table.held.hold("alert", SH, np.array([0, 0, 0, 3, 0, 0, 0, 0]), held_at=3.0)
    assert not table.adjudicate("alert", is_benign=False)
    assert not table.adjudicate("alert", is_benign=True)
    assert table.sample_count[slots[0]] == 0
    assert table.held.dropped_events_total == 3


def test_a_verdict_on_an_evicted_key_is_dropped_not_credited_to_its_successor():
    table = ProfileTable(capacity=1)
    observe(table, [SH] * 2, [3, 3], [1, 2])
    table.held.hold("alert", SH, np.array([0, 0, 0, 1, 0, 0, 0, 0]), held_at=2.0)
    observe(table, [LS], [0], [3])
    assert not table.adjudicate("alert", is_benign=True)
    assert table.counts[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert table.held.dropped_windows_total == 1


def test_relearning_starts_at_zero_and_hands_out_the_archive():
    table = ProfileTable(capacity=4)
    slots = observe(table, [SH] * 3, [0, 0, 3], [1, 2, 3], [0, 0, 9])
    archived = table.relearn(int(slots[0]), now=3.0)
    assert archived.tolist() == [2, 0, 0, 1, 0, 0, 0, 0]
    assert table.sample_count[slots[0]] == 0
    assert table.relearn_since[slots[0]] == 3.0
    assert table.interarrival.count[slots[0]] == 0
    assert table.first_seen[slots[0]] == 1.0


def test_capacity_is_bounded():
    with pytest.raises(ValueError, match="65536"):
        ProfileTable(capacity=65_537)
    assert ProfileTable(capacity=65_536).capacity == 65_536


def test_table_agrees_with_a_dictionary_of_scalars():
    rng = np.random.default_rng(11)
    table = ProfileTable(capacity=64)
    counts, last, gaps, payloads = defaultdict(lambda: [0] * 8), {}, defaultdict(list), defaultdict(list)
    clock = 0.0
    for _ in range(40):
        n = int(rng.integers(1, 300))
        keys = [(f"p{number}", "init") for number in rng.integers(0, 40, n)]
        classes = rng.integers(-1, 8, n)
        times = clock + np.cumsum(rng.exponential(1.0, n)) - rng.choice([0.0, 2.0], n, p=[0.9, 0.1])
        payload = rng.integers(0, 3, n) * rng.integers(0, 5000, n)
        clock = float(times.max())
        observe(table, keys, classes, times, payload)
        for key, event_class, time, size in zip(keys, classes.tolist(), times.tolist(), payload.tolist(), strict=True):
            if event_class < 0:
                continue
            counts[key][event_class] += 1
            if key in last and time >= last[key]:
                gaps[key].append(math.log1p(time - last[key]))
            last[key] = time
            if size > 0:
                payloads[key].append(math.log1p(size))
    for key, slot in table.index.items():
        assert table.counts[slot].tolist() == counts[key]
        assert table.sample_count[slot] == sum(counts[key])
        for moments, values in ((table.interarrival, gaps[key]), (table.payload, payloads[key])):
            assert moments.count[slot] == len(values)
            assert np.isclose(moments.mean[slot], np.mean(values), rtol=1e-12)
            assert np.isclose(moments.m2[slot], np.var(values) * len(values), rtol=1e-9)


def test_batch_boundaries_do_not_matter():
    rng = np.random.default_rng(12)
    n = 5000
    keys = [(f"p{number}", "init") for number in rng.integers(0, 30, n)]
    classes, times = rng.integers(-1, 8, n), np.cumsum(rng.exponential(1.0, n))
    payload = rng.integers(0, 2000, n)
    tables = []
    for size in (1, 7, 4096, n):
        table = ProfileTable(capacity=64)
        for start in range(0, n if size > 1 else 500, size):
            chosen = slice(start, start + size)
            observe(table, keys[chosen], classes[chosen], times[chosen], payload[chosen])
        tables.append(table)
    short = ProfileTable(capacity=64)
    observe(short, keys[:500], classes[:500], times[:500], payload[:500])
    for first, second in ((tables[0], short), (tables[1], tables[3]), (tables[2], tables[3])):
        slots = first.index.used()
        others = second.index.lookup([first.index.key_of(int(slot)) for slot in slots])
        assert np.array_equal(first.counts[slots], second.counts[others])
        assert np.allclose(first.interarrival.m2[slots], second.interarrival.m2[others], rtol=1e-9)
        assert np.allclose(first.payload.mean[slots], second.payload.mean[others], rtol=1e-12)


def test_a_table_goes_on_in_other_arrays_with_what_they_hold():
    table, other = ProfileTable(capacity=8), ProfileTable(capacity=8)
    slot = observe(table, [SH, SH], [0, 7], [100, 103], [5, 0])[0]
    elsewhere = {name: column.copy() for name, column in table.learning_columns().items()}
    table.adopt(elsewhere)
    other.adopt(elsewhere)
    other.observe(np.array([slot]), np.array([3]), np.array([110.0]), np.array([9]))
    assert table.counts[slot].tolist() == [1, 0, 0, 1, 0, 0, 0, 1]
    assert (table.sample_count[slot], table.last_learned[slot]) == (3, 110.0)
    assert (table.interarrival.count[slot], table.payload.count[slot]) == (2, 2)
    assert np.isclose(table.interarrival.mean[slot], (math.log1p(3) + math.log1p(7)) / 2)
    assert table.seq[slot] == 1  # the other table's learning is for its owner to mark
    table.relearn(slot, 200.0)
    assert elsewhere["counts"].sum() == 0
    assert elsewhere["relearn_since"][slot] == 200.0


def test_every_array_that_learning_writes_is_among_the_learning_columns():
    table = ProfileTable(capacity=8)
    before = {name: column.copy() for name, column in table.learning_columns().items()}
    slot = observe(table, [SH] * 3, [0, 3, 3], [100, 103, 111], [5, 7, 8])[0]
    table.seed({SH: np.full(8, 0.125)}, 4)
    changed = {
        name
        for name, column in table.learning_columns().items()
        if not np.array_equal(column, before[name], equal_nan=True)
    }
    assert changed == before.keys() - {"relearn_since"}
    table.relearn(slot, 9.0)
    assert table.learning_columns()["relearn_since"][slot] == 9.0


def test_holding_back_names_the_key_and_drops_what_waited_too_long():
    table = ProfileTable(capacity=8)
    slot = int(table.slots_for([SH], np.array([0.0]))[0])
    table.hold_back("early", slot, np.arange(8), 0.0)
    table.hold_back("late", slot, np.arange(8), table.held.hold_seconds + 1.0)
    assert [(name, window.key) for name, window in table.held.items()] == [("late", SH)]
