"""Linear-time matching: right answers, anchors, bounds, and no text that makes it slow."""

import time

import pytest

from eguard.detection.linear_regex import LinearRegex
from eguard.detection.regex_syntax import parse_regex
from eguard.errors import RuleError


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("abc", "xxabcx", True),
        ("abc", "ab c", False),
        ("^abc$", "abc", True),
        ("^abc$", "abc\n", True),
        ("^abc$", "abc\nx", False),
        ("^b", "a\nb", False),
        ("(?m)^b$", "a\nb\nc", True),
        (r"\Aab\z", "ab", True),
        (r"\Aab\z", "ab\n", False),
        (r"\bcat\b", "a cat.", True),
        (r"\bcat\b", "concat", False),
        (r"\Bcat", "concat", True),
        ("a{3}", "aa", False),
        ("a{2,3}b", "aaaab", True),
        ("(ab|a)(bc|c)$", "abc", True),
        ("a.*b.*c", "a\nb c", False),
        ("(?s)a.*b.*c", "a\nb c", True),
        ("(a*)*b", "aaab", True),
        ("x?", "", True),
        ("()", "", True),
        ("(|a)b", "b", True),
        ("(?i)[à-ü]x", "ÀX", False),
    ],
)
def test_it_finds_what_should_be_found(pattern, text, found):
    assert LinearRegex(parse_regex(pattern)).found_in(text) is found


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a+)+$", "a" * 8000 + "!"),
        ("(a|aa)*c", "a" * 8000),
        ('(?:set).*&&.*set.*(?:invoke).*&&.*"', "set&&set invoke&&" * 480),
        ("(x+x+)+y", "x" * 8000),
    ],
)
def test_text_made_to_confuse_a_backtracking_engine_is_settled_at_once(pattern, text):
    begin = time.process_time()
    assert not LinearRegex(parse_regex(pattern)).found_in(text)
    assert time.process_time() - begin < 2


def test_remembered_steps_are_bounded_whatever_the_text():
    regex = LinearRegex(parse_regex("a.*b.*c"))
    assert not regex.found_in("".join(map(chr, range(0x4E00, 0x4E00 + 9000))))
    assert len(regex._steps) <= 4096


def test_a_program_that_would_be_too_large_is_refused():
    with pytest.raises(RuleError, match="states"):
        LinearRegex(parse_regex("((a{100}){100}){100}"))
