"""Statistics of a parent's children."""

import numpy as np
import pytest

from eguard.detection.process_nodes import MAX_CHILD_NAMES, MAX_CHILD_STARTS, MAX_LINEAGE, ProcessNode


def parent_of(*children):
    parent = ProcessNode(0, "sh", 0.0, None, "sshd")
    for number, (name, time) in enumerate(children):
        parent.adopt(ProcessNode(number + 1, name, time, parent, "sh"))
    return parent


def test_entropy_is_updated_when_a_child_starts():
    parent = parent_of(("a", 0.0), ("b", 1.0))
    assert parent.child_entropy() == 1.0
    parent.adopt(ProcessNode(9, "a", 2.0, parent, "sh"))
    shares = np.array([2 / 3, 1 / 3])
    assert parent.child_entropy() == pytest.approx(float(-(shares * np.log2(shares)).sum() / np.log2(3)))


def test_names_beyond_the_limit_count_together():
    parent = parent_of(*((f"n{i}", float(i)) for i in range(MAX_CHILD_NAMES + 500)))
    assert len(parent.child_names) <= MAX_CHILD_NAMES + 1
    assert sum(parent.child_names.values()) == parent.children_started == MAX_CHILD_NAMES + 500
    assert 0.0 < parent.child_entropy() < 1.0


def test_starts_are_counted_up_to_what_feature_30_can_show():
    parent = parent_of(*(("a", 100.0) for _ in range(1000)))
    assert parent.children_started_within(100.0, 60.0) == MAX_CHILD_STARTS
    assert parent.children_started_within(160.0, 60.0) == 0


def test_lineage_is_nearest_first_and_bounded():
    node = ProcessNode(0, "p0", 0.0, None, "init")
    for number in range(1, 40):
        node = ProcessNode(number, f"p{number}", 0.0, node, f"p{number - 1}")
    assert node.depth == 39
    assert len(node.lineage) == MAX_LINEAGE
    assert node.lineage[:2] == ("p38", "p37")


def test_a_process_without_a_known_parent_keeps_its_parents_name():
    assert ProcessNode(0, "a", 0.0, None, "b").lineage == ("b",)
    assert ProcessNode(0, "a", 0.0, None, "").lineage == ()
