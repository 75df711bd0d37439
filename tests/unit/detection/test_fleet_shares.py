import numpy as np
import pytest

from eguard.detection import fleet_shares
from eguard.detection.fleet_shares import MAX_CHILDREN, MAX_DESTINATIONS, FleetShares
from eguard.errors import EstimatorInputError
from eguard.wire.canonical import canonical_json

DAY = 86_400.0


def test_a_host_counts_once_however_often_it_shows_a_rule():
    shares = FleetShares()
    shares.observe(["a"] * 100 + ["b"], ["R"] * 101, np.arange(101.0))
    assert shares.nightly(DAY).rule_hosts == {"R": 2}


def test_sightings_leave_after_seven_days():
    shares = FleetShares()
    shares.observe(["a", "b"], ["R", "R"], [0.0, DAY])
    assert shares.nightly(7 * DAY - 1).rule_hosts == {"R": 2}
    late = shares.nightly(7 * DAY)
    assert (late.rule_hosts, late.n_hosts) == ({"R": 1}, 1)
    assert shares.nightly(8 * DAY).rule_hosts == {}


def test_an_out_of_order_sighting_does_not_replace_a_later_one():
    shares = FleetShares()
    shares.observe(["a", "a"], ["R", "R"], [5 * DAY, 1 * DAY])
    assert shares.nightly(9 * DAY).rule_hosts == {"R": 1}


def test_tables_refuse_to_know_the_future():
    shares = FleetShares()
    shares.observe(["a"], ["R"], [DAY + 1])
    with pytest.raises(EstimatorInputError, match="as_of_unix"):
        shares.nightly(DAY)


def test_equal_ports_share_the_better_rank():
    shares = FleetShares()
    shares.observe_ports(["a"] * 4, [1, 2, 3, 3])
    assert shares.nightly(0.0).port_ranks == {3: 1, 1: 2, 2: 2}


def test_tables_do_not_depend_on_the_order_of_arrival():
    orders = ([0, 1, 2], [2, 0, 1])
    hosts, rules, ports = ["a", "b", "c"], ["R", "S", "R"], [80, 443, 22]
    encoded = []
    for order in orders:
        shares = FleetShares()
        shares.observe([hosts[i] for i in order], [rules[i] for i in order], np.array([1.0, 2.0, 3.0])[order])
        shares.observe_ports([hosts[i] for i in order], [ports[i] for i in order])
        encoded.append(canonical_json(shares.nightly(DAY).to_json()))
    assert encoded[0] == encoded[1]


def test_tables_keep_the_commonest_entries():
    shares = FleetShares()
    shares.observe_children(
        ["sh"] * (2 * MAX_CHILDREN), [f"c{i % (MAX_CHILDREN + 1):04}" for i in range(2 * MAX_CHILDREN)]
    )
    children = shares.nightly(0.0).children["sh"]
    assert len(children) == MAX_CHILDREN
    assert set(children.values()) == {1, 2}
    assert f"c{MAX_CHILDREN:04}" not in children  # seen once, last among equals by name


def test_destinations_leave_after_seven_days_with_the_hosts_that_used_them():
    shares = FleetShares()
    shares.observe_destinations(["a", "b", "c"], ["x:1", "x:1", "x:1"], [0.0, DAY, 2 * DAY])
    shares.observe_destinations(["d"], ["y:1"], [0.0])
    full = shares.nightly(7 * DAY - 1)
    assert (full.n_connecting_hosts, full.destination_hosts) == (4, {"x:1": 3})
    assert shares.nightly(7 * DAY).destination_hosts == {"x:1": 2}
    late = shares.nightly(8 * DAY)
    assert (late.n_connecting_hosts, late.destination_hosts) == (1, {})


def test_tables_refuse_to_know_future_contacts():
    shares = FleetShares()
    shares.observe_destinations(["a"], ["x:1"], [DAY + 1])
    with pytest.raises(EstimatorInputError, match="as_of_unix"):
        shares.nightly(DAY)


def test_the_commonest_destinations_are_kept():
    shares = FleetShares()
    names = [f"{i:05}" for i in range(MAX_DESTINATIONS + 10)]
    for host in ("a", "b"):
        shares.observe_destinations([host] * len(names), names, np.zeros(len(names)))
    shares.observe_destinations(["c"], [names[-1]], [0.0])
    kept = shares.nightly(DAY).destination_hosts
    assert len(kept) == MAX_DESTINATIONS
    assert kept[names[-1]] == 3


def test_a_flood_of_destinations_does_not_push_out_what_hosts_share(monkeypatch):
    monkeypatch.setattr(fleet_shares, "MAX_COUNTED_DESTINATIONS", 100)
    shares = FleetShares()
    shares.observe_destinations(["a", "b"], ["x:1", "x:1"], [0.0, 0.0])
    shares.observe_destinations(["evil"] * 5000, [f"flood:{i}" for i in range(5000)], np.arange(5000.0))
    assert shares.nightly(DAY).destination_hosts == {"x:1": 2}
    assert len(shares._destination_seen) <= 100
