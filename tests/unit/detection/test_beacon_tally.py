"""Distinct destinations of a day, scored and confirmed."""

from eguard.detection import beacon_tally
from eguard.detection.beacon_tally import BeaconTally

DAY = 86_400.0


def test_destinations_count_once_a_day():
    tally = BeaconTally()
    tally.count(10.0, ["a", "b", "a"], ["a"])
    tally.count(20.0, ["a", "c"], ["a"])
    assert tally.counts(30.0) == (3, 1)
    assert tally.counts(DAY + 1.0) == (0, 0)
    tally.count(DAY + 1.0, ["a"], [])
    assert tally.counts(DAY + 1.0) == (1, 0)
    tally.count(DAY - 1.0, ["z"], [])  # late, and no new day
    assert tally.counts(DAY + 2.0) == (2, 0)


def test_what_was_not_counted_as_scored_is_not_confirmed(monkeypatch):
    monkeypatch.setattr(beacon_tally, "MAX_DESTINATIONS", 2)
    tally = BeaconTally()
    tally.count(0.0, ["a", "b", "c"], ["b", "c"])
    assert tally.counts(0.0) == (2, 1)
