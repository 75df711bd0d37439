import numpy as np
import pytest

from eguard.detection.fleet_shares import MAX_CHILDREN, FleetShares
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
