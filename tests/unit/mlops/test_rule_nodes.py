"""Building predicate trees in JSON."""

from eguard.mlops.rule_nodes import event_codes, joined


def test_alternatives_of_one_test_become_one_and_keep_their_order():
    nodes = [["contains", "A", ["b"]], ["contains", "B", ["x"]], ["contains", "A", ["a", "b"]]]
    assert joined("any", nodes) == ["any", ["contains", "A", ["b", "a"]], ["contains", "B", ["x"]]]


def test_conjunctions_keep_every_test_apart():
    nodes = [["contains", "A", ["a"]], ["all", ["contains", "A", ["b"]], ["null", "B"]]]
    assert joined("all", nodes) == ["all", ["contains", "A", ["a"]], ["contains", "A", ["b"]], ["null", "B"]]


def test_cased_and_uncased_tests_are_not_mixed():
    nodes = [["equals", "A", ["a"]], ["equals_cased", "A", ["A"]]]
    assert joined("any", nodes) == ["any", *nodes]


def test_a_single_node_stands_for_itself():
    assert joined("any", [["null", "A"]]) == ["null", "A"]
    assert joined("any", [["equals", "A", ["x"]], ["equals", "A", ["y"]]]) == ["equals", "A", ["x", "y"]]


def test_the_given_nodes_are_left_as_they_were():
    node = ["equals", "A", ["x"]]
    joined("any", [node, ["equals", "A", ["y"]]])
    assert node == ["equals", "A", ["x"]]


def test_codes_are_only_those_that_every_match_has():
    assert event_codes(["any", ["equals", "EventID", ["4688"]], ["equals", "EventID", ["1102"]]]) == [1102, 4688]
    assert event_codes(["any", ["equals", "EventID", ["4688"]], ["exists", "A"]]) == []
    assert event_codes(["not", ["equals", "EventID", ["4688"]]]) == []
    assert event_codes(["any", ["equals", "EventID", ["4688"]], ["equals", "A", ["4688"]]]) == []
