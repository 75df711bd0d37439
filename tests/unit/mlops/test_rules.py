"""Compiling Sigma rules: every construct, every refusal, and the stage as a whole."""

import gzip
import json

import pytest
from pydantic import ValidationError

from eguard.detection.indicators import IndicatorSet
from eguard.detection.prefilter import CommandLinePrefilter
from eguard.detection.rule_predicates import read_predicate
from eguard.detection.rules import RuleSet
from eguard.detection.sigma_view import SigmaView
from eguard.errors import RuleError
from eguard.mlops.rules import RulesParams, compile_rule, compile_rules, run
from eguard.mlops.workspace import Workspace, read_json

HEADER = """
title: A rule
id: {id}
status: {status}
author: A. Author
level: {level}
tags: [attack.execution, attack.t1059]
logsource: {{{source}}}
detection:
"""
IDENTITY = "6a1f9f2e-3c51-4a7e-9f0e-1f2d3c4b5a69"
WINDOWS = "product: windows, category: process_creation"


def text(detection, *, identity=IDENTITY, status="test", level="high", source=WINDOWS):
    body = "\n".join(f"  {line}" for line in detection.strip("\n").splitlines())
    return HEADER.format(id=identity, status=status, level=level, source=source) + body + "\n"


def predicate(selection, condition="selection"):
    lines = "\n".join(f"  {line}" for line in selection.strip("\n").splitlines())
    return compile_rule(text(f"selection:\n{lines}\ncondition: {condition}"), "rules/x.yml")["predicate"]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("User: a", ["equals", "User", ["a"]]),
        ("User: [a, b]", ["equals", "User", ["a", "b"]]),
        ("User: ''", ["equals", "User", [""]]),
        ("User: 5", ["equals", "User", ["5"]]),
        ("User: true", ["equals", "User", ["true"]]),
        ("User: null", ["null", "User"]),
        ("User: '*'", ["exists", "User"]),
        ("User|exists: true", ["exists", "User"]),
        ("User|exists: false", ["null", "User"]),
        ("User|contains: a", ["contains", "User", ["a"]]),
        ("User|startswith: a", ["startswith", "User", ["a"]]),
        ("User|endswith: a", ["endswith", "User", ["a"]]),
        ("User: '*a*'", ["contains", "User", ["a"]]),
        ("User|contains|all: [a, b]", ["all", ["contains", "User", ["a"]], ["contains", "User", ["b"]]]),
        ("User|cased: Admin", ["equals_cased", "User", ["Admin"]]),
        ("User|contains|cased: Admin", ["contains_cased", "User", ["Admin"]]),
        ("Image: 'C:\\*\\a?.exe'", ["like", "Image", [r"C:\*\\a?.exe"]]),
        ("Image: 'C:\\\\*\\a?.exe'", ["like", "Image", [r"C:\\*\\a?.exe"]]),
        ("Image: 'a\\*b'", ["equals", "Image", ["a*b"]]),
        ("Image|endswith: '\\a*b'", ["like", "Image", ["*\\\\a*b"]]),
        ("User|re: 'a.*b'", ["regex", "User", "a.*b", ""]),
        ("User|re|i|m: '^a'", ["regex", "User", "^a", "im"]),
        ("Ip|cidr: [10.0.0.0/8, 'fe80::/10']", ["cidr", "Ip", ["10.0.0.0/8", "fe80::/10"]]),
        ("Size|gte: 10", ["greater_equal", "Size", 10]),
        ("Size|lt: 2.5", ["less", "Size", 2.5]),
        ("User|neq: a", ["not", ["equals", "User", ["a"]]]),
        ("User|fieldref: Other", ["equals_field", "User", "Other"]),
        ("User: [a, null]", ["any", ["equals", "User", ["a"]], ["null", "User"]]),
    ],
)
def test_each_construct_becomes_the_test_that_means_the_same(selection, expected):
    assert predicate(selection) == expected


def test_windash_is_tried_in_all_its_forms():
    node = predicate("CommandLine|contains|windash: ' -enc '")
    assert node[0] == "contains"
    assert {" -enc ", " /enc "} <= set(node[2])


def test_base64offset_finds_a_word_wherever_it_stands_in_the_encoding():
    import base64

    node = predicate("CommandLine|base64offset|contains: 'Invoke-Expression'")
    tree = read_predicate(node)
    for padding in ("", "x", "xy"):
        encoded = base64.b64encode(f"{padding}Invoke-Expression now".encode()).decode()
        assert tree.holds(SigmaView({"CommandLine": f"powershell {encoded}"}))


