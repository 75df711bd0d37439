"""`eguard fleet signals`: the ten signals in a line each, and what fires with what to do."""

import json

import pytest
from typer.testing import CliRunner

from eguard.cli import fleet_signals
from eguard.cli.app import app

RULE = {"severity": "critical", "numbers": {}, "why": "", "looked_at_unix": 1_772_000_060.0}
SUMMARY = {
    "range": "24h",
    "baseline_upload": {"rows_accepted": 120, "rows_per_minute": 0.08333333, "rejected": 0, "agents_uploading": 3},
    "fleet_seed": {"rows_fetched": 9, "rows_applied": 4, "keys_asked": 8, "keys_applied": 4, "hit_rate": 0.5},
    "aggregation": {"runs": {"success": 4}, "latest": None},
    "baseline_state": {"learning": 2, "active": 1},
    "safety": {"actions": {}, "rollouts": [{"rollout_id": "r"}], "frozen_rollouts": ["r"], "changes": []},
    "js_divergence": [{"generation": 4, "js_mean_nats": 0.01}, {"generation": 3, "js_mean_nats": 0.5}],
    "adwin_alarms": {"count": 0, "by_kind": {}},
    "conformal_p_values": {"count": 0, "histogram": [0] * 10},
    "high_mi_destinations": None,
    "process_trees": None,
    "alerts": [
        {**RULE, "rule": "safety", "state": "ok", "value": 0, "bound": 0, "since_unix": 1_772_000_000.0, "title": "t"},
        {**RULE, "rule": "js_trend", "state": "unknown", "value": None, "bound": 0.1, "since_unix": None, "title": "t"},
        {
            **RULE,
            "rule": "aggregation",
            "state": "alert",
            "value": 2,
            "bound": 2,
            "since_unix": 1_772_000_000.0,
            "title": "Aggregations fail",
            "remedy": "See why.\x1b[31m",
        },
    ],
}
for each in SUMMARY["alerts"]:
    each.setdefault("remedy", "r")


@pytest.fixture
def asked(monkeypatch):
    asked = []
    monkeypatch.setattr(fleet_signals, "get", lambda path, **query: asked.append((path, query)) or SUMMARY)
    monkeypatch.setenv("COLUMNS", "220")
    return asked


def test_ten_signals_and_what_fires_are_shown(asked):
    shown = CliRunner().invoke(app, ["fleet", "signals", "--range", "7d"])
    assert shown.exit_code == 0, shown.output
    assert asked == [("/endpoint/ml-ops/summary", {"range": "7d"})]
    for text in ("1 upload throughput", "rows_accepted 120", "hit_rate 0.5", "10 process trees", "not measured"):
        assert text in shown.output
    assert "js_mean_nats 0.01" in shown.output
    assert "Aggregations fail. See why." in shown.output
    assert "\x1b[31m" not in shown.output
    table = shown.output.partition("Alert rules")[2]
    assert table.index("aggregation") < table.index("js_trend") < table.index("safety")  # what fires comes first


def test_the_whole_answer_is_there_as_json(asked):
    shown = CliRunner().invoke(app, ["fleet", "signals", "--json"])
    assert json.loads(shown.output) == SUMMARY
    assert asked == [("/endpoint/ml-ops/summary", {"range": "24h"})]


def test_of_scores_the_latest_check_is_shown(asked, monkeypatch):
    health = {
        "status": "checked",
        "p_value": 2.5e-5,
        "flagged_fraction": 0.03,
        "martingale_log10": 4.0,
        "facts": {"x": 1},
    }
    summary = {**SUMMARY, "calibration": {"health": health, "thresholds": {}}}
    monkeypatch.setattr(fleet_signals, "get", lambda *_, **__: summary)
    shown = CliRunner().invoke(app, ["fleet", "signals"]).output
    assert "status checked, p_value 2.5e-05, flagged_fraction 0.03, martingale_log10 4" in shown
