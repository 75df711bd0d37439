"""Compiled rules against an independent reading of what pySigma parsed.

The oracle walks pySigma's own condition tree for every event: strings become anchored regular expressions character by
character, regular expressions run on RE2. It shares nothing with the compiled predicates but the event's fields.
"""

from __future__ import annotations

import gzip
import ipaddress
import json
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
import re2
from sigma.conditions import ConditionAND, ConditionNOT, ConditionOR, ConditionValueExpression
from sigma.rule import SigmaRule
from sigma.types import (
    SigmaBool,
    SigmaCIDRExpression,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SpecialChars,
)

from eguard.detection.rules import RuleSet
from eguard.events.columns import EventBatch
from eguard.events.parsers import read_events
from eguard.mlops.rules import RulesParams, compile_rules

pytestmark = pytest.mark.slow

RAW = Path(__file__).parents[2] / "data" / "raw"
#: What the log says of each event, in the words of Sigma's documentation of log sources.
CATEGORIES = {
    ("sysmon", 1): {"process_creation"},
    ("sysmon", 3): {"network_connection"},
    ("sysmon", 7): {"image_load"},
    ("sysmon", 8): {"create_remote_thread"},
    ("sysmon", 10): {"process_access"},
    ("sysmon", 11): {"file_event"},
    ("sysmon", 12): {"registry_event"},
    ("sysmon", 13): {"registry_event", "registry_set"},
    ("sysmon", 17): {"pipe_created"},
    ("sysmon", 18): {"pipe_created"},
    ("sysmon", 22): {"dns_query"},
    ("sysmon", 23): {"file_delete"},
    ("security", 4688): {"process_creation"},
}
ACTIONS = {"CreateKey": "registry_add", "DeleteKey": "registry_delete", "DeleteValue": "registry_delete"}
SERVICES = {
    "microsoft-windows-sysmon/operational": "sysmon",
    "security": "security",
    "microsoft-windows-windows defender/operational": "windefend",
}
#: Steps of a recorded behaviour that their rule is not about: the recording holds others that it matches.
OTHER_STEPS = {
    "Shai-Hulud Malicious Bun Execution": 5,  # cmd.exe children before bun.exe starts
    "Cred Dump Tools Dropped Files": 3,  # the Zone.Identifier streams of the dropped files
    "Permission Misconfiguration Reconnaissance Via Findstr.EXE": 2,  # icacls and another findstr of the pipe
    "Security Tools Keyword Lookup Via Findstr.EXE": 2,  # cmd and tasklist of the pipe
}


@cache
def expression(value):
    """Return the regular expression that a Sigma string stands for."""
    marks = {SpecialChars.WILDCARD_MULTI: ".*", SpecialChars.WILDCARD_SINGLE: "."}
    text = "".join(re.escape(part) if isinstance(part, str) else marks[part] for part in value)
    return re.compile(text, re.IGNORECASE | re.DOTALL)


@cache
def re2_expression(pattern, flags):
    return re2.compile((f"(?{flags})" if flags else "") + pattern)


def address_fits(network, text):
    try:
        return ipaddress.ip_address(text) in ipaddress.ip_network(network)
    except ValueError:
        return False


def text_fits(value, text, event):
    if isinstance(value, SigmaString):
        return expression(tuple(value.s)).fullmatch(text) is not None
    if isinstance(value, SigmaNumber | SigmaBool):
        return text.lower() == str(value).lower()
    if isinstance(value, SigmaRegularExpression):
        flags = "".join(sorted(value.sigma_to_re_flag[flag] for flag in value.flags))
        return re2_expression(str(value.regexp), flags).search(text) is not None
    if isinstance(value, SigmaCIDRExpression):
        return address_fits(value.cidr, text)
    assert isinstance(value, SigmaFieldReference), f"the oracle does not know {value!r}"
    return value.field in event and event[value.field].lower() == text.lower()


def value_fits(field, value, event):
    if isinstance(value, SigmaExpansion):
        return any(value_fits(field, one, event) for one in value.values)
    if isinstance(value, SigmaNull):
        return field not in event
    return field in event and text_fits(value, event[field], event)


def keyword_fits(value, event):
    if isinstance(value, SigmaExpansion):
        return any(keyword_fits(one, event) for one in value.values)
    text = "\n".join(event.values())
    return expression(tuple(value.s) if isinstance(value, SigmaString) else (str(value),)).search(text) is not None


def condition_fits(condition, event):
    if isinstance(condition, ConditionAND):
        return all(condition_fits(one, event) for one in condition.args)
    if isinstance(condition, ConditionOR):
        return any(condition_fits(one, event) for one in condition.args)
    if isinstance(condition, ConditionNOT):
        return not condition_fits(condition.args[0], event)
    if isinstance(condition, ConditionValueExpression):
        return keyword_fits(condition.value, event)
    return value_fits(condition.field, condition.value, event)