def test_wide_base64_is_utf_16():
    import base64

    tree = read_predicate(predicate("CommandLine|wide|base64offset|contains: 'IEX'"))
    encoded = base64.b64encode("aIEX".encode("utf-16le")).decode()
    assert tree.holds(SigmaView({"CommandLine": encoded}))


@pytest.mark.parametrize(
    ("condition", "event", "holds"),
    [
        ("1 of sel_*", {"A": "x"}, True),
        ("1 of sel_*", {"C": "x"}, False),
        ("all of sel_*", {"A": "x"}, False),
        ("all of sel_*", {"A": "x", "B": "x"}, True),
        ("all of them", {"A": "x", "B": "x"}, False),
        ("any of them", {"C": "x"}, True),
        ("sel_a and not sel_b", {"A": "x"}, True),
        ("sel_a and not sel_b", {"A": "x", "B": "x"}, False),
        ("not (sel_a or sel_b) and filter", {"C": "x"}, True),
        ("sel_a or sel_b and filter", {"A": "x"}, True),
    ],
)
def test_conditions_select_and_combine(condition, event, holds):
    detection = "sel_a: {A: x}\nsel_b: {B: x}\nfilter: {C: x}\ncondition: " + condition
    assert read_predicate(compile_rule(text(detection), "p")["predicate"]).holds(SigmaView(event)) is holds


def test_a_list_of_maps_is_a_disjunction_and_a_map_a_conjunction():
    assert predicate("- A: x\n- B: y") == ["any", ["equals", "A", ["x"]], ["equals", "B", ["y"]]]
    assert predicate("A: x\nB: y") == ["all", ["equals", "A", ["x"]], ["equals", "B", ["y"]]]


def test_keywords_are_looked_for_anywhere():
    node = compile_rule(
        text("keywords: ['*rm -rf*', 'a*b']\ncondition: keywords", source="product: linux, service: auditd"), "p"
    )["predicate"]
    assert node == ["any", ["keyword", "", ["rm -rf"]], ["keyword", "", ["a*b"]]]


def test_the_header_is_kept_and_hunting_is_told_by_the_folder():
    compiled = compile_rule(text("selection: {A: x}\ncondition: selection"), "rules-threat-hunting/windows/x.yml")
    assert {name: compiled[name] for name in ("id", "author", "licence", "level", "is_hunting")} == {
        "id": IDENTITY,
        "author": "A. Author",
        "licence": "DRL-1.1",
        "level": "high",
        "is_hunting": True,
    }
    assert compiled["tags"] == ["attack.execution", "attack.t1059"]


def test_event_codes_are_lifted_into_the_selector():
    compiled = compile_rule(
        text(
            "selection: {EventID: [4698, 4702], TaskName: x}\ncondition: selection",
            source="product: windows, service: security",
        ),
        "p",
    )
    assert compiled["selector"]["event_codes"] == [4698, 4702]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (text("selection: {A|expand: '%admins%'}\ncondition: selection"), "placeholder"),
        (text("selection: {A|re: '(?=x)'}\ncondition: selection"), "unparsable"),
        (text("selection: {A|re: '(((x{100}){10}){100}){10}'}\ncondition: selection"), "unparsable"),
        (text("selection: {A|hour: 5}\ncondition: selection"), "unsupported_timestamp"),
        (text("selection: {A|fieldref|contains: B}\ncondition: selection"), "unsupported_value"),
        (text("selection: {A: x}\ncondition: other"), "unparsable"),
        (text("selection: {A: x}\ncondition: 1 of nothing_*"), "unparsable"),
        (text("selection: {A: x}\ncondition: selection | count() > 5"), "unparsable"),
        (text("selection: {A: x}\ncondition: selection", status="deprecated"), "status"),
        (text("selection: {A: x}\ncondition: selection", source="product: okta, service: okta"), "log_source"),
        ("correlation: {type: event_count}\ntitle: x\n", "correlation"),
        ("a: [", "unparsable"),
        ("just text", "unparsable"),
        ("[1, 2]", "unparsable"),
        (text("selection: {A: x}\ncondition: 5"), "unparsable"),
        (text("selection: 5\ncondition: [[x]]"), "unparsable"),
        ("title: x\nlogsource: 5\ndetection: 7", "unparsable"),
        ("", "unparsable"),
    ],
)
def test_what_cannot_be_carried_over_is_refused_with_its_reason(rule, reason):
    with pytest.raises(RuleError) as caught:
        compile_rule(rule, "rules/x.yml")
    assert caught.value.context["reason"] == reason


