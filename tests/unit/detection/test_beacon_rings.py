"""Rings and stretches: what is read before, between and after writes."""

import numpy as np

from eguard.detection.beacon_rings import Rings, Sightings


def stretch(rings, stays, milliseconds, sizes=None, start=0):
    stays = np.asarray(stays, dtype=np.int64)
    sizes = np.arange(stays.size) if sizes is None else np.asarray(sizes)
    return Sightings(rings, start, stays, np.asarray(milliseconds, dtype=np.int64), sizes)


def held(contacts, index):
    part = slice(contacts.offsets[index], contacts.offsets[index + 1])
    return contacts.gaps[part].tolist(), contacts.sizes[part].tolist()


def test_a_stretch_can_be_read_at_every_event_before_it_is_written():
    rings = Rings(2, 3)
    stretch(rings, [0, 0], [100, 150], [7, 8]).write()
    sightings = stretch(rings, [0, 1, 0, 0, 0], [160, 500, 160, 175, 200], [1, 2, 3, 4, 5])
    assert sightings.seen.tolist() == [3, 1, 3, 4, 5]
    assert sightings.is_accepted.tolist() == [True, True, False, True, True]
    found = sightings.contacts(np.arange(5))
    assert held(found, 0) == ([1, 50, 10], [7, 8, 1])
    assert held(found, 2) == ([1, 50, 10], [7, 8, 1])  # the duplicate adds nothing
    assert held(found, 3) == ([50, 10, 15], [8, 1, 4])
    assert held(found, 4) == ([10, 15, 25], [1, 4, 5])
    assert sightings.write() == 1
    assert held(rings.contacts(np.array([0, 1])), 0) == ([10, 15, 25], [1, 4, 5])


def test_a_stretch_of_skipped_events_changes_the_clock_only():
    rings = Rings(1, 4)
    stretch(rings, [0, 0], [100, 200]).write()
    back = stretch(rings, [0, 0], [50, 50])
    assert held(back.contacts(np.array([1])), 0) == ([1, 100], [0, 1])
    assert back.write() == 2
    stretch(rings, [0], [80], [9]).write()
    assert held(rings.contacts(np.array([0])), 0) == ([1, 100, 30], [0, 1, 9])
    assert rings.skipped.tolist() == [2]


def test_of_several_stays_of_a_slot_in_a_stretch_the_last_remains():
    rings = Rings(1, 4)
    stretch(rings, [0, 0], [10, 20]).write()
    sightings = stretch(rings, [0, 1, 1, 2], [30, 31, 35, 36], [5, 6, 7, 8])
    found = sightings.contacts(np.arange(4))
    assert held(found, 0) == ([1, 10, 10], [0, 1, 5])
    assert held(found, 2) == ([1, 4], [6, 7])
    assert held(found, 3) == ([1], [8])
    sightings.write()
    assert (rings.stay.tolist(), rings.seen.tolist(), rings.latest.tolist()) == ([2], [1], [36])


def test_more_contacts_than_a_ring_holds_leave_the_last():
    rings = Rings(1, 3)
    stretch(rings, [0] * 10, np.arange(10) * 5).write()
    assert held(rings.contacts(np.array([0])), 0) == ([5, 5, 5], [7, 8, 9])


def test_a_full_slot_takes_two_kibibytes_and_a_little():
    assert Rings(1000, 256).nbytes == 1000 * (2 * 4 * 256 + 4 * 8)
