"""Who is contacted, and under which name a fleet counts it."""

import numpy as np
import pytest

from eguard.detection.contacts import Contacts, fleet_destinations, fleet_name, is_inbound, registered_domain
from eguard.events import EventBatch


def batch(**columns):
    n = len(columns["event_class"])
    given = {"time_unix": np.arange(float(n)), "comm": ["p"] * n, **columns}
    return EventBatch(**given)


def test_connections_go_by_address_and_port_and_look_ups_by_the_registered_domain():
    events = batch(
        event_class=[3, 4, 0, 3, 4, 3],
        destination_address=["192.0.2.1", "", "192.0.2.9", "", "", "2001:db8::1"],
        destination_port=[443, 53, 1, 80, 0, 22],
        target=["cdn.example.org", "a.b.example.org", "", "x.example.org", "", ""],
    )
    contacts = Contacts.of(events)
    assert contacts.positions.tolist() == [0, 1, 5]
    assert contacts.destinations == [("p", "192.0.2.1", 443), ("p", "example.org", 0), ("p", "2001:db8::1", 22)]
    assert [fleet_name(d) for d in contacts.destinations] == ["192.0.2.1:443", "example.org", "[2001:db8::1]:22"]


def test_what_the_other_side_opened_and_where_nobody_listens_is_not_counted_for_the_fleet():
    events = batch(
        event_class=[3] * 6,
        destination_address=["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "224.0.0.251", "127.0.0.1"],
        destination_port=[443] * 6,
        event_type=["connect", "accept", "net", "net", "net", "net"],
        fields=[None, None, {"Initiated": "False"}, {"Initiated": "true"}, None, None],
    )
    positions, names = fleet_destinations(events)
    assert positions.tolist() == [0, 3]
    assert names == ["192.0.2.1:443", "192.0.2.4:443"]
    assert [is_inbound(events, row) for row in range(4)] == [False, True, True, False]


def test_no_contacts_give_nothing():
    positions, names = fleet_destinations(batch(event_class=[0, 7]))
    assert (positions.tolist(), names) == ([], [])


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("www.example.com", "example.com"),
        ("EXAMPLE.com.", "example.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("example.de", "example.de"),
        ("host", "host"),
        ("", ""),
    ],
)
def test_registered_domain(name, domain):
    assert registered_domain(name) == domain


def test_a_connection_whose_end_is_reported_counts_once_at_its_end_when_its_size_is_known():
    events = batch(
        event_class=[3, -1, 3, -1, 3],
        event_type=["tcp_connect", "tcp_close", "tcp_connect", "tcp_failed", "udp_connect"],
        destination_address=["192.0.2.1"] * 5,
        destination_port=[443, 443, 80, 80, 53],
        sent_bytes=[0, 512, 0, 0, 0],
    )
    contacts = Contacts.of(events)
    assert contacts.positions.tolist() == [1, 3, 4]
    assert [port for _, _, port in contacts.destinations] == [443, 80, 53]
