"""Layer 3 against a plain one-event-at-a-time reference, and on windows worked out by hand."""

import gc
import itertools
import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from eguard.baseline.profile import ProfileTable
from eguard.detection.engine_options import WindowOptions
from eguard.detection.window_batch import KeyedEvents
from eguard.detection.window_test import WindowLevel
from eguard.detection.windows import WindowBank

SMALL = WindowOptions(window_events=8, min_baseline_events=16, default_overdispersion=1.0, drift_burn_in=3)


def keyed(slots, classes, times=None, tainted=None, sizes=None, suspect=None):
    n = len(slots)
    return KeyedEvents(
        np.asarray(slots, dtype=np.intp),
        np.asarray(classes, dtype=np.int8),
        np.arange(n, dtype=np.float64) if times is None else np.asarray(times, dtype=np.float64),
        np.zeros(n, dtype=np.int64) if sizes is None else np.asarray(sizes, dtype=np.int64),
        np.zeros(n, dtype=np.bool_) if tainted is None else np.asarray(tainted, dtype=np.bool_),
        np.zeros(n, dtype=np.bool_) if suspect is None else np.asarray(suspect, dtype=np.bool_),
    )


def table_with(*names, capacity=64):
    table = ProfileTable(capacity)
    table.slots_for([(name, "p") for name in names], np.zeros(len(names)))
    return table


def random_stream(rng, n, n_slots):
    slots = rng.integers(n_slots, size=n)
    classes = np.where(rng.random(n) < 0.3, -1, rng.choice(8, size=n, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02]))
    return keyed(slots, classes, np.sort(rng.random(n) * 1e4), rng.random(n) < 0.002, rng.integers(0, 9000, size=n))


def run(events, size, options=SMALL, n_slots=5, settle_at=()):
    """Feed `events` in batches of `size`; return all windows with global indices, the latest per event, the table."""
    table = table_with(*(f"k{slot}" for slot in range(n_slots)))
    bank = WindowBank(64, options)
    closed, latest = [], []
    cuts = sorted({0, len(events), *range(0, len(events), size), *settle_at})
    for start, stop in itertools.pairwise(cuts):
        if start in settle_at:
            bank.settle(float(events.times[start]), table)
        result = bank.observe(events.take(np.arange(start, stop)), table)
        closed += [(start + window.index, window) for window in result.closed]
        latest += [window and window.window_id for window in map(result.latest, range(stop - start))]
    return closed, latest, table, bank


def comparable(closed):
    return [
        (
            index,
            window.window_id,
            window.counts,
            window.score.level,
            window.score.kl_bits,
            window.score.baseline_events,
            window.score.overdispersion,
            window.is_held,
            window.recent_alarms,
            window.started_unix,
            window.closed_unix,
        )
        for index, window in closed
    ]


@pytest.mark.parametrize("size", [1, 3, 64, 1000, 5000])
def test_batches_of_any_size_give_the_same_windows_and_baselines(size):
    events = random_stream(np.random.default_rng(11), 5000, 5)
    reference = run(events, 777, settle_at=(2100,))
    closed, latest, table, _ = run(events, size, settle_at=(2100,))
    assert comparable(closed) == comparable(reference[0])
    assert latest == reference[1]
    assert np.array_equal(table.counts, reference[2].counts)
    assert np.allclose(table.interarrival.mean, reference[2].interarrival.mean, rtol=1e-12)
    assert np.allclose(table.payload.m2, reference[2].payload.m2, rtol=1e-9)


def test_every_window_is_tested_against_what_was_learned_before_it():
    events = random_stream(np.random.default_rng(7), 3000, 3)
    closed, _, table, bank = run(events, 256, n_slots=3)
    learned = np.zeros((3, 8), dtype=np.int64)
    open_counts, tainted = np.zeros((3, 8), dtype=np.int64), np.zeros(3, dtype=bool)
    found = iter(closed)
    for index, (slot, event_class, taint) in enumerate(
        zip(events.slots, events.classes, events.is_tainted, strict=True)
    ):
        tainted[slot] |= taint
        if event_class < 0:
            continue
        open_counts[slot, event_class] += 1
        if open_counts[slot].sum() < 8:
            continue
        at, window = next(found)
        assert at == index
        assert window.counts == tuple(open_counts[slot].tolist())
        expected = (learned[slot] + 0.5) / (learned[slot].sum() + 4.0)
        assert window.score.expected == pytest.approx(expected.tolist(), abs=1e-15)
        shares = open_counts[slot] / 8
        divergence = sum(p * math.log2(p / q) for p, q in zip(shares, expected, strict=True) if p)
        assert window.score.kl_bits == pytest.approx(max(divergence, 0.0), abs=1e-12)
        assert window.score.baseline_events == learned[slot].sum()
        assert (window.score.level == WindowLevel.UNTESTED) == (learned[slot].sum() < 16)
        assert window.is_held == (tainted[slot] or window.score.level == WindowLevel.HIGH)
        if not window.is_held:
            learned[slot] += open_counts[slot]
        open_counts[slot], tainted[slot] = 0, False
    assert next(found, None) is None
    assert np.array_equal(table.counts[:3], learned)
    assert [bank.open_counts(slot) for slot in range(3)] == [tuple(row) for row in open_counts.tolist()]


