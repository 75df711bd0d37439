import json

import numpy as np
import pytest

from eguard.detection.fleet_context import FleetContext
from eguard.detection.fleet_shares import FleetShares
from eguard.errors import ModelError
from eguard.wire.canonical import canonical_json

DAY = 86_400.0


def filled():
    shares = FleetShares()
    shares.observe(["a", "b", "c"], ["R", "R", "S"], [10.0, 20.0, 30.0])
    shares.observe_ports(["a", "b", "a", "a", "c"], [443, 443, 8443, 8443, 0])
    shares.observe_children(["sh", "sh", "sh", "init"], ["ls", "ls", "nc", "sh"])
    shares.observe_destinations(["a", "b", "c", "a"], ["x:1", "x:1", "y:2", "x:1"], [1.0, 2.0, 3.0, 4.0])
    return shares.nightly(DAY)


def test_rules_are_shared_out_over_the_hosts():
    assert filled().rule_rarity(["R", "S", "T"]).tolist() == pytest.approx([1 - 2.5 / 4, 1 - 1.5 / 4, 1 - 0.5 / 4])


def test_ports_rank_by_hosts_then_connections():
    tables = filled()
    assert tables.port_ranks == {443: 1, 8443: 2}
    assert tables.port_rarity(np.array([0, 443, 8443, 31337])).tolist() == pytest.approx([0.0, 1 / 4, 2 / 4, 3 / 4])


def test_children_are_rare_given_their_parent():
    rarity = filled().parent_child_rarity(["sh", "sh", "sh", "init", "gone"], ["ls", "nc", "sh", "sh", "ls"])
    assert rarity.tolist() == pytest.approx([1 - 2.5 / 4, 1 - 1.5 / 4, 1 - 0.5 / 4, 1 - 1.5 / 2, 0.5])


def test_destinations_are_rare_by_the_share_of_other_hosts():
    tables = filled()
    assert tables.knows_destinations
    assert tables.destination_hosts == {"x:1": 2}  # one host alone is no prevalence
    assert tables.destination_rarity(["x:1", "y:2", "unheard of"]).tolist() == [0.5, 1.0, 1.0]
    assert tables.destination_rarity([]).tolist() == []


def test_without_a_fleet_nothing_is_known_of_destinations():
    for tables in (FleetContext(), FleetContext(n_connecting_hosts=1, destination_hosts={})):
        assert not tables.knows_destinations
        assert tables.destination_rarity(["x:1"]).tolist() == [1.0]


def test_tables_without_destinations_are_still_read():
    document = filled().to_json()
    del document["destination_hosts"], document["n_connecting_hosts"]
    tables = FleetContext.from_json(document)
    assert not tables.knows_destinations
    assert tables.rule_hosts == filled().rule_hosts


def test_an_empty_table_answers_one_half():
    empty = FleetContext()
    assert empty.rule_rarity(["R"]).tolist() == [0.5]
    assert empty.port_rarity(np.array([80, 0])).tolist() == [0.5, 0.0]
    assert empty.parent_child_rarity(["p"], ["c"]).tolist() == [0.5]


def test_json_round_trip_is_exact_and_canonical():
    tables = filled()
    encoded = canonical_json(tables.to_json())
    again = FleetContext.from_json(json.loads(encoded))
    assert again == tables
    assert canonical_json(again.to_json()) == encoded


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"n_hosts": -1},
        {"n_hosts": 1.5},
        {"n_hosts": True},
        {"rule_hosts": []},
        {"rule_hosts": {"R": "3"}},
        {"port_ranks": {"http": 1}},
        {"port_ranks": {"80": 7}},
        {"children": {"sh": 3}},
        {"as_of_unix": "NaN"},
        {"as_of_unix": None},
        {"destination_hosts": {"x:1": 4}},
        {"destination_hosts": {"x:1": -1}},
        {"destination_hosts": ["x:1"]},
        {"n_connecting_hosts": "3"},
        {"n_connecting_hosts": 1},
    ],
)
def test_malformed_tables_are_refused(change):
    with pytest.raises(ModelError):
        FleetContext.from_json(filled().to_json() | change)


def test_something_else_is_refused():
    with pytest.raises(ModelError):
        FleetContext.from_json([1, 2])
