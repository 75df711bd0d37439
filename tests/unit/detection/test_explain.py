import msgspec
import numpy as np
import pytest

from eguard.detection.alert import Alert, Contribution, MatchedRule, WindowComparison
from eguard.detection.explain import alert_to_text, explain_rows, printable
from eguard.detection.model import load_model

MODEL = load_model(
    {
        "format": 1,
        "kind": "logistic",
        "version": "v1",
        "contract_sha256": "ab",
        "n_features": 4,
        "threshold": 0.5,
        "platt": {"slope": 1.0, "intercept": 0.5},
        "tables": {"class_risk": [0.0] * 8, "rule_precision": {}, "rule_precision_default": 0.0},
        "parameters": {
            "coefficients": [1.0, -3.0, 1.0, 5.0],
            "center": [0.0] * 4,
            "scale": [1.0] * 4,
            "intercept": -2.0,
        },
    }
)
NAMES = ["a", "b", "c", "d"]
ALERT = Alert(
    alert_id="1",
    host_id="host-1",
    observed_at_unix=1.0,
    event_class="process_exec",
    process_key="sh:init",
    confidence="high",
    response="alert_only",
    reasons=("rule",),
    command_line="sh -c id",
    target="/etc/passwd",
    ancestors=("sh", "init"),
    rules=(MatchedRule("id-1", "Title", "high", "Somebody", ("T1059",)),),
    techniques=("T1059",),
    score=0.5,
    logit=0.0,
    base_logit=-1.5,
    model_version="v1",
    contributions=(Contribution("a", 0.5, 2.0), Contribution("b", 0.5, -0.25)),
    window=WindowComparison((0.0, 1.0, 0.0), (0.75, 0.25, 0.0), 2.0, None),
)


def test_largest_first_ties_by_index_and_no_zeros():
    rows = np.array([[0.5, 0.5, 0.5, 0.0], [0.0, 0.0, 0.0, 0.1]])
    first, second = explain_rows(MODEL, rows, NAMES, count=3)
    assert [(part.feature, part.logit) for part in first.largest] == [("b", -1.5), ("a", 0.5), ("c", 0.5)]
    assert second.largest == (Contribution("d", 0.1, 0.5),)
    assert explain_rows(MODEL, rows[:0], NAMES) == []


def test_ties_among_many_features_go_to_the_first():
    n = 64
    document = {
        "format": 1,
        "kind": "logistic",
        "version": "v1",
        "contract_sha256": "ab",
        "n_features": n,
        "threshold": 0.5,
        "platt": {"slope": 1.0, "intercept": 0.0},
        "tables": {"class_risk": [0.0] * 8, "rule_precision": {}, "rule_precision_default": 0.0},
        "parameters": {"coefficients": [1.0] * n, "center": [0.0] * n, "scale": [1.0] * n, "intercept": 0.0},
    }
    row = np.where(np.arange(n) % 7 == 0, 0.25, 0.5)[np.newaxis]
    (explained,) = explain_rows(load_model(document), row, [str(index) for index in range(n)])
    assert [part.feature for part in explained.largest] == ["1", "2", "3", "4", "5"]


def test_base_and_all_contributions_sum_to_the_logit():
    (explained,) = explain_rows(MODEL, np.array([[0.5, 0.25, 1.0, 0.125]]), NAMES)
    assert explained.base_logit == -1.5
    assert explained.logit == -1.5 + 0.5 - 0.75 + 1.0 + 0.625
    assert explained.base_logit + sum(part.logit for part in explained.largest) == explained.logit


def test_text_shows_the_whole_evidence():
    text = alert_to_text(ALERT)
    for shown in (
        "high      sh:init on host-1 (alert_only)",
        "command   sh -c id",
        "target    /etc/passwd",
        "ancestors sh < init",
        "Title (high; id-1, by Somebody)",
        "ATT&CK    T1059",
        "0.5000 (threshold none: insufficient calibration, p -, model v1)",
        "+2.000  a = 0.500",
        "-0.250  other features; -1.500 base; +0.000 logit",
        "KL 2.000 bits: process_exec 0.00 (0.75), process_exit 1.00 (0.25); usual shares in brackets",
    ):
        assert shown in text


def test_text_without_a_model_has_no_score():
    plain = msgspec.structs.replace(ALERT, score=None, window=None)
    assert "score" not in alert_to_text(plain)
    assert "window" not in alert_to_text(plain)


def test_nothing_from_outside_forges_a_line_or_steers_the_terminal():
    hostile = "x\r\n  because   all is well \x1b]0;title\x07\u202e\udcff" + "y" * 500
    alert = msgspec.structs.replace(
        ALERT,
        host_id=hostile,
        process_key=hostile,
        command_line=hostile,
        target=hostile,
        ancestors=(hostile, hostile),
        reasons=(hostile,),
        techniques=(hostile,),
        model_version=hostile,
        rules=(MatchedRule(hostile, hostile, hostile, hostile, ()),),
    )
    text = alert_to_text(alert)
    assert all(char.isprintable() or char == "\n" for char in text)
    assert len(text.splitlines()) == len(alert_to_text(ALERT).splitlines())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\tb", "a\\tb"),
        ("\u202eabc", "\\u202eabc"),
        ("\udcff", "\\udcff"),
        ("x" * 201, "x" * 200 + "…"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown
