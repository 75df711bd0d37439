"""Routes of policies: the manual's bodies as printed, who may call them, and what a bad body is told."""

import json

from eguard.policy import open_policy
from eguard.wire.bodies import decode_body
from eguard.wire.policy import SignedPolicy

BASE = "/api/v1/endpoint"
#: Sections 12.1 to 12.3 of the operations manual, as printed there.
MANUAL_12_1 = """{
  "policy_id": "mlops-rollout",
  "policy_version": "v1",
  "policy_json": {
    "baseline_upload_enabled": true,
    "fleet_seed_enabled": true,
    "baseline_upload_canary_percent": 5,
    "fleet_seed_canary_percent": 5,
    "baseline_mode": "learning"
  }
}"""
MANUAL_12_2 = """{
  "agent_id": "agent-31bbb93f38b4",
  "policy_id": "mlops-rollout",
  "policy_version": "v1"
}"""
MANUAL_12_3 = """{
  "policy_id": "mlops-killswitch",
  "policy_version": "v1",
  "policy_json": {
    "baseline_upload_enabled": false,
    "fleet_seed_enabled": false
  }
}"""


def post(client, path, body):
    content = body if isinstance(body, str) else json.dumps(body)
    return client.post(f"{BASE}{path}", content=content, headers={"Content-Type": "application/json"})


def opened(context, answer, agent_id="a1"):
    trusted = {key.key_id: key.public_key for key in context.policies.trusted_keys()}
    return open_policy(
        decode_body(answer.content, SignedPolicy, 1 << 20), trusted, agent_id=agent_id, minimum_revision=0
    )


def test_the_manuals_templates_work_as_printed(context, admin, caller):
    created = post(admin, "/policy", MANUAL_12_1)
    assert created.status_code == 201
    assert created.json()["policy_json"] == json.loads(MANUAL_12_1)["policy_json"]
    # The template names one agent; here it is one that is enrolled.
    assigned = post(admin, "/policy/assign", MANUAL_12_2.replace("agent-31bbb93f38b4", "a1"))
    assert (assigned.status_code, assigned.json()["changed"]) == (200, True)
    payload = opened(context, caller(agent="a1").get(f"{BASE}/policy"))
    assert payload.policy == json.loads(MANUAL_12_1)["policy_json"]
    assert payload.revision == assigned.json()["revision"]

    assert post(admin, "/policy", MANUAL_12_3).status_code == 201
    killed = post(admin, "/policy/assign", {"agent_id": "a1", "policy_id": "mlops-killswitch", "policy_version": "v1"})
    assert killed.status_code == 200
    assert opened(context, caller(agent="a1").get(f"{BASE}/policy")).policy == json.loads(MANUAL_12_3)["policy_json"]
    unknown = post(admin, "/policy/assign", MANUAL_12_2)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_agent")


def test_the_same_again_is_200(admin):
    assert post(admin, "/policy", MANUAL_12_1).status_code == 201
    again = post(admin, "/policy", MANUAL_12_1)
    assert (again.status_code, again.json()["changed"]) == (200, False)


BAD_FIELDS = [
    ("baseline_upload_canary_percent", "5"),
    ("baseline_upload_canary_percent", 101),
    ("fleet_seed_canary_percent", 0.001),
    ("baseline_upload_enabled", "true"),
    ("baseline_mode", "forget"),
    ("rollout_id", ""),
    ("colour", "red"),
]