def test_a_key_of_one_class_ends_high_when_another_class_fills_a_window():
    options = WindowOptions(default_overdispersion=1.0)
    table, bank = table_with("k"), WindowBank(64, options)
    bank.observe(keyed([0] * 1280, [2] * 1280), table)
    assert bank.last(0).score.level == WindowLevel.NONE
    result = bank.observe(keyed([0] * 128, [3] * 128), table)
    window = result.closed[0]
    assert window.score.level == WindowLevel.HIGH
    # All mass on a class with .5 of 1284 smoothed counts.
    assert window.score.kl_bits == pytest.approx(math.log2(1284 / 0.5))
    assert window.score.kl_bits > window.score.threshold_high_bits > window.score.threshold_medium_bits
    assert table.counts[0].tolist() == [0, 0, 1280, 0, 0, 0, 0, 0]
    assert table.held.find(window.window_id).counts.tolist() == [0, 0, 0, 128, 0, 0, 0, 0]


def test_a_held_window_is_learned_once_judged_benign_and_dropped_after_a_day():
    table, bank = table_with("k"), WindowBank(64, SMALL)
    tainted = [False] * 7 + [True]
    first = bank.observe(keyed([0] * 8, [1] * 8, np.arange(8.0), tainted), table).closed[0]
    assert first.is_held
    assert table.sample_count[0] == 0
    assert table.adjudicate(first.window_id, is_benign=True)
    assert table.counts[0, 1] == 8
    bank.observe(keyed([0] * 8, [1] * 8, np.arange(100.0, 108.0), tainted), table)
    bank.settle(107.0 + 86_400.0, table)
    assert len(table.held) == 1
    bank.settle(107.1 + 86_400.0, table)
    assert len(table.held) == 0
    assert (table.held.dropped_windows_total, table.held.dropped_events_total) == (1, 8)
    assert table.counts[0, 1] == 8


def test_an_uncounted_event_taints_the_window_that_is_open_when_it_comes():
    table, bank = table_with("k"), WindowBank(64, SMALL)
    classes = [0] * 8 + [-1] + [0] * 16
    result = bank.observe(keyed([0] * 25, classes, tainted=[i == 8 for i in range(25)]), table)
    assert [window.is_held for window in result.closed] == [False, True, False]


def test_a_suspect_event_taints_only_while_its_key_ended_high():
    options = WindowOptions(default_overdispersion=1.0)
    table, bank = table_with("k"), WindowBank(64, options)
    suspect = [True] * 128
    quiet = bank.observe(keyed([0] * 1280, [2] * 1280, suspect=suspect * 10), table).closed
    assert not any(window.is_held for window in quiet)
    bank.observe(keyed([0] * 128, [3] * 128), table)  # ends high
    after = bank.observe(keyed([0] * 256, [2] * 256, suspect=[i in (3, 130) for i in range(256)]), table).closed
    assert [window.is_held for window in after] == [True, False]


def test_the_level_of_a_key_counts_from_the_event_that_closed_the_window():
    options = WindowOptions(default_overdispersion=1.0)
    table, bank = table_with("k", "other"), WindowBank(64, options)
    bank.observe(keyed([0] * 1280, [2] * 1280), table)
    slots, classes = [0] * 127 + [1, 0, 1, 0], [3] * 127 + [3, 3, 3, -1]
    result = bank.observe(keyed(slots, classes), table)
    levels = [None if (w := result.latest(i)) is None else w.score.level for i in range(131)]
    assert levels[:127] == [WindowLevel.NONE] * 127
    assert levels[127:] == [None, WindowLevel.HIGH, None, WindowLevel.HIGH]


def test_settled_events_are_learned_early_and_not_counted_against_their_own_window():
    table, bank = table_with("k"), WindowBank(64, SMALL)
    bank.observe(keyed([0] * 24, [0] * 24), table)
    bank.observe(keyed([0] * 5, [1, 1, 1, 0, 0], np.arange(100.0, 105.0)), table)
    assert bank.settle(103.0, table) == [0]
    assert table.counts[0].tolist() == [24, 3, 0, 0, 0, 0, 0, 0]
    assert bank.settle(103.0, table) == []
    window = bank.observe(keyed([0] * 3, [1, 1, 1], np.arange(200.0, 203.0), [False, True, False]), table).closed[0]
    assert window.is_held
    assert window.counts[:2] == (2, 6)
    assert window.learned_counts[:2] == (0, 3)
    assert window.score.baseline_events == 24
    # What was settled stays learned, the rest is held.
    assert table.counts[0, :2].tolist() == [24, 3]
    assert table.held.find(window.window_id).counts[:2].tolist() == [2, 3]


def test_a_seeded_key_is_tested_from_its_first_window():
    table = ProfileTable(8)
    table.seed({("k", "p"): np.full(8, 0.125)}, generation=1)
    table.slots_for([("k", "p")], np.zeros(1))
    bank = WindowBank(8, WindowOptions(default_overdispersion=1.0))
    window = bank.observe(keyed([0] * 128, [0] * 128), table).closed[0]
    assert window.score.level == WindowLevel.HIGH
    assert window.score.expected == pytest.approx([0.125] * 8)


def test_an_evicted_slot_starts_clean():
    table, bank = table_with("k"), WindowBank(64, SMALL)
    bank.observe(keyed([0] * 30, [0] * 30), table)
    bank.forget(np.array([0]))
    assert bank.last(0) is None
    assert bank.open_counts(0) == (0,) * 8
    table.counts[0] = 0
    window = bank.observe(keyed([0] * 8, [1] * 8), table).closed[0]
    assert window.counts == (0, 8, 0, 0, 0, 0, 0, 0)
    assert window.window_id != "0.1"  # ids of windows held from before stay their own


def test_events_without_a_slot_are_passed_over():
    events = random_stream(np.random.default_rng(3), 400, 2)
    slots = events.slots.copy()
    slots[::5] = -1
    holes = replace(events, slots=slots)
    dense = holes.take(np.flatnonzero(slots >= 0))
    with_holes, without = run(holes, 400, n_slots=2), run(dense, 400, n_slots=2)
    original = np.flatnonzero(slots >= 0)
    assert [index for index, _ in with_holes[0]] == [int(original[index]) for index, _ in without[0]]
    assert np.array_equal(with_holes[2].counts, without[2].counts)
    assert with_holes[1][0] is None


def test_slots_beyond_the_first_allocation_work():
    table = table_with(*(f"k{i}" for i in range(300)), capacity=512)
    bank = WindowBank(512, SMALL)
    result = bank.observe(keyed(np.tile(np.arange(300), 8), [4] * 2400), table)
    assert [window.slot for window in result.closed] == list(range(300))
    assert int(table.counts[:300, 4].sum()) == 2400


def test_a_drift_alarm_archives_what_the_key_learned_and_starts_it_anew():
    options = replace(SMALL, drift_threshold=3.0, relearns_after_drift=True, default_overdispersion=100.0)
    rng = np.random.default_rng(3)
    calm, other = rng.choice(2, size=8 * 40, p=[0.9, 0.1]), rng.choice([1, 4, 5, 6, 7], size=8 * 10)
    events = keyed([0] * 400, np.concatenate([calm, other]))
    table, bank = table_with("k"), WindowBank(64, options)
    closed = []
    for start in range(0, 400, 8):
        before = table.counts[0].copy()
        closed += [(before, window) for window in bank.observe(events.take(np.arange(start, start + 8)), table).closed]
    alarmed = [(before, window) for before, window in closed if window.drift_alarm]
    assert alarmed
    assert all(window.archived == tuple(before.tolist()) for before, window in alarmed)
    assert all(window.archived == () for _, window in closed if not window.drift_alarm)
    last = alarmed[-1][1]
    since = [window for _, window in closed if window.closed_unix >= last.closed_unix and not window.is_held]
    assert table.counts[0].tolist() == np.sum([window.counts for window in since], axis=0).tolist()
    assert table.relearn_since[0] == last.closed_unix
    kept, *_ = run(events, 16, replace(options, relearns_after_drift=False), n_slots=1)
    assert all(window.archived == () for _, window in kept)


def test_relearning_does_not_depend_on_how_the_stream_was_cut():
    options = replace(SMALL, drift_threshold=3.0, relearns_after_drift=True)
    rng = np.random.default_rng(4)
    slots = rng.integers(3, size=3000)
    classes = np.where(np.arange(3000) < 1500, rng.choice(2, 3000, p=[0.9, 0.1]), rng.choice([1, 4, 5], 3000))
    events = keyed(slots, classes)
    one, _, whole, _ = run(events, 3000, options)
    for size in (1, 7, 100):
        cut, _, table, _ = run(events, size, options)
        assert [window.archived for _, window in cut] == [window.archived for _, window in one]
        assert np.array_equal(table.counts, whole.counts)
    assert any(window.archived for _, window in one)