def workspace_with(tmp_path, rows):
    raw = tmp_path / "data" / "raw"
    (raw / "sigma-rules").mkdir(parents=True)
    with gzip.open(raw / "sigma-rules" / "rules.ndjson.gz", "wt", encoding="utf-8") as lines:
        for path, rule in rows:
            lines.write(json.dumps({"path": path, "yaml": rule}) + "\n")
    return Workspace(tmp_path)


def rows():
    good = text("selection: {CommandLine|contains: sekurlsa}\ncondition: selection")
    same = text("selection: {CommandLine|contains: other}\ncondition: selection")
    okta = text("selection: {A: x}\ncondition: selection", source="product: okta", identity=IDENTITY[:-1] + "0")
    return [("rules/b.yml", same), ("rules/a.yml", good), ("rules/c.yml", okta)]


def test_rules_are_ordered_by_path_and_each_refusal_is_listed(tmp_path):
    workspace = workspace_with(tmp_path, rows())
    seen = []
    kept, refused = compile_rules(
        workspace.raw / "sigma-rules" / "rules.ndjson.gz", RulesParams(), lambda *step: seen.append(step)
    )
    assert [rule["path"] for rule in kept] == ["rules/a.yml"]
    assert [(entry["path"], entry["reason"]) for entry in refused] == [
        ("rules/b.yml", "duplicate_id"),
        ("rules/c.yml", "log_source"),
    ]
    assert seen == [("rules", 0, 3)]


@pytest.mark.parametrize(
    "content", [b"", b"not gzip", gzip.compress(b"{}\n", mtime=0), gzip.compress(b"[1]\n", mtime=0)]
)
def test_a_damaged_rule_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "rules.ndjson.gz"
    path.write_bytes(content)
    if content == b"":
        assert compile_rules(path, RulesParams()) == ([], [])
        return
    with pytest.raises(RuleError, match="cannot be read"):
        compile_rules(path, RulesParams())


@pytest.fixture
def small_stage(tmp_path, monkeypatch):
    workspace = workspace_with(tmp_path, rows())
    monkeypatch.setattr("eguard.mlops.rules.ordinary_command_lines", lambda _: ["ipconfig /all"])
    monkeypatch.setattr("eguard.mlops.rules.collect_indicators", lambda _: [])
    return workspace


def test_the_stage_writes_what_endpoints_read(small_stage):
    report = run(RulesParams(census=False), seed=1, workspace=small_stage)
    artefact = read_json(small_stage.interim / "rules.json")
    assert len(RuleSet.from_json(artefact)) == report["rules"] == 1
    assert (artefact["licence"], artefact["licence_text"]) == (
        "DRL-1.1",
        "https://github.com/SigmaHQ/Detection-Rule-License",
    )
    assert CommandLinePrefilter.from_json(artefact).signatures("SEKURLSA::") == ("sekurlsa",)
    assert len(IndicatorSet.from_json(read_json(small_stage.interim / "indicators.json"))) == 0
    assert report["refused_by_reason"] == {"duplicate_id": 1, "log_source": 1}
    assert read_json(small_stage.reports / "rules.json") == report


def test_the_stage_writes_the_same_bytes_whatever_the_order_of_its_input(small_stage, tmp_path):
    run(RulesParams(census=False), seed=1, workspace=small_stage)
    first = (small_stage.interim / "rules.json").read_bytes()
    source = small_stage.raw / "sigma-rules" / "rules.ndjson.gz"
    lines = gzip.decompress(source.read_bytes()).splitlines(keepends=True)
    source.write_bytes(gzip.compress(b"".join(reversed(lines))))
    run(RulesParams(census=False), seed=2, workspace=small_stage)
    assert (small_stage.interim / "rules.json").read_bytes() == first


@pytest.mark.parametrize(
    "changes", [{"unknown": 1}, {"prefilter_min_characters": 2}, {"prefilter_max_background_fraction": 1.5}]
)
def test_parameters_out_of_range_are_refused(changes):
    with pytest.raises(ValidationError):
        RulesParams(**changes)