def test_a_bad_field_is_422_by_name(admin):
    for field, value in BAD_FIELDS:
        body = json.loads(MANUAL_12_1)
        body["policy_json"][field] = value
        answer = post(admin, "/policy", body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_policy")
        assert [each["field"] for each in answer.json()["errors"]] == [field]


BAD_BODIES = [
    "",
    "{}",
    "[]",
    MANUAL_12_1.replace("5,", "NaN,"),
    MANUAL_12_1.replace('"v1"', "1"),
    MANUAL_12_1.replace("mlops-rollout", "x" * 65),
    MANUAL_12_1.replace("mlops-rollout", "é" * 40),
    MANUAL_12_1.replace("mlops-rollout", "a\\u0000b"),
    MANUAL_12_1.replace('"policy_json"', '"policy"'),
    MANUAL_12_1.replace('"policy_version"', '"note": 1, "policy_version"'),
    MANUAL_12_1.replace("{\n    ", '"text"{', 1),
    '{"policy_id": "p", "policy_version": "v", "policy_json": [1]}',
]


def test_a_bad_body_is_refused_in_the_one_form(admin):
    for body in BAD_BODIES:
        answer = post(admin, "/policy", body)
        assert 400 <= answer.status_code < 500
        assert set(answer.json()) == {"message", "code", "status", "errors"}
        assert answer.json()["status"] == answer.status_code


def test_an_unknown_field_beside_the_policy_is_named(admin):
    answer = post(admin, "/policy", MANUAL_12_1.replace('"policy_version"', '"note": 1, "policy_version"'))
    assert answer.status_code == 422
    assert "note" in answer.json()["message"]


CHANGES = [
    "/policy",
    "/policy/assign",
    "/policy/withdraw",
    "/policy/preview",
    "/policy/reissue",
    "/policy/rotate-key",
    "/policy/advance",
    "/policy/rollback",
    "/policy/kill",
    "/fleet/freeze",
    "/fleet/resume",
]


def test_only_an_admin_changes_policies(analyst, a1, nobody):
    for path in CHANGES:
        assert post(nobody, path, {}).status_code == 401
        assert post(analyst, path, {}).status_code == 403
        assert post(a1, path, {}).status_code == 404  # the agents' port has no such route


def test_an_agent_gets_its_own_policy_only(a1, context):
    own = a1.get(f"{BASE}/policy", params={"agent_id": "a1"})
    assert opened(context, own).agent_id == "a1"
    other = a1.get(f"{BASE}/policy", params={"agent_id": "a2"})
    assert (other.status_code, other.json()["code"]) == (403, "identity_mismatch")
    # What an admin may ask for is not for agents.
    assert opened(context, a1.get(f"{BASE}/policy", params={"policy_id": "default"})).agent_id == "a1"


def test_without_news_there_is_no_content(a1, context):
    revision = context.policies.revision_for("a1")
    assert a1.get(f"{BASE}/policy", params={"revision": revision - 1}).status_code == 200
    answer = a1.get(f"{BASE}/policy", params={"revision": revision})
    assert (answer.status_code, answer.content) == (204, b"")
    assert a1.get(f"{BASE}/policy", params={"revision": revision, "wait": 0.1}).status_code == 204


def test_a_wait_or_revision_out_of_range_is_422(a1):
    for query in [
        {"wait": "61"},
        {"wait": "-1"},
        {"wait": "nan"},
        {"wait": "inf"},
        {"revision": "x"},
        {"revision": str(2**70)},
    ]:
        assert a1.get(f"{BASE}/policy", params=query).status_code == 422


def test_an_admin_sees_one_policy_one_agent_or_all(admin, analyst):
    post(admin, "/policy", MANUAL_12_1)
    one = admin.get(f"{BASE}/policy", params={"policy_id": "mlops-rollout"}).json()
    assert (one["policy_version"], len(one["history"])) == ("v1", 1)
    agent = admin.get(f"{BASE}/policy", params={"agent_id": "a1"}).json()
    assert (agent["source"], agent["policy_id"], agent["controls"]["upload_enabled"]) == ("default", "default", True)
    everything = admin.get(f"{BASE}/policy").json()
    assert {each["policy_id"] for each in everything["policies"]} == {"default", "mlops-rollout"}
    assert everything["agents"] == {"default": 2}
    assert admin.get(f"{BASE}/policy", params={"policy_id": "gone"}).status_code == 404
    assert admin.get(f"{BASE}/policy", params={"agent_id": "gone"}).status_code == 404
    assert analyst.get(f"{BASE}/policy").status_code == 403


def test_a_group_is_given_a_policy_and_loses_it(admin):
    post(admin, "/policy", MANUAL_12_1)
    given = post(admin, "/policy/assign", {"group": "web", "policy_id": "mlops-rollout"}).json()
    assert (given["scope"], given["agents"], given["policy_version"]) == ("group", 2, None)
    taken = post(admin, "/policy/withdraw", {"group": "web", "reason": "done"}).json()
    assert taken["revision"] > given["revision"]
    assert post(admin, "/policy/withdraw", {"group": "web"}).json()["code"] == "not_assigned"
    for body in ({"policy_id": "mlops-rollout"}, {"policy_id": "mlops-rollout", "agent_id": "a1", "group": "web"}):
        assert post(admin, "/policy/assign", body).status_code == 422


def test_a_preview_counts_and_changes_nothing(admin, context):
    before = context.policies.overview()
    seen = post(admin, "/policy/preview", {"percent": 100}).json()
    assert (seen["agents"], seen["cohort_size"], sorted(seen["cohort"])) == (2, 2, ["a1", "a2"])
    document = {"baseline_upload_canary_percent": 0, "fleet_seed_enabled": False}
    assert post(admin, "/policy/preview", {"policy_json": document, "rollout_id": "r"}).json()["cohort_size"] == 0
    for body in ({}, {"percent": 5, "policy_json": {}}, {"percent": 101}, {"percent": "5"}, {"policy_json": {"x": 1}}):
        assert post(admin, "/policy/preview", body).status_code == 422
    assert context.policies.overview() == before


def test_reissue_and_rotation(admin, context):
    before = context.policies.revision_for("a1")
    assert post(admin, "/policy/reissue", {"reason": "restored"}).json()["revision"] > before
    rotated = post(admin, "/policy/rotate-key", {}).json()
    assert [key.key_id for key in context.policies.trusted_keys()][1] == rotated["key_id"]
    assert post(admin, "/policy/rotate-key", {}).json()["code"] == "rotation_pending"
