"""What goes over: exactly what the layers read, and back without loss."""

import json

import numpy as np
import pytest

from eguard.agent.shards.columns import PartEncoder, load_request, read_content, read_part, texts_read_by
from eguard.agent.shards.messages import decode_request
from eguard.detection.indicator_list import make_indicator
from eguard.detection.indicators import IndicatorSet
from eguard.detection.layers import DetectionContent
from eguard.detection.prefilter import CommandLinePrefilter
from eguard.detection.rules import RuleSet
from eguard.errors import RuleError
from eguard.events import Event, EventBatch

RULE = {
    "id": "r",
    "title": "t",
    "level": "high",
    "status": "test",
    "author": "x",
    "path": "r.yml",
    "licence": "DRL-1.1",
    "tags": [],
    "selector": {"product": "", "category": "", "service": "", "event_codes": []},
    "predicate": ["any", ["endswith", "Image", ["x.exe"]], ["equals", "Odd", ["yes", "n\udc80"]]],
}
RULES = RuleSet.from_json({"format": 1, "rules": [RULE]})
INDICATORS = IndicatorSet([make_indicator("198.51.100.7", source="feed"), make_indicator("evil.example", source="f")])
PREFILTER = CommandLinePrefilter({"bad": 1})
FULL = DetectionContent(INDICATORS, RULES, PREFILTER)
SLOTS = np.array([3, -1, 5, 3], dtype=np.intp)


def batch(**changes):
    columns = {
        "time_unix": [1.5, 2.5, 3.5, 3.0],
        "event_class": [0, 3, 4, -1],
        "event_code": [1, 0, 0, 7],
        "destination_port": [0, 443, 53, 0],
        "sent_bytes": [1, 20, 300, 0],
        "received_bytes": [4, 50, 0, 0],
        "host_id": ["h"] * 4,
        "comm": ["x.exe", "a", "b", "x.exe"],
        "command_line": ["bad bad", "", "good", "BAD"],
        "destination_address": ["", "198.51.100.7", "", ""],
        "target": ["", "", "c2.evil.example", ""],
        "user": ["root", "", "", ""],
        "fields": [None, None, {"Odd": "yes"}, None],
    }
    return EventBatch(**(columns | changes))


def sent(content, events, rows, **options):
    options = {"version": 1, "forgotten": [], "overdispersion": 2.0} | options
    encoded = PartEncoder(content).encode(events, SLOTS, np.array(rows, dtype=np.intp), **options)
    return decode_request(encoded)


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [0, 2], [3], [1, 2, 3]], ids=["all", "two", "one", "three"])
def test_a_part_goes_over_as_the_layers_read_it(rows):
    events = batch()
    request = sent(FULL, events, rows, version=7, forgotten=[2, 9])
    assert (request.version, request.forgotten, request.overdispersion, request.n_events) == (7, [2, 9], 2.0, len(rows))
    part, slots = read_part(request)
    assert slots.tolist() == SLOTS[rows].tolist()
    assert (part.sent_bytes + part.received_bytes).tolist() == [[5, 70, 300, 0][row] for row in rows]
    for name in ("time_unix", "event_class", "event_code", "destination_port"):
        assert getattr(part, name).tolist() == getattr(events, name)[rows].tolist()
    for name in (*texts_read_by(FULL), "fields"):
        assert getattr(part, name) == [getattr(events, name)[row] for row in rows]


@pytest.mark.parametrize(
    "content",
    [
        DetectionContent(),
        DetectionContent(indicators=INDICATORS),
        DetectionContent(rules=RULES),
        DetectionContent(prefilter=PREFILTER),
        FULL,
    ],
    ids=["nothing", "indicators", "rules", "prefilter", "everything"],
)
def test_a_shard_finds_in_its_columns_what_is_found_in_all_columns(content):
    # Every column of the events says something, so that one which is read and not sent would be missed.
    texts = {
        name: "x.exe" for name in Event.__struct_fields__ if isinstance(getattr(EventBatch(time_unix=[0]), name), list)
    }
    telling = batch(**{name: [text] * 4 for name, text in texts.items() if name not in {"fields", "command_line"}})
    for events in (batch(), telling):
        request = sent(content, events, [0, 1, 2, 3])
        hits = read_content(load_request(content, 1)).evaluate(read_part(request)[0])
        expected = content.evaluate(events)
        for name in ("has_indicator", "signature_count", "is_alert", "has_rule", "rules", "enrichment"):
            assert np.array_equal(getattr(hits, name), getattr(expected, name)), name


def test_content_that_reads_no_text_gets_none():
    request = sent(DetectionContent(), batch(), [0, 1])
    assert (request.texts, request.fields) == ({}, [])
    assert texts_read_by(DetectionContent(prefilter=PREFILTER)) == ("command_line",)


def test_a_column_of_one_value_goes_over_once():
    request = sent(FULL, batch(), [0, 1, 2])
    assert request.texts["host_id"] == ["h"]
    assert len(request.texts["comm"]) == 3


def test_names_that_are_no_unicode_go_over():
    events = batch(comm=["n\udc80", "a", "b", "c"], fields=[{"k\ud800": "v\udfff", "none": None}, None, None, None])
    part, _ = read_part(sent(FULL, events, [0, 1]))
    assert part.comm == ["n\udc80", "a"]
    assert part.host_id == ["h", "h"]
    assert part.fields == [{"k\ud800": "v\udfff", "none": None}, None]


def test_rules_without_a_file_are_refused_and_none_at_all_are_not():
    entries = list(zip(RULES.rules, RULES._selectors, RULES._predicates, strict=True))
    with pytest.raises(RuleError, match="rule file"):
        load_request(DetectionContent(rules=RuleSet(entries)), 1)
    assert len(read_content(load_request(DetectionContent(), 1)).rules) == 0


def test_content_arrives_whole():
    content = read_content(load_request(FULL, 1))
    assert content.rules.rules == RULES.rules
    assert content.indicators.indicators == INDICATORS.indicators
    assert content.prefilter.rules_by_text == PREFILTER.rules_by_text
    assert json.loads(load_request(FULL, 1).prefilter) == {"prefilter": {"bad": 1}}
