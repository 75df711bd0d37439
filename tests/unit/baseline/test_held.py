"""Held windows: released once, dropped and counted when nobody judges them."""

import numpy as np

from eguard.baseline.held import HeldWindows

COUNTS = np.array([1, 0, 2, 0, 0, 0, 0, 0])


def test_released_windows_come_back_once():
    held = HeldWindows()
    held.hold("a", ("sh", "cron"), COUNTS, 0.0)
    assert "a" in held
    window = held.release("a")
    assert (window.key, window.counts.tolist()) == (("sh", "cron"), COUNTS.tolist())
    assert held.release("a") is None
    assert held.dropped_windows_total == 0


def test_a_second_hold_of_one_window_is_ignored():
    held = HeldWindows()
    held.hold("a", ("sh", "cron"), COUNTS, 0.0)
    held.hold("a", ("sh", "cron"), COUNTS * 9, 50.0)
    assert held.find("a").counts.tolist() == COUNTS.tolist()


def test_what_waits_longer_than_a_day_is_dropped_and_counted():
    held = HeldWindows()
    held.hold("old", ("sh", "cron"), COUNTS, 0.0)
    held.hold("new", ("sh", "cron"), COUNTS, 10.0)
    assert held.expire(86_400.0) == 0  # a day is allowed
    assert held.expire(86_400.5) == 1
    assert "new" in held
    assert (held.dropped_windows_total, held.dropped_events_total) == (1, 3)


def test_the_oldest_makes_room_and_is_counted():
    held = HeldWindows(capacity=2)
    for number in range(3):
        held.hold(str(number), ("sh", "cron"), COUNTS, float(number))
    assert len(held) == 2
    assert "0" not in held
    assert held.dropped_windows_total == 1


def test_true_positives_are_dropped():
    held = HeldWindows()
    held.hold("a", ("sh", "cron"), COUNTS, 0.0)
    held.discard("a")
    held.discard("a")
    assert (len(held), held.dropped_events_total) == (0, 3)
