"""The cheap layers of one batch, and what a set of rules says together."""

import pytest

from eguard.detection.layers import DetectionContent
from eguard.detection.rules import RuleSet
from eguard.events import EventBatch


def rule(number, level, tags):
    return {
        "id": f"r{number}", "title": "t", "level": level, "status": "test", "author": "x", "path": "p", "licence": "l",
        "tags": tags, "predicate": ["endswith", "Image", ["\\cmd.exe"]],
        "selector": {"product": "windows", "category": "process_creation", "service": "", "event_codes": []},
    }  # fmt: skip


@pytest.fixture
def content():
    rules = [
        rule(0, "informational", ["attack.impact"]),
        rule(1, "low", ["attack.execution", "attack.t1059"]),
        rule(2, "high", ["attack.discovery", "attack.t1033", "attack.t1059"]),
        rule(3, "high", []),
    ]
    return DetectionContent(rules=RuleSet.from_json({"format": 1, "rules": rules}))


def test_informational_rules_enrich_and_do_not_hit(content):
    batch = EventBatch(
        time_unix=[0.0, 1.0], event_class=[0, 0], comm=["cmd.exe", "x"], source=["sysmon"] * 2, event_type=["exec"] * 2
    )
    hits = content.evaluate(batch)
    assert hits.rules == {0: (1, 2, 3)}
    assert hits.enrichment == {0: (0,)}
    assert hits.has_rule.tolist() == [True, False]
    assert hits.rules_at(1) == ()


def test_the_most_severe_rule_leads_and_the_first_of_equals(content):
    assert content.leading_rule((1, 2, 3)).id == "r2"
    assert content.leading_rule((1,)).id == "r1"
    assert content.leading_rule(()) is None


def test_tactics_and_techniques_are_distinct_and_sorted(content):
    assert content.tactics((1, 2)) == ("discovery", "execution")
    assert content.techniques((1, 2)) == ("T1033", "T1059")


def test_empty_content_finds_nothing():
    hits = DetectionContent().evaluate(EventBatch(time_unix=[0.0], event_class=[7], command_line=["mimikatz"]))
    assert (hits.rules, hits.has_indicator.tolist(), hits.signature_count.tolist()) == ({}, [False], [0])
    assert hits.is_alert.tolist() == [True]
