import json

import msgspec
import pytest

from eguard.detection.alert import Alert, Contribution, MatchedRule, WindowComparison, alert_id

ALERT = Alert(
    alert_id="1",
    host_id="host-1",
    observed_at_unix=1.5,
    event_class="process_exec",
    process_key="sh:init",
    confidence="high",
    response="alert_only",
    reasons=("rule",),
    score=0.9,
    logit=2.2,
    base_logit=-1.0,
    p_value=0.01,
    threshold=0.8,
    model_version="v1",
    contributions=(Contribution("z1_ioc_hit", 1.0, 3.2),),
    ancestors=("sh", "init"),
    rules=(MatchedRule("id-1", "Title", "high", "Somebody", ("T1059",), (("Image", "/bin/sh"),)),),
    techniques=("T1059",),
    tactics=("execution",),
    window=WindowComparison((1.0,), (0.5,), 0.25, 0.2),
    command_line="sh -c id",
)


def test_json_holds_the_whole_evidence_on_one_line():
    line = ALERT.to_json()
    assert b"\n" not in line
    read = json.loads(line)
    assert set(read) == set(Alert.__struct_fields__)
    assert read["rules"][0] == {
        "rule_id": "id-1",
        "title": "Title",
        "level": "high",
        "author": "Somebody",
        "techniques": ["T1059"],
        "matched_fields": [["Image", "/bin/sh"]],
    }
    assert read["window"] == {"window": [1.0], "baseline": [0.5], "kl_bits": 0.25, "threshold_bits": 0.2}


def test_json_reads_back_to_the_same_alert():
    assert msgspec.json.decode(ALERT.to_json(), type=Alert) == ALERT


@pytest.mark.parametrize("name", ["a\udcffb", "\ud800", "x\r\n\x1b[2J\x00"])
def test_hostile_names_neither_stop_an_alert_nor_break_its_line(name):
    alert = msgspec.structs.replace(
        ALERT,
        command_line=name,
        ancestors=(name, "init"),
        rules=(MatchedRule("id", "t", "low", "a", (), (("CommandLine", name),)),),
    )
    line = alert.to_json()
    assert b"\n" not in line
    shown = name.encode("utf-8", "backslashreplace").decode()
    assert json.loads(line)["command_line"] == shown
    assert json.loads(line)["ancestors"] == [shown, "init"]


def test_alert_ids_depend_on_every_part_and_on_nothing_else():
    base = ("host", 1.5, "a:b", "rule", 0)
    variants = {
        base,
        ("host2", 1.5, "a:b", "rule", 0),
        ("host", 1.25, "a:b", "rule", 0),
        ("host", 1.5, "a:c", "rule", 0),
        ("host", 1.5, "a:b", "rule2", 0),
        ("host", 1.5, "a:b", "rule", 1),
        ("host", 1.5, "a:\udcff", "rule", 0),
    }
    assert len({alert_id(*parts) for parts in variants}) == len(variants)
    assert (
        alert_id(*base) == "b29deac58ec0d228ae6bfb9157248241"
    )  # stable across versions: the server removes doubles by it
    assert len(alert_id(*base)) == 32
