"""Moments of many streams: equal to NumPy's on the whole stream, however it was cut."""

import numpy as np

from eguard.baseline.moments import MomentColumns, group_starts


def test_hand_computed_merge():
    moments = MomentColumns(1)
    moments.add(np.array([0, 0]), np.array([1.0, 3.0]))  # mean 2, m2 2
    moments.add(np.array([0]), np.array([8.0]))  # mean 4, m2 1 + 9 + 16 = 26
    assert (moments.count[0], moments.mean[0], moments.m2[0]) == (3, 4.0, 26.0)


def test_cuts_do_not_matter():
    rng = np.random.default_rng(3)
    slots = np.sort(rng.integers(0, 5, 1000))
    values = rng.normal(50.0, 3.0, 1000)
    whole, parts = MomentColumns(5), MomentColumns(5)
    whole.add(slots, values)
    for chosen in np.array_split(rng.permutation(1000), 17):
        ordered = np.sort(chosen)
        parts.add(slots[ordered], values[ordered])
    for slot in range(5):
        own = values[slots == slot]
        for moments in (whole, parts):
            assert moments.count[slot] == len(own)
            assert np.isclose(moments.mean[slot], own.mean(), rtol=1e-13)
            assert np.isclose(moments.m2[slot], ((own - own.mean()) ** 2).sum(), rtol=1e-11)


def test_a_small_spread_on_a_large_level_survives():
    moments = MomentColumns(1)
    for value in (1e9, 1e9 + 1, 1e9 + 2):
        moments.add(np.array([0]), np.array([value]))
    assert np.isclose(moments.m2[0], 2.0, rtol=1e-6)


def test_nothing_added_changes_nothing_and_reset_forgets():
    moments = MomentColumns(2)
    moments.add(np.array([], dtype=np.intp), np.array([]))
    moments.add(np.array([0, 1]), np.array([5.0, 6.0]))
    moments.reset([0])
    assert moments.count.tolist() == [0, 1]
    assert moments.mean.tolist() == [0.0, 6.0]


def test_group_starts_of_one_group():
    assert group_starts(np.array([4, 4, 4])).tolist() == [0]
