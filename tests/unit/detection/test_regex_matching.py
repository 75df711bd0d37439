"""Choosing the engine, and the literal that every match contains."""

import time

import pytest

from eguard.detection.regex_matching import REGEX_SUBJECT_CHARACTERS, compile_search, is_cheap, required_literal
from eguard.detection.regex_syntax import parse_regex
from eguard.errors import RuleError


@pytest.mark.parametrize(
    ("pattern", "literal"),
    [
        ("ipconfig", "ipconfig"),
        (r"net\s+user", "user"),
        (r"\\pipe\\[0-9a-f]{2}", "\\pipe\\"),
        ("colou?r", "colo"),
        ("(?:abc)def", "abcdef"),
        ("(?:abc)?def", "def"),
        ("(?:abc)+de", "abc"),
        ("ab{3}cd", "ab"),
        ("abc|abd", ""),
        ("x(abc|abd)yz", "yz"),
        ("[a]bc", "abc"),
        (r"\bword$", "word"),
        (".*", ""),
    ],
)
def test_the_literal_is_the_longest_that_cannot_be_absent(pattern, literal):
    assert required_literal(parse_regex(pattern)) == literal


@pytest.mark.parametrize(
    ("pattern", "cheap"),
    [
        ("abc", True),
        ("[^/]{100,}$", True),
        (".{1,64}-Path.{1,64}", True),
        (".{1,64}-Path.{1,65}", False),
        (r"a\s+b.{0,20}c", False),
        (r"\s+a\s+", False),
        ("(ab?){3}", False),
        ("(a|b){3}", False),
        ("(abc){3,9}", True),
    ],
)
def test_only_expressions_with_few_ways_go_to_the_backtracking_engine(pattern, cheap):
    assert is_cheap(parse_regex(pattern)) is cheap


def test_both_engines_are_reached_and_agree_on_case():
    for pattern in ("WHO", r"W.*H.*O"):
        assert compile_search(pattern, "i")("who")
        assert not compile_search(pattern)("who")


def test_classes_are_ascii_in_both_engines():
    assert not compile_search(r"a\sb")("a\u00a0b")
    assert not compile_search(r"a\s.*\sb")("a\u00a0\u00a0b")


def test_syntax_that_pythons_engine_reads_otherwise_is_run_in_one_pass():
    assert compile_search("x(?i)ab")("xAB")
    assert not compile_search("x(?i)ab")("XAB")
    assert compile_search("[[a]b")("[b")


def test_only_the_first_characters_are_looked_at():
    padding = "x" * REGEX_SUBJECT_CHARACTERS
    assert not compile_search("evil")(padding + "evil")
    assert compile_search("evil")(padding[:-4] + "evil")


def test_a_malformed_expression_is_a_rule_error():
    with pytest.raises(RuleError, match="not closed"):
        compile_search("(a")


def test_the_worst_expression_trusted_to_backtracking_stays_quick():
    begin = time.process_time()
    assert not compile_search("[^/]{100,}$")(("x" * 99 + "/") * 81)
    assert not compile_search(".{1,64}-Path.{1,63}#")("-Path" * 1638)
    assert time.process_time() - begin < 2
