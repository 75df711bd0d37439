"""The syntax of rules' regular expressions: what is read, and what is refused by name."""

import pytest

from eguard.detection.regex_syntax import Anchor, Choice, One, Repeat, Sequence, parse_regex
from eguard.errors import RuleError


def test_a_small_expression_becomes_the_tree_one_would_draw():
    assert parse_regex("a|b{2,}$") == Choice(
        (
            One(frozenset("a")),
            Sequence((Repeat(One(frozenset("b")), 2, None), Anchor("last line end"))),
        )
    )


@pytest.mark.parametrize(
    ("pattern", "accepted", "refused"),
    [
        ("[a-c]", "abc", "dA-"),
        ("[^a-c\\n]", "dA-", "abc\n"),
        ("[]a]", "]a", "b"),
        ("[^]a]", "b", "]a"),
        ("[a-]", "a-", "b"),
        ("[\\w.-]", "z_9.-", " +"),
        ("[\\D]", "a ", "7"),
        ("[\\]\\\\]", "]\\", "["),
        ("\\s", " \t\n", "a\u00a0"),
        ("\\d", "7", "\u0663"),
        (".", "a\u00e9", "\n"),
        ("\\x41", "A", "x"),
        ("\\u2013", "\u2013", "-"),
        ("\\.", ".", "a"),
    ],
)
def test_classes_and_escapes_hold_the_right_characters(pattern, accepted, refused):
    node = parse_regex(pattern)
    assert all(node.accepts(character) for character in accepted)
    assert not any(node.accepts(character) for character in refused)


def test_case_is_ignored_from_the_flag_on_and_only_within_its_group():
    first, second = parse_regex("(?i:a)a").parts
    assert first.accepts("A")
    assert not second.accepts("A")
    last = parse_regex("a(?i)b").parts[1]
    assert last.accepts("B")
    assert parse_regex("[^a]", "i").accepts("A") is False


@pytest.mark.parametrize(
    ("pattern", "cause"),
    [
        ("(a", "not closed"),
        ("a)", "closes nothing"),
        ("[a", "class is not closed"),
        ("*a", "nothing to repeat"),
        ("(?=a)", "look-around"),
        ("(?<!a)b", "look-around"),
        ("(a)\\1", "back references"),
        ("a{5,2}", "out of range"),
        ("a{2000}", "out of range"),
        ("a*+", "possessive"),
        ("\\q", "no counterpart"),
        ("[z-a]", "range"),
        ("\\x4", "character code"),
        ("\\", "no counterpart"),
    ],
)
def test_what_cannot_be_matched_in_one_pass_is_refused_with_its_cause(pattern, cause):
    with pytest.raises(RuleError, match=cause) as caught:
        parse_regex(pattern)
    assert caught.value.context["reason"] == "regex_unsupported"
