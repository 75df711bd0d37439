"""Slots by recency of use, one key at a time."""

import pytest

from eguard.detection.lru_slots import LruSlots


def test_the_key_used_longest_ago_makes_room_even_within_one_batch():
    index = LruSlots(2)
    assert index.take(["a", "b", "c", "a", "c", "b"]).tolist() == [0, 1, 2, 3, 2, 5]
    assert index.keys() == ["c", "b"]
    assert index.evicted_total == 3


def test_a_key_that_stays_keeps_its_stay_and_one_that_returns_begins_another():
    index = LruSlots(3)
    first = index.take(["a", "b", "a"])
    assert first.tolist() == [0, 1, 0]
    assert index.take(["a", "c", "d"]).tolist() == [0, 2, 4]  # "b" leaves slot 1
    assert index.take(["b"]).tolist() == [3]  # "a" was the oldest: slot 0, its second stay
    assert sorted(index.stays() % 3) == [0, 1, 2]


def test_no_keys_change_nothing():
    index = LruSlots(1)
    assert index.take([]).tolist() == []
    assert (len(index), index.keys(), index.stays().tolist()) == (0, [], [])


def test_at_least_one_slot_is_needed():
    with pytest.raises(ValueError, match="capacity"):
        LruSlots(0)
