"""Wildcard patterns: `*`, `?`, escapes and the empty pattern."""

import pytest

from eguard.detection.wildcards import WildcardPattern, wildcard_escape


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("**", "anything", True),
        ("?", "", False),
        ("?", "\n", True),
        ("abc", "abc", True),
        ("abc", "abcd", False),
        ("abc", "xabc", False),
        ("a*", "a", True),
        ("a*", "ba", False),
        ("*a", "ba", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "acb", False),
        ("*ab*ab*", "abab", True),
        ("*ab*ab*", "aba", False),
        ("*aab", "aaab", True),
        ("?b*", "ab", True),
        ("*x?z", "xyz-xxz", True),
        ("a?c*a?c", "abcabd", False),
        (r"a\*b", "a*b", True),
        (r"a\*b", "axb", False),
        (r"a\\*", "a\\b", True),
        (r"\?", "?", True),
        ("\\", "\\", True),
    ],
)
def test_a_pattern_covers_exactly_the_whole_text(pattern, text, matches):
    assert WildcardPattern(pattern).matches(text) is matches


@pytest.mark.parametrize("text", ["", "plain", r"C:\a*?\\", "\\", "*"])
def test_an_escaped_text_matches_itself_and_not_a_longer_one(text):
    pattern = WildcardPattern(wildcard_escape(text))
    assert pattern.matches(text)
    assert not pattern.matches(text + "x")


def test_the_longest_literal_is_cut_at_wildcards():
    assert WildcardPattern("ab*cdef?ghijk*").longest_literal == "ghijk"
    assert WildcardPattern("*?*").longest_literal == ""


def test_many_wildcards_on_a_text_that_nearly_fits_take_no_time():
    pattern = WildcardPattern("*a" * 200 + "*b")
    assert not pattern.matches("a" * 20_000)
