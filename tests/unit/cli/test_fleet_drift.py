"""The runbook's commands: what they ask the server for, and what people are shown."""

import json

import pytest
from typer.testing import CliRunner

from eguard.cli import fleet_drift
from eguard.cli.app import app

COMPARISON = {
    "js_mean": 0.001,
    "js_mean_bias": 0.0002,
    "js_max": 0.004,
    "js_max_key": "curl:bash\x1b[2J",
    "common_keys": 9,
    "new_key_count": 1,
    "vanished_key_count": 0,
}
ALARM = {
    "generation": 7,
    "series": "fleet",
    "compared_with": "reference",
    "kind": "cusum",
    "value": 8.5,
    "threshold": 8.0,
}
HEALTH = {
    "generation": 7,
    "reference_generation": 1,
    "comparisons": [
        {**COMPARISON, "generation": 7, "compared_with": "previous", "other_generation": 6, "js_mean": None},
        {**COMPARISON, "generation": 7, "compared_with": "reference", "other_generation": 1},
    ],
    "drift": {
        "fleet_drift": True,
        "by": ["cusum"],
        "charts": {
            "reference": {
                "cycles": 6,
                "is_learning": True,
                "cusum": 8.5,
                "cusum_threshold": 8.0,
                "rank_mean": 0.5,
                "adwin_width": 0,
            },
            "previous": {"adwin_mean_nats": 0.001, "adwin_width": 6},
        },
        "latest_alarms": [
            {**ALARM, "resolution": None, "resolved_by": None},
            {**ALARM, "kind": "js_level", "resolution": "organic", "resolved_by": "ada"},
        ],
    },
}
EXPLAINED = {
    "generation": 7,
    "reference_generation": 1,
    "keys": [{"process_key": "curl:bash", "agent_count": 5, "js_excess_nats": 0.01, "total_variation": 0.1}],
    "moved_keys": 1,
    "common_keys": 9,
    "influence": {"left_out": [{"agents": 1, "undone": 0.05}, {"agents": 4, "undone": 0.9}]},
    "agents": [
        {
            "agent_id": "web-07",
            "in_group": True,
            "score": 3.2,
            "undone_alone": 0.05,
            "keys": 1,
            "token": "",
            "group": "web",
            "subnet": "192.0.2.0/24",
            "alerts": 0,
        }
    ],
    "evidence": [
        {"name": "same group", "measured": "4 of 4", "p_value": 0.0001, "points": "organic", "cannot_tell": "Much."}
    ],
    "evidence_points": {"organic": 1, "adversarial": 0, "neither": 0},
}


@pytest.fixture
def server(monkeypatch):
    """What the server was asked, and what it answers."""
    asked = []
    answers = {
        "/endpoint/fleet/health": HEALTH,
        "/endpoint/fleet/explain": EXPLAINED,
        "/endpoint/fleet/freeze": {"frozen": ["new"]},
        "/endpoint/fleet/resume": {"resumed": []},
        "/endpoint/fleet/quarantine": {"quarantined": ["a", "b"], "resolved_alarms": ["x"]},
    }
    monkeypatch.setattr(fleet_drift, "_get", lambda path, **query: asked.append((path, query)) or answers[path])
    monkeypatch.setattr(fleet_drift, "_post", lambda path, body: asked.append((path, body)) or answers[path])
    return asked


def run(*arguments):
    done = CliRunner().invoke(app, ["fleet", *arguments], env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == 0, done.output
    return done.output


def test_health_shows_detectors_alarms_and_a_trend(server):
    shown = run("health", "--limit", "2")
    assert server == [("/endpoint/fleet/health", {"limit": 2})]
    assert "fleet drift           cusum" in shown
    assert "8.50 of 8 (learning: 6 cycles)" in shown
    assert "OPEN" in shown
    assert "organic (ada)" in shown
    assert "\x1b[2J" not in shown
    assert json.loads(run("health", "--json")) == HEALTH


def test_health_can_be_drawn(server, tmp_path):
    run("health", "--plot", str(tmp_path / "drift.png"))
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")


def test_explain_shows_keys_agents_groups_and_evidence(server):
    shown = run("explain", "curl:bash", "--generation", "7")
    assert server == [("/endpoint/fleet/explain", {"key": "curl:bash", "limit": 20, "generation": 7})]
    for words in ("web-07", "+5.0%", "90%", "0.0001", "Much.", "1 lines point at an organic change, 0 at liars"):
        assert words in shown
    assert json.loads(run("explain", "--json")) == EXPLAINED


def test_explain_without_voters_shows_the_keys_alone(server, monkeypatch):
    nobody = EXPLAINED | {"influence": None, "agents": [], "evidence": []}
    monkeypatch.setattr(fleet_drift, "_get", lambda *_, **__: nobody)
    assert "curl:bash" in run("explain")


def test_rollouts_are_held_and_let_go(server):
    assert "frozen: new" in run("freeze", "--reason", "why", "--policy", "p")
    assert "nothing was frozen" in run("resume", "--reason", "why")
    assert server == [
        ("/endpoint/fleet/freeze", {"reason": "why", "policy_id": "p"}),
        ("/endpoint/fleet/resume", {"reason": "why"}),
    ]


def test_several_agents_are_quarantined_at_once(server):
    shown = run("quarantine", "a", "b", "--reason", "why", "--resolve")
    assert server[0][1] == {"agent_ids": ["a", "b"], "reason": "why", "resolve_alarms": True}
    assert "a, b" in shown
