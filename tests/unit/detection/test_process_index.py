"""Finding processes by GUID, by pid and time, and by name."""

import numpy as np

from eguard.detection.process_index import Identity, ProcessIndex


def test_a_guid_goes_before_a_pid_and_a_pid_before_a_name():
    index = ProcessIndex(10)
    by_guid = index.add(Identity("{1}", 7, "a"), 0.0)
    by_name = index.add(Identity("", 0, "a"), 0.0)
    assert index.find(Identity("{1}", 99, "x"), 1.0) is by_guid
    assert index.find(Identity("", 7, "x"), 1.0) is by_guid
    assert index.find(Identity("", 0, "a"), 1.0) is by_name
    assert index.find(Identity("{2}", 0, "a"), 1.0) is None  # a GUID that is not known is somebody else


def test_a_pid_belongs_to_whoever_had_it_at_the_time():
    index = ProcessIndex(10)
    first = index.add(Identity("", 7, "a"), 10.0)
    second = index.add(Identity("", 7, "b"), 20.0)
    assert not first.is_live
    assert [index.by_pid(7, time) for time in (15.0, 20.0, 99.0)] == [first, second, second]
    third = index.add(Identity("", 7, "c"), 30.0)
    assert index.by_pid(7, 25.0) is second
    assert index.by_pid(7, 15.0) is second  # one earlier owner is remembered
    assert index.by_pid(7) is third


def test_among_names_a_matching_parent_is_preferred_and_the_latest_wins():
    index = ProcessIndex(10)
    one = index.add(Identity("", 0, "a"), 0.0, parent_comm="x")
    two = index.add(Identity("", 0, "a"), 1.0, parent_comm="y")
    assert index.find(Identity("", 0, "a"), 2.0) is two
    assert index.find(Identity("", 0, "a"), 2.0, "x") is one
    assert index.find(Identity("", 0, "a"), 2.0, "z") is two
    index.retire(two)
    assert index.find(Identity("", 0, "a"), 2.0, "y") is one


def test_what_is_forgotten_is_found_no_more():
    index = ProcessIndex(2)
    index.add(Identity("{1}", 7, "a"), 0.0)
    index.add(Identity("", 0, "b"), 0.0)
    index.add(Identity("", 8, "c"), 0.0)
    assert len(index) == 2
    assert index.by_guid("{1}") is None
    assert index.by_pid(7) is None
    assert index.find(Identity("", 0, "b"), np.inf) is not None