@pytest.fixture(scope="module")
def compilation():
    return compile_rules(RAW / "sigma-rules" / "rules.ndjson.gz", RulesParams())


@pytest.fixture(scope="module")
def compiled(compilation):
    return RuleSet.from_json({"format": 1, "rules": compilation[0]}, include_hunting=True)


@pytest.fixture(scope="module")
def parsed(compiled):
    """Return pySigma's rules with their conditions by log source, only those that were compiled."""
    identities = {rule.id for rule in compiled.rules}
    by_source = defaultdict(list)
    with gzip.open(RAW / "sigma-rules" / "rules.ndjson.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            rule = SigmaRule.from_yaml(json.loads(line)["yaml"])
            if str(rule.id) in identities:
                source = rule.logsource
                conditions = [condition.parse() for condition in rule.detection.parsed_condition]
                by_source[source.product, source.category, source.service].append((str(rule.id), conditions))
    return by_source


def oracle_matches(event, parsed):
    """Return the ids of the rules that the oracle finds in a Windows event."""
    service = SERVICES.get(event.fields["Channel"].lower(), "")
    categories = CATEGORIES.get((service, event.event_code), set())
    if service == "sysmon" and event.event_code == 12 and event.fields.get("EventType") in ACTIONS:
        categories = categories | {ACTIONS[event.fields["EventType"]]}
    sources = [("windows", category, None) for category in categories] + [("windows", None, service)]
    # Defender's log writes its field names with blanks, Sigma without.
    values = {name.replace(" ", ""): value for name, value in event.fields.items()} | event.fields
    return {
        identity
        for source in sources
        for identity, conditions in parsed[source]
        if any(condition_fits(condition, values) for condition in conditions)
    }


@pytest.fixture(scope="module")
def positives():
    return list(read_events(RAW / "sigma-positives" / "events.ndjson.gz", "sigma-positives"))


def test_all_shipped_rules_compile_but_for_the_few_that_are_listed(compilation):
    kept, refused = compilation
    assert len(kept) + len(refused) == 2842
    assert len(kept) >= 2790
    assert {entry["reason"] for entry in refused} == {"log_source", "placeholder"}
    assert sum(rule["is_hunting"] for rule in kept) == 126


def test_every_shipped_rule_with_a_recording_matches_it(compiled, positives):
    matches = compiled.match(EventBatch.from_events(positives))
    index_of = {rule.id: index for index, rule in enumerate(compiled.rules)}
    hits, misses = defaultdict(int), defaultdict(int)
    for event, found in zip(positives, matches, strict=True):
        if event.rule_id in index_of:
            kind = hits if index_of[event.rule_id] in found else misses
            kind[compiled.rules[index_of[event.rule_id]].title] += 1
    assert len(hits) == 136
    assert sum(hits.values()) == 139
    assert misses == OTHER_STEPS


def test_compiled_rules_say_of_every_recording_what_the_oracle_says(compiled, parsed, positives):
    disagreements = []
    matches = compiled.match(EventBatch.from_events(positives))
    for event, found in zip(positives, matches, strict=True):
        ours = {compiled.rules[index].id for index in found}
        theirs = oracle_matches(event, parsed)
        if ours != theirs:
            disagreements.append((event.rule_id, ours ^ theirs))
    assert disagreements == []


CAPTURES = (
    "covenant_sharpsc_stop_dcerpc_smb_svcctl.zip",
    "empire_powerdump_sam_access.zip",
    "cmd_sam_copy_esentutl.zip",
)


@pytest.mark.parametrize("capture", CAPTURES)
def test_compiled_rules_say_of_ordinary_telemetry_what_the_oracle_says(compiled, parsed, capture):
    sample, seen = [], defaultdict(int)
    for event in read_events(RAW / "endpoint-events" / "raw" / capture, "sysmon"):
        if seen[event.source, event.event_code] < 12:
            seen[event.source, event.event_code] += 1
            sample.append(event)
    assert len(sample) > 60
    matches = compiled.match(EventBatch.from_events(sample))
    for event, found in zip(sample, matches, strict=True):
        assert {compiled.rules[index].id for index in found} == oracle_matches(event, parsed), event


def test_what_matches_with_less_known_matches_with_all_known(compiled, positives):
    silent = 0
    for event in positives:
        whole = set(compiled.match_event(event))
        known = {name: getattr(event, name) for name in event.__struct_fields__ if name not in {"fields", "image_path"}}
        for image_path in (event.image_path, ""):
            part = set(compiled.match_event(type(event)(**known, image_path=image_path)))
            assert part <= whole
            silent += len(whole - part)
    assert silent > 0


def test_a_match_is_explained_by_text_of_the_event(compiled, positives):
    matches = compiled.match(EventBatch.from_events(positives))
    for event, found in zip(positives, matches, strict=True):
        for index in found:
            reasons = compiled.explain(index, event)
            assert reasons
            assert all(value in event.fields.values() or value == str(event.event_code) for _, value, _ in reasons)
