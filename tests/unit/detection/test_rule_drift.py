"""Drift of a network's rules: what an alert stream shows beside each single alert."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eguard.detection.engine_options import WindowOptions
from eguard.detection.rule_drift import MAX_RULES, NAMED_RULES, RuleDrift, commonest_rules

DAY = 86_400.0
OPTIONS = WindowOptions(window_events=128, drift_burn_in=10)
USUAL = ("a", "b", "c", "d")


def stream(n=128 * 60, seed=3, rules=USUAL, start=0.0, seconds=3 * DAY):
    """Return rules and rising times: a steady mix."""
    rng = np.random.default_rng(seed)
    return [rules[index] for index in rng.integers(len(rules), size=n)], np.sort(rng.uniform(start, start + seconds, n))


def test_the_first_day_is_learned_and_gives_no_alarm():
    rules, times = stream(seconds=DAY - 1.0)
    drift = RuleDrift(OPTIONS)
    assert not drift.update(rules, times).any()
    assert drift.alarms == 0


def test_a_steady_mix_gives_no_alarm():
    rules, times = stream(n=128 * 300, seconds=6 * DAY)
    drift = RuleDrift()
    assert not drift.update(rules, times).any()


def test_another_mix_alarms_and_the_alarm_counts_for_an_hour():
    rules, times = stream()
    changed, later = stream(n=128 * 12, seed=5, rules=("a", "new"), start=3 * DAY, seconds=0.2 * DAY)
    drift = RuleDrift(OPTIONS)
    assert not drift.update(rules, times).any()
    counts = drift.update(changed, later)
    first = int(np.flatnonzero(counts)[0])
    assert drift.alarms >= 1
    assert first % 128 == (128 - 1 - len(rules[int(np.searchsorted(times, times[0] + DAY)) :]) % 128) % 128
    assert first >= 128  # one window does not do: the clip at four deviations is there for that
    quiet = drift.update(["a", "a"], [float(later[-1]) + 3599.0 + 1e-6, float(later[-1]) + 2 * 3600.0])
    assert quiet[1] == 0


def test_a_rule_unknown_on_the_first_day_is_no_known_rule():
    drift = RuleDrift(OPTIONS)
    times = np.arange(128 * 300) * 20.0
    drift.update(["a"] * len(times), times)
    assert drift.alarms == 0
    drift.update(["new"] * (128 * 12), times[-1] + 20.0 * np.arange(1, 128 * 12 + 1))
    assert drift.alarms >= 1


def test_a_burst_alarms_by_its_rate_alone():
    rules, times = stream()
    burst, later = stream(n=128 * 12, seed=6, start=3 * DAY, seconds=30.0)
    drift = RuleDrift(OPTIONS)
    drift.update(rules, times)
    assert drift.update(burst, later).any()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 400), max_size=12), st.integers(0, 10))
def test_batches_do_not_matter_and_nothing_looks_ahead(sizes, seed):
    rules, times = stream(n=128 * 25, seed=seed, seconds=1.5 * DAY)
    rules = [*rules, *["x"] * 1000]
    times = np.concatenate([times, times[-1] + np.arange(1.0, 1001.0)])
    whole = RuleDrift(OPTIONS).update(rules, times)
    parted, parts, start = RuleDrift(OPTIONS), [], 0
    for stop in [*np.cumsum(sizes).tolist(), len(rules)]:
        parts.append(parted.update(rules[start:stop], times[start:stop]))
        start = max(start, min(stop, len(rules)))
    assert np.array_equal(np.concatenate(parts), whole)
    cut = len(rules) // 2
    assert np.array_equal(RuleDrift(OPTIONS).update(rules[:cut], times[:cut]), whole[:cut])


def test_a_late_alert_counts_as_of_the_latest_one():
    rules, times = stream(n=128 * 25, seconds=1.5 * DAY)
    late = times.copy()
    late[1000] -= 5000.0
    clamped = np.maximum.accumulate(late)
    assert np.array_equal(RuleDrift(OPTIONS).update(rules, late), RuleDrift(OPTIONS).update(rules, clamped))
    drift = RuleDrift(OPTIONS)
    drift.update(rules, times)
    assert drift.update(["a"], [0.0]).shape == (1,)


def test_rules_of_the_first_day_are_bounded_and_the_commonest_have_a_class():
    drift = RuleDrift(OPTIONS)
    rules = [f"r{index}" for index in range(MAX_RULES + 500)]
    drift.update(rules, np.linspace(0.0, DAY - 1.0, len(rules)))
    assert len(drift._first_day) == MAX_RULES
    drift.update(["r0"], [2 * DAY])
    assert len(drift._classes) == NAMED_RULES
    assert not drift._first_day


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, {}),
        ({"b": 1, "a": 1}, {"a": 0, "b": 1}),
        ({"b": 2, "a": 1}, {"b": 0, "a": 1}),
        ({f"{index:03d}": 1 for index in range(80)}, {f"{index:03d}": index for index in range(63)}),
    ],
)
def test_classes_go_by_count_then_by_name(counts, expected):
    assert commonest_rules(Counter(counts)) == expected


def test_no_alerts_are_no_rows():
    assert RuleDrift().update([], []).shape == (0,)