def test_windows_of_two_sessions_have_different_identities():
    for session in ("", "a."):
        bank = WindowBank(64, replace(SMALL, session=session))
        result = bank.observe(keyed([0] * 9 + [-1, 1], [0] * 11), table_with("k", "l"))
        assert [window.window_id for window in result.closed] == [f"{session}0.1"]
        assert result.serials.tolist() == [1] * 8 + [2, 0, 1]


def test_a_key_begun_anew_between_settling_and_closing_has_learned_nothing_before():
    table, bank = table_with("k"), WindowBank(64, SMALL)
    bank.observe(keyed([0] * 22, [2] * 22), table)
    assert bank.settle(1e9, table) == [0]
    table.relearn(0, 30.0)
    (window,) = bank.observe(keyed([0] * 2, [2, 2], [40.0, 41.0]), table).closed
    assert (window.score.baseline_events, window.score.level) == (0, WindowLevel.UNTESTED)
    assert table.counts[0].tolist() == [0, 0, 2, 0, 0, 0, 0, 0]


T0, YEAR = 1_763_878_000.0, 365.25 * 86_400.0


def learned_directly(events):
    """Return the table that learns the same events without windows."""
    table = table_with("k")
    table.observe(events.slots, events.classes, events.times, events.sizes)
    return table


@pytest.mark.parametrize("step", [0.0, 10 * YEAR, -10 * YEAR])
def test_moments_survive_a_clock_that_was_set_by_ten_years(step):
    rng = np.random.default_rng(6)
    times = T0 + np.cumsum(rng.exponential(3.0, 8 * 20))
    times[70:101] += step
    events = keyed([0] * 160, rng.choice(3, 160), times, sizes=rng.integers(0, 9000, 160))
    table, bank = table_with("k"), WindowBank(64, SMALL)
    closed = bank.observe(events, table).closed
    assert not any(window.is_held for window in closed)
    assert [(window.started_unix, window.closed_unix) for window in closed] == [
        (times[start], times[start + 7]) for start in range(0, 160, 8)
    ]
    direct = learned_directly(events)
    for moments, exact in ((table.interarrival, direct.interarrival), (table.payload, direct.payload)):
        assert moments.count[0] == exact.count[0]
        # Two windows have events ten years from their first, where times are cut to 4 ms.
        assert moments.mean[0] == pytest.approx(exact.mean[0], abs=1e-4 if step else 1e-12)
        assert moments.m2[0] == pytest.approx(exact.m2[0], rel=1e-4 if step else 1e-12)
    assert table.clock_steps_total == direct.clock_steps_total == bool(step)


def test_what_is_learned_of_a_busy_key_is_what_its_events_say_to_the_last_bit():
    rng = np.random.default_rng(9)
    times = T0 + np.cumsum(rng.exponential(20.0, 128))
    events = keyed([0] * 128, rng.choice(3, 128), times, sizes=rng.integers(0, 9000, 128))
    table = table_with("k")
    WindowBank(64, WindowOptions()).observe(events, table)
    direct = learned_directly(events)
    assert table.interarrival.mean[0] == direct.interarrival.mean[0]
    assert table.interarrival.m2[0] == direct.interarrival.m2[0]
    assert table.last_learned[0] == times[-1]


def test_a_quiet_key_of_months_is_settled_up_to_the_second():
    table, bank = table_with("k"), WindowBank(64, SMALL)
    times = T0 + np.array([0.0, 30 * 86_400.0, 90 * 86_400.0, 90 * 86_400.0 + 1.0])
    bank.observe(keyed([0] * 4, [1, 2, 3, 4], times), table)
    assert bank.settle(times[1], table) == [0]
    assert table.counts[0].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    bank.settle(times[3], table)
    assert table.counts[0].tolist() == [0, 1, 1, 1, 0, 0, 0, 0]
    bank.settle(times[3] + 1.0, table)
    assert table.counts[0].tolist() == [0, 1, 1, 1, 1, 0, 0, 0]
    assert table.clock_steps_total == 0


def test_the_last_window_is_kept_whole_after_its_batch():
    rng = np.random.default_rng(12)
    events = random_stream(rng, 2000, 5)
    closed, _, _, bank = run(events, 100)
    for slot in range(5):
        latest = [window for _, window in closed if window.slot == slot][-1]
        assert repr(bank.last(slot)) == repr(latest)


def test_a_key_in_its_steady_state_takes_less_than_three_kibibytes():
    options = WindowOptions()
    events = keyed(np.tile(np.arange(64), 128), np.tile([0, 1, 1, 2], 2048), np.arange(8192.0))
    table = table_with(*(f"k{slot}" for slot in range(64)))
    tracemalloc.start()
    try:
        bank = WindowBank(64, options)
        for _ in range(options.overdispersion_windows + 4):
            bank.observe(events, table)
        gc.collect()
        traced, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert bank.windows_closed == 64 * 36
    assert traced / 64 < 3 * 1024
