"""Counting what matches."""

import pytest

from eguard.detection.rule_header import Rule, Selector
from eguard.detection.rule_predicates import read_predicate
from eguard.detection.rules import RuleSet
from eguard.events.columns import EventBatch
from eguard.mlops.rule_census import match_census


def entry(identity, level, text):
    rule = Rule(identity, f"Rule {identity}", level, "A. Author", "test", "p", "DRL-1.1", (), (), is_hunting=False)
    return rule, Selector("", "", "", frozenset()), read_predicate(["contains", "CommandLine", [text]])


RULES = RuleSet([entry("r1", "low", "alpha"), entry("r2", "high", "beta"), entry("r3", "low", "gamma")])


def batch(*lines):
    return EventBatch(time_unix=[0.0] * len(lines), command_line=list(lines))


def test_events_levels_and_rules_are_counted_over_all_batches():
    seen = []
    batches = [batch("alpha", "alpha beta", "none"), batch("alpha gamma", "")]
    census = match_census(RULES, batches, lambda *step: seen.append(step))
    assert (census["events"], census["matched_events"], census["matched_fraction"]) == (5, 3, 0.6)
    shares = {"informational": 0.0, "low": 0.6, "medium": 0.0, "high": 0.2, "critical": 0.0}
    assert census["matched_fraction_by_level"] == pytest.approx(shares)
    assert [(row["id"], row["matches"], row["author"]) for row in census["rules"]] == [
        ("r1", 3, "A. Author"),
        ("r2", 1, "A. Author"),
        ("r3", 1, "A. Author"),
    ]
    assert seen == [("rule census", 3, 0), ("rule census", 5, 0)]


def test_no_events_are_no_division_by_zero():
    assert match_census(RULES, [])["matched_fraction"] == 0.0
