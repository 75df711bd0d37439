"""Headers of compiled rules."""

import pytest

from eguard.detection.log_sources import log_source_of
from eguard.detection.rule_header import Selector, attack_of, read_header
from eguard.errors import RuleError


def item(**changes):
    return {
        "id": "6a1",
        "title": "T",
        "level": "high",
        "author": "A",
        "status": "test",
        "path": "rules/x.yml",
        "licence": "DRL-1.1",
        "tags": ["attack.command_and_control", "attack.t1071.001", "attack.s0154"],
        "selector": {"product": "windows", "category": "process_creation", "service": "", "event_codes": []},
        "predicate": ["exists", "Image"],
    } | changes


def test_a_header_carries_attribution_severity_and_attack_ids():
    rule, selector = read_header(item(is_hunting=True))
    assert (rule.id, rule.author, rule.licence, rule.is_hunting) == ("6a1", "A", "DRL-1.1", True)
    assert (rule.tactics, rule.techniques) == (("command-and-control",), ("T1071.001",))
    assert selector == Selector("windows", "process_creation", "", frozenset())


@pytest.mark.parametrize(
    ("level", "fraction"),
    [("informational", 0.1), ("low", 0.25), ("medium", 0.5), ("high", 0.75), ("critical", 1.0)],
)
def test_levels_have_their_fractions(level, fraction):
    assert read_header(item(level=level))[0].severity_fraction == fraction


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        {},
        item(level="urgent"),
        item(tags="attack.t1071"),
        item(tags=[1]),
        item(author=None),
        item(selector={}),
        item(selector=item()["selector"] | {"event_codes": ["4688"]}),
        item(selector=item()["selector"] | {"product": None}),
        item(is_hunting="no"),
    ],
)
def test_a_malformed_header_is_refused(broken):
    with pytest.raises(RuleError) as caught:
        read_header(broken)
    assert caught.value.context["reason"] == "malformed"


def test_a_selector_covers_what_it_does_not_contradict():
    source = log_source_of("security", 4688, "exec", 0)
    assert Selector("windows", "process_creation", "", frozenset()).covers(source)
    assert Selector("windows", "", "security", frozenset({4688})).covers(source)
    assert not Selector("windows", "", "security", frozenset({4624})).covers(source)
    assert not Selector("linux", "process_creation", "", frozenset()).covers(source)
    assert not Selector("windows", "", "sysmon", frozenset()).covers(source)


def test_tags_that_are_no_tactic_or_technique_are_left_out():
    assert attack_of(["attack.g0016", "attack.t12", "cve.2021-1", "attack.Stealth"]) == (("stealth",), ())
