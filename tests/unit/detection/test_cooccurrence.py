import numpy as np

from eguard.detection.cooccurrence import MAX_RULES, FleetCooccurrence


def test_cooccurrence_counts_other_hosts_within_five_minutes():
    fleet = FleetCooccurrence()
    first = fleet.update(["a", "a", "b", "c"], ["R", "R", "R", "S"], [0, 100, 200, 200])
    second = fleet.update(["b", "c", "d"], ["R", "R", "S"], [399, 400, 501])
    assert first.tolist() == [0, 0, 1, 0]
    assert second.tolist() == [1, 1, 0]  # a of 100 is 300 s old at 400; c of 200 has left S


def test_cooccurrence_remembers_256_hosts_where_the_feature_saturates():
    counts = FleetCooccurrence().update([f"h{i}" for i in range(400)], ["R"] * 400, np.zeros(400))
    assert counts.max() == 255
    assert np.log2(1 + counts.max()) / 8 == 1.0


def test_cooccurrence_forgets_the_rule_not_seen_for_longest():
    fleet = FleetCooccurrence()
    rules = ["OLD", *(f"R{i}" for i in range(MAX_RULES - 1)), "NEW"]
    fleet.update(["a"] * len(rules), rules, np.zeros(len(rules)))
    assert fleet.update(["b", "b"], ["NEW", "OLD"], [1.0, 1.0]).tolist() == [1, 0]
