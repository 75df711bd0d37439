"""Predicate trees: logic on whole and on partly known events, clauses, evidence, and refusal of malformed trees."""

import pytest

from eguard.detection.rule_predicates import MAX_DEPTH, read_predicate
from eguard.detection.sigma_view import Knowledge, SigmaView
from eguard.errors import RuleError

CMD = ["endswith", "Image", ["\\cmd.exe"]]
WHOAMI = ["contains", "CommandLine", ["whoami"]]
SYSTEM_FOLDER = ["startswith", "Image", ["C:\\Windows\\System32\\"]]


def holds(node, /, **fields):
    return read_predicate(node).holds(SigmaView(fields))


def test_conjunction_disjunction_and_negation():
    event = {"Image": "C:\\x\\cmd.exe", "CommandLine": "cmd /c whoami"}
    assert holds(["all", CMD, WHOAMI], **event)
    assert not holds(["all", CMD, ["not", WHOAMI]], **event)
    assert holds(["any", ["not", CMD], WHOAMI], **event)
    assert not holds(["any", ["not", CMD], ["not", WHOAMI]], **event)
    assert holds(["not", ["all", CMD, ["contains", "CommandLine", ["dir"]]]], **event)


def test_an_exclusion_that_cannot_be_checked_keeps_the_rule_silent():
    tree = read_predicate(["all", CMD, ["not", SYSTEM_FOLDER]])
    basename = SigmaView({"Image": "\\cmd.exe"}, {"Image": Knowledge.END}, is_complete=False)
    elsewhere = SigmaView({"Image": "C:\\Temp\\cmd.exe"}, is_complete=False)
    assert (tree.holds(basename), tree.fails(basename)) == (False, False)
    assert tree.holds(elsewhere)


def test_an_absent_field_excludes_only_on_a_complete_record():
    tree = read_predicate(["all", CMD, ["not", ["equals", "User", ["root"]]]])
    fields = {"Image": "C:\\x\\cmd.exe"}
    assert tree.holds(SigmaView(fields))
    assert not tree.holds(SigmaView(fields, is_complete=False))


def test_unknown_is_neither_true_nor_false_through_every_connective():
    unknown = ["equals", "Absent", ["x"]]
    true, false = ["exists", "Image"], ["equals", "Image", ["no"]]
    view = SigmaView({"Image": "i"}, is_complete=False)

    def answer(node):
        tree = read_predicate(node)
        return tree.holds(view), tree.fails(view)

    assert answer(["all", true, unknown]) == (False, False)
    assert answer(["all", false, unknown]) == (False, True)
    assert answer(["any", true, unknown]) == (True, False)
    assert answer(["any", false, unknown]) == (False, False)
    assert answer(["not", unknown]) == (False, False)


def test_clauses_of_a_conjunction_are_those_of_its_children():
    clauses = read_predicate(["all", CMD, WHOAMI, ["not", ["contains", "User", ["admin"]]]]).clauses()
    assert set(clauses) == {frozenset({("Image", "\\cmd.exe")}), frozenset({("CommandLine", "whoami")})}


def test_clauses_of_a_disjunction_join_its_branches_across_fields():
    tree = read_predicate(["any", CMD, ["equals", "OriginalFileName", ["Cmd.Exe"]]])
    assert tree.clauses() == (frozenset({("Image", "\\cmd.exe"), ("OriginalFileName", "cmd.exe")}),)
    assert read_predicate(["any", CMD, ["null", "User"]]).clauses() == ()


def test_fields_are_all_that_are_read():
    tree = read_predicate(["any", CMD, ["not", ["equals_field", "User", "ParentUser"]], ["keyword", "", ["x"]]])
    assert set(tree.fields()) == {"Image", "User", "ParentUser", ""}


def test_evidence_is_what_made_the_tree_hold_and_nothing_else():
    tree = read_predicate(["all", ["any", CMD, ["endswith", "Image", ["\\sh"]]], WHOAMI, ["not", SYSTEM_FOLDER]])
    view = SigmaView({"Image": "D:\\CMD.exe", "CommandLine": "cmd /c whoami"})
    assert list(tree.evidence(view)) == [
        ("Image", "D:\\CMD.exe", "endswith '\\\\cmd.exe'"),
        ("CommandLine", "cmd /c whoami", "contains 'whoami'"),
    ]


@pytest.mark.parametrize(
    "node",
    [None, [], ["all"], "all", ["not"], ["not", CMD, CMD], [["all"], CMD], ["all", 5], ["xor", CMD, CMD], {"all": []}],
)
def test_a_malformed_tree_is_refused(node):
    with pytest.raises(RuleError):
        read_predicate(node)


def test_a_tree_nested_without_end_is_refused_not_followed():
    node = CMD
    for _ in range(MAX_DEPTH + 2):
        node = ["not", node]
    with pytest.raises(RuleError, match="deep"):
        read_predicate(node)
