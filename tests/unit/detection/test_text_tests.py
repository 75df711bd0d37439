"""Text tests on whole and on partly known values: true, false or unknown."""

import pytest

from eguard.detection.sigma_view import Knowledge, SigmaView
from eguard.detection.text_tests import ContainsTest, EndsWithTest, EqualsTest, StartsWithTest

WHOLE, END, START, FRAGMENT = Knowledge
VALUE = "\\svchost.exe"


def answers(test, value, knowledge, *, is_complete=False):
    """Return what a test says of one value: (certainly holds, certainly fails)."""
    partial = {} if knowledge is WHOLE else {"F": knowledge}
    view = SigmaView({"F": value} if value is not None else {}, partial, is_complete=is_complete)
    return test.holds(view), test.fails(view)


TRUE, FALSE, UNKNOWN = (True, False), (False, True), (False, False)


@pytest.mark.parametrize(
    ("kind", "text", "knowledge", "answer"),
    [
        (EqualsTest, "\\SvcHost.exe", WHOLE, TRUE),
        (EqualsTest, "svchost.exe", WHOLE, FALSE),
        (EqualsTest, "C:\\windows\\svchost.exe", END, UNKNOWN),
        (EqualsTest, "\\svchost.exe", END, UNKNOWN),
        (EqualsTest, "C:\\windows\\lsass.exe", END, FALSE),
        (EqualsTest, "\\svchost.exe -k", START, UNKNOWN),
        (EqualsTest, "\\svc", START, FALSE),
        (EqualsTest, "C:\\windows\\svchost.exe -k", FRAGMENT, UNKNOWN),
        (ContainsTest, "HOST", WHOLE, TRUE),
        (ContainsTest, "system32", WHOLE, FALSE),
        (ContainsTest, "host", END, TRUE),
        (ContainsTest, "system32", END, UNKNOWN),
        (ContainsTest, "system32", FRAGMENT, UNKNOWN),
        (StartsWithTest, "\\svc", WHOLE, TRUE),
        (StartsWithTest, "C:\\", WHOLE, FALSE),
        (StartsWithTest, "C:\\", END, UNKNOWN),
        (StartsWithTest, "\\svc", END, UNKNOWN),
        (StartsWithTest, "\\svc", START, TRUE),
        (StartsWithTest, "\\svchost.exe -k", START, UNKNOWN),
        (StartsWithTest, "\\lsass", START, FALSE),
        (EndsWithTest, "host.EXE", END, TRUE),
        (EndsWithTest, "system32\\svchost.exe", END, UNKNOWN),
        (EndsWithTest, "\\lsass.exe", END, FALSE),
        (EndsWithTest, ".exe", START, UNKNOWN),
        (EndsWithTest, ".exe", FRAGMENT, UNKNOWN),
    ],
)
def test_a_partly_known_value_is_judged_only_as_far_as_it_is_known(kind, text, knowledge, answer):
    assert answers(kind("F", [text], is_cased=False), VALUE, knowledge) == answer


def test_an_absent_field_fails_on_a_complete_record_and_is_unknown_otherwise():
    test = ContainsTest("F", ["x"], is_cased=False)
    assert answers(test, None, WHOLE, is_complete=True) == FALSE
    assert answers(test, None, WHOLE) == UNKNOWN


def test_one_unknown_text_among_ruled_out_ones_leaves_the_test_unknown():
    test = EndsWithTest("F", ["\\lsass.exe", "32\\svchost.exe"], is_cased=False)
    assert answers(test, VALUE, END) == UNKNOWN


def test_case_counts_when_asked():
    assert answers(ContainsTest("F", ["HOST"], is_cased=True), VALUE, WHOLE) == FALSE
    assert answers(ContainsTest("F", ["host"], is_cased=True), VALUE, WHOLE) == TRUE


def test_hundreds_of_texts_are_looked_up_not_tried():
    texts = [f"needle{number}x" for number in range(500)]
    test = ContainsTest("F", texts, is_cased=False)
    assert answers(test, "hay needle377X hay", WHOLE) == TRUE
    assert answers(test, "hay needle377 hay", WHOLE) == FALSE


def test_texts_beyond_ascii_are_found_and_cost_nothing_on_ascii():
    test = ContainsTest("F", ["\u202e", "\U0001f600"], is_cased=False)
    assert answers(test, "a\u202eb", WHOLE) == TRUE
    assert answers(test, "ab", WHOLE) == FALSE


def test_evidence_names_the_texts_that_were_found():
    test = ContainsTest("F", ["svc", "lsass", "exe"], is_cased=False)
    view = SigmaView({"F": "\\SvcHost.EXE"})
    assert list(test.evidence(view)) == [
        ("F", "\\SvcHost.EXE", "contains 'svc'"),
        ("F", "\\SvcHost.EXE", "contains 'exe'"),
    ]
