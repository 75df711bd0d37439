"""The other field tests and the reading of their JSON form."""

import pytest

from eguard.detection.field_tests import parse_address, read_field_test
from eguard.detection.sigma_view import Knowledge, SigmaView
from eguard.errors import RuleError


def holds(node, /, **fields):
    """Return what a test says of a complete event."""
    view = SigmaView(fields)
    test = read_field_test(node)
    assert test.holds(view) is not test.fails(view)
    return test.holds(view)


@pytest.mark.parametrize(
    ("node", "value", "expected"),
    [
        (["like", "F", [r"*\\temp\\*.ex?"]], "C:\\TEMP\\a.exe", True),
        (["like_cased", "F", [r"*\\temp\\*"]], "C:\\TEMP\\a", False),
        (["like", "F", ["a\\*b"]], "a*b", True),
        (["regex", "F", "net\\s+user", ""], "net  user", True),
        (["regex", "F", "NET", ""], "net", False),
        (["regex", "F", "NET", "i"], "net", True),
        (["cidr", "F", ["10.0.0.0/8", "fe80::/10"]], "10.255.0.1", True),
        (["cidr", "F", ["10.0.0.0/8", "fe80::/10"]], "fe80::1", True),
        (["cidr", "F", ["10.0.0.0/8"]], "::ffff:10.0.0.1", True),
        (["cidr", "F", ["10.0.0.0/8"]], "11.0.0.1", False),
        (["cidr", "F", ["10.0.0.0/8"]], "no address", False),
        (["less", "F", 5], "4.5", True),
        (["less_equal", "F", 5], "5", True),
        (["greater", "F", 5], "5", False),
        (["greater_equal", "F", 5], "05", True),
        (["greater", "F", 5], "many", False),
        (["greater", "F", 5], "nan", False),
        (["equals", "F", ["3389"]], "3389", True),
        (["equals", "F", [""]], "", True),
        (["exists", "F"], "", True),
        (["null", "F"], "", False),
        (["equals_field", "F", "G"], "SAME", True),
    ],
)
def test_each_test_says_what_its_name_says(node, value, expected):
    assert holds(node, F=value, G="same") is expected


def test_null_and_exists_of_an_absent_field():
    assert holds(["null", "F"])
    assert not holds(["exists", "F"])
    assert not holds(["equals_field", "F", "G"], G="x")


def test_a_keyword_is_found_in_any_field_with_its_wildcards():
    assert holds(["keyword", "", ["rm -rf"]], a="x", CommandLine="sudo RM -RF /")
    assert holds(["keyword", "", ["chown*4777"]], CommandLine="chown root; chmod 4777 x")
    assert not holds(["keyword", "", ["chown*4777"]], CommandLine="chmod 4777; chown")


def test_nothing_but_text_can_be_told_of_partly_known_values():
    view = SigmaView({"F": "10.0.0.1"}, {"F": Knowledge.END})
    for node in (["cidr", "F", ["10.0.0.0/8"]], ["regex", "F", "10", ""], ["greater", "F", 1], ["like", "F", ["1*1"]]):
        test = read_field_test(node)
        assert (test.holds(view), test.fails(view)) == (False, False)


def test_absence_is_unknown_where_the_record_is_not_complete():
    view = SigmaView({}, is_complete=False)
    for node in (["null", "F"], ["exists", "F"], ["equals_field", "F", "G"], ["keyword", "", ["x"]]):
        test = read_field_test(node)
        assert (test.holds(view), test.fails(view)) == (False, False)


def test_evidence_of_a_keyword_names_the_field_it_was_found_in():
    test = read_field_test(["keyword", "", ["evil"]])
    assert [field for field, _, _ in test.evidence(SigmaView({"a": "good", "b": "EVIL"}))] == ["b"]


@pytest.mark.parametrize(
    "node",
    [
        ["equals", "F"],
        ["equals", "F", []],
        ["equals", "F", "text"],
        ["equals", "F", [1]],
        ["equals", 5, ["x"]],
        ["sounds_like", "F", ["x"]],
        ["regex", "F", "x"],
        ["regex", "F", "x", "q"],
        ["regex", "F", "(", ""],
        ["cidr", "F", ["10.0.0.0/33"]],
        ["less", "F", "5"],
        ["null", "F", 1],
        ["keyword_cased", "", ["x"]],
    ],
)
def test_a_malformed_test_is_refused(node):
    with pytest.raises(RuleError):
        read_field_test(node)


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.4.5", "x" * 10_000, "\ud800", "1.2.3.4\n"])
def test_text_that_is_no_address_has_none(text):
    assert parse_address(text) is None
