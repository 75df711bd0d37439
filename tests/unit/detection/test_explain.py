import json

import numpy as np
import pytest

from eguard.detection.alert import Alert, Contribution, MatchedRule, WindowComparison, alert_id
from eguard.detection.explain import alert_to_text, largest_contributions, printable
from eguard.detection.model import load_model

MODEL = load_model(
    {
        "format": 1,
        "kind": "logistic",
        "version": "v1",
        "contract_sha256": "ab",
        "n_features": 4,
        "threshold": 0.5,
        "platt": {"slope": 1.0, "intercept": 0.0},
        "tables": {"class_risk": [0.0] * 8, "rule_precision": {}, "rule_precision_default": 0.0},
        "parameters": {
            "coefficients": [1.0, -3.0, 1.0, 5.0],
            "center": [0.0] * 4,
            "scale": [1.0] * 4,
            "intercept": 0.0,
        },
    }
)


def test_largest_first_ties_by_index_and_no_zeros():
    rows = np.array([[0.5, 0.5, 0.5, 0.0], [0.0, 0.0, 0.0, 0.1]])
    first, second = largest_contributions(MODEL, rows, ["a", "b", "c", "d"], count=3)
    assert [(part.feature, part.logit) for part in first] == [("b", -1.5), ("a", 0.5), ("c", 0.5)]
    assert second == (Contribution("d", 0.1, 0.5),)
    assert largest_contributions(MODEL, rows[:0], ["a", "b", "c", "d"]) == []


def hostile_alert():
    return Alert(
        alert_id="1",
        host_id="h\x1b[2J",
        observed_at_unix=1.0,
        event_class="process_exec",
        process_key="a:b",
        confidence="HIGH",
        response="alert_only",
        reasons=("rule",),
        command_line="x\r\nfake line \x1b]0;title\x07" + "y" * 500,
        rules=(MatchedRule("id-1", "Title", "high", "Somebody", ("T1059",)),),
        techniques=("T1059",),
        ancestors=("a", "b\x00"),
        score=0.9,
        window=WindowComparison((1.0,), (1.0,), 0.25, None),
    )


def test_text_names_rule_author_and_is_safe_to_print():
    text = alert_to_text(hostile_alert())
    assert "id-1, Somebody" in text
    assert "insufficient calibration" in text
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "fake line" in next(line for line in text.splitlines() if line.startswith("  command"))


def test_json_holds_every_field_on_one_line():
    line = hostile_alert().to_json()
    assert b"\n" not in line
    assert json.loads(line)["rules"][0]["author"] == "Somebody"


@pytest.mark.parametrize(("text", "shown"), [("plain", "plain"), ("a\tb", "a\\tb"), ("\u202eabc", "\\u202eabc")])
def test_printable(text, shown):
    assert printable(text) == shown


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
    assert alert_id(*base) == alert_id(*base)
