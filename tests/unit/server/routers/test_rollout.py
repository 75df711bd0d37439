"""Routes of rollouts: forward, held, stopped, back."""

import json

import pytest

BASE = "/api/v1/endpoint"
SHARES = {"baseline_upload_canary_percent": 0, "fleet_seed_canary_percent": 0}


def post(client, path, **body):
    return client.post(f"{BASE}{path}", content=json.dumps(body), headers={"Content-Type": "application/json"})


@pytest.fixture
def rollout(admin):
    post(admin, "/policy", policy_id="mlops-rollout", policy_version="v1", policy_json=SHARES)
    post(admin, "/policy/assign", group="web", policy_id="mlops-rollout")


@pytest.mark.usefixtures("rollout")
def test_a_step_is_refused_with_every_cause_and_forced_with_a_reason(admin, analyst):
    refused = post(admin, "/policy/advance", policy_id="mlops-rollout")
    assert (refused.status_code, refused.json()["code"]) == (409, "rollout_refused")
    assert {"dwell", "agents_inside_budget", "alert_queue"} == {each["field"] for each in refused.json()["errors"]}
    assert post(admin, "/policy/advance", policy_id="mlops-rollout", force=True).status_code == 422
    forced = post(admin, "/policy/advance", policy_id="mlops-rollout", force=True, reason="a drill").json()
    assert (forced["from_percent"], forced["stage_percent"], forced["agents"]) == (0.0, 1.0, 2)
    status = analyst.get(f"{BASE}/rollout/status", params={"policy_id": "mlops-rollout"}).json()["rollouts"][0]
    assert (status["stage_percent"], status["next_percent"], status["may_advance"]) == (1.0, 5.0, False)
    assert [check["name"] for check in status["checks"]] == [
        "uploads_inside_cohort",
        "seeds_inside_cohort",
        "agents_inside_budget",
        "alert_queue",
    ]


@pytest.mark.usefixtures("rollout")
def test_freeze_and_resume_for_the_fleet_and_for_one(admin):
    assert post(admin, "/fleet/freeze").status_code == 422  # no reason
    assert post(admin, "/fleet/freeze", reason="").status_code == 422
    assert post(admin, "/fleet/freeze", reason="drift").json() == {"frozen": ["mlops-rollout"]}
    refused = post(admin, "/policy/advance", policy_id="mlops-rollout")
    assert refused.json()["errors"][0] == {"field": "frozen", "detail": "the rollout is frozen: drift"}
    assert post(admin, "/fleet/resume", reason="organic", policy_id="mlops-rollout").json() == {
        "resumed": ["mlops-rollout"]
    }


@pytest.mark.usefixtures("rollout")
def test_kill_then_roll_back(admin, context):
    assert context.policies.controls_for("a1").upload_enabled
    killed = post(admin, "/policy/kill", reason="poison").json()
    assert {each["policy_id"] for each in killed["revisions"]} == {"default", "mlops-rollout"}
    assert not context.policies.controls_for("a1").upload_enabled
    back = post(admin, "/policy/rollback", policy_id="mlops-rollout", reason="poison").json()
    assert [step["step"] for step in back["steps"]] == [1, 2, 3, 4, 5]
    assert context.policies.payload_for("a1").policy_id == "default"


def test_what_is_unknown_is_404_and_the_status_is_for_analysts(admin, analyst, nobody):
    for path, body in (
        ("/policy/advance", {"policy_id": "gone"}),
        ("/policy/rollback", {"policy_id": "gone", "reason": "x"}),
        ("/policy/kill", {"policy_id": "gone", "reason": "x"}),
    ):
        assert post(admin, path, **body).json()["code"] == "unknown_policy"
    assert analyst.get(f"{BASE}/rollout/status", params={"policy_id": "gone"}).status_code == 404
    assert analyst.get(f"{BASE}/rollout/status").json()["rollouts"] == []
    assert nobody.get(f"{BASE}/rollout/status").status_code == 401
