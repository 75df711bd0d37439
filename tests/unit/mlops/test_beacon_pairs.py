"""Pairs from events: who is a destination, what is left out, and that no observation is lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.events import EventBatch, EventClass
from eguard.mlops.beacon_pairs import exclusion_reason, pairs_from_events

CONNECT, DNS, EXEC = int(EventClass.NETWORK_CONNECT), int(EventClass.DNS_QUERY), int(EventClass.PROCESS_EXEC)


def contacts(rows):
    """Rows of (time, host, address, port, sent bytes)."""
    times, hosts, addresses, ports, sizes = zip(*rows, strict=True)
    return EventBatch(
        time_unix=np.array(times, float),
        host_id=list(hosts),
        event_class=np.full(len(rows), CONNECT),
        destination_address=list(addresses),
        destination_port=np.array(ports),
        sent_bytes=np.array(sizes),
    )


def test_observations_are_grouped_by_source_and_destination_in_time_order():
    pairs = pairs_from_events(
        contacts([(3, "b", "192.0.2.1", 443, 30), (2, "a", "192.0.2.1", 443, 20), (1, "b", "192.0.2.1", 443, 10)])
    )
    assert [pairs.names(row) for row in range(len(pairs))] == [("a", "192.0.2.1:443"), ("b", "192.0.2.1:443")]
    assert pairs.offsets.tolist() == [0, 1, 3]
    assert pairs.times_seconds.tolist() == [2.0, 1.0, 3.0]
    assert pairs.sent_bytes.tolist() == [20.0, 10.0, 30.0]


def test_a_destination_is_a_name_where_the_log_has_one():
    events = EventBatch(
        time_unix=np.arange(6.0),
        host_id=["h"] * 6,
        event_class=np.array([CONNECT, CONNECT, DNS, CONNECT, CONNECT, CONNECT]),
        event_type=["http", "ssl", "dns", "conn", "http", "conn"],
        target=["www.example.com", "api.example.com", "a.b.example.co.uk", "", "", ""],
        destination_address=["192.0.2.1", "192.0.2.1", "192.0.2.53", "192.0.2.9", "192.0.2.8", "2001:db8::1"],
        destination_port=np.array([80, 443, 53, 8443, 80, 443]),
    )
    by_address = pairs_from_events(events, by_address=True).destinations
    assert {"192.0.2.1:80", "192.0.2.1:443", "example.co.uk"} <= set(by_address)
    assert pairs_from_events(events).destinations == (
        "192.0.2.8:80",
        "192.0.2.9:8443",
        "[2001:db8::1]:443",
        "api.example.com",
        "example.co.uk",
        "www.example.com",
    )


def test_failed_connects_without_a_byte_are_observations():
    pairs = pairs_from_events(contacts([(second, "h", "192.0.2.1", 5888, 0) for second in range(25)]))
    assert pairs.n_observations.tolist() == [25]


def test_addresses_that_no_single_server_has_are_counted_and_left_out():
    events = contacts(
        [
            (1, "h", "224.0.0.251", 5353, 1),
            (2, "h", "ff02::fb", 5353, 1),
            (3, "h", "169.254.169.254", 80, 1),
            (4, "h", "255.255.255.255", 67, 1),
            (5, "h", "127.0.0.1", 80, 1),
            (6, "h", "0.0.0.0", 68, 1),
            (7, "h", "192.0.2.1", 443, 1),
            (8, "h", "", 443, 1),
        ]
    )
    pairs = pairs_from_events(events)
    assert pairs.destinations == ("192.0.2.1:443",)
    assert pairs.excluded == {
        "broadcast": 1,
        "link_local": 1,
        "loopback": 1,
        "multicast": 2,
        "no_destination": 1,
        "unspecified": 1,
    }


def test_other_events_are_no_contacts():
    events = EventBatch(time_unix=np.array([1.0]), host_id=["h"], event_class=np.array([EXEC]))
    pairs = pairs_from_events(events)
    assert (len(pairs), pairs.excluded) == (0, {"no_contact": 1})


@pytest.mark.parametrize("address", ["not an address", "192.0.2.1", "2001:db8::5", ""])
def test_ordinary_and_unreadable_addresses_may_be_command_and_control(address):
    assert exclusion_reason(address) == ""


def test_the_same_host_of_two_captures_is_two_sources():
    events = contacts([(1, "h", "192.0.2.1", 443, 1), (2, "h", "192.0.2.1", 443, 1)])
    events.group = ["first", "second"]
    pairs = pairs_from_events(events)
    assert len(pairs) == 2
    assert pairs.of_group("second").times_seconds.tolist() == [2.0]
    assert len(pairs.of_group("third")) == 0
    assert pairs.hosts_by_destination().tolist() == [1]


def test_callers_are_counted_once_however_often_they_call():
    rows = [
        (1, "a", "192.0.2.1", 1, 0),
        (2, "a", "192.0.2.1", 1, 0),
        (3, "b", "192.0.2.1", 1, 0),
        (4, "b", "192.0.2.2", 1, 0),
    ]
    assert pairs_from_events(contacts(rows)).hosts_by_destination().tolist() == [2, 1]


@given(
    st.lists(st.tuples(st.integers(0, 50), st.sampled_from("abc"), st.integers(1, 4)), min_size=1, max_size=60),
    st.data(),
)
def test_taking_pairs_keeps_their_observations_whole(rows, data):
    events = contacts([(time, host, f"192.0.2.{last}", 443, index) for index, (time, host, last) in enumerate(rows)])
    pairs = pairs_from_events(events)
    assert pairs.offsets[-1] == len(rows)
    assert sorted(pairs.sent_bytes.tolist()) == list(range(len(rows)))
    chosen = np.array(data.draw(st.lists(st.integers(0, len(pairs) - 1), max_size=5, unique=True)), np.intp)
    taken = pairs.take(chosen)
    for row, origin in enumerate(chosen.tolist()):
        assert taken.names(row) == pairs.names(origin)
        own = slice(taken.offsets[row], taken.offsets[row + 1])
        whole = slice(pairs.offsets[origin], pairs.offsets[origin + 1])
        assert taken.times_seconds[own].tolist() == pairs.times_seconds[whole].tolist()
        assert taken.times_seconds[own].tolist() == sorted(taken.times_seconds[own].tolist())


def test_a_pair_is_found_by_name():
    pairs = pairs_from_events(contacts([(1, "a", "192.0.2.1", 1, 0), (2, "b", "192.0.2.2", 1, 0)]))
    assert pairs.find("b", "192.0.2.2:1") == 1
    assert pairs.find("a", "192.0.2.2:1") is None
    assert pairs.find("c", "192.0.2.2:1") is None
