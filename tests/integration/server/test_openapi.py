"""The API's document: valid, complete, true to the table of the contracts, and the copy in the documentation is it."""

import json
from pathlib import Path

import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
from server_place import server_place

from eguard.server.app import describe_routes
from eguard.server.openapi import AUDIENCE

ROOT = Path(__file__).parents[3]
COPY = ROOT / "docs" / "reference" / "openapi.json"
API = "/api/v1"
#: What agents, consoles and scripts rely on: who may ask for what.
CONTRACT = {
    ("post", "/endpoint/enroll"): "machine with an enrolment token",
    ("post", "/endpoint/renew"): "agent",
    ("post", "/endpoint/heartbeat"): "agent",
    ("post", "/endpoint/inventory"): "agent",
    ("post", "/endpoint/telemetry"): "agent",
    ("post", "/endpoint/calibration"): "agent",
    ("post", "/endpoint/baseline/batch"): "agent",
    ("post", "/endpoint/baseline/aggregate"): "admin",
    ("get", "/endpoint/baseline/fleet"): "agent or analyst",
    ("post", "/endpoint/baseline/fleet/import"): "admin",
    ("post", "/endpoint/baseline/fleet/rollback"): "admin",
    ("get", "/endpoint/policy"): "agent or admin",
    ("post", "/endpoint/policy"): "admin",
    ("post", "/endpoint/policy/assign"): "admin",
    ("post", "/endpoint/policy/advance"): "admin",
    ("post", "/endpoint/fleet/freeze"): "admin",
    ("post", "/endpoint/fleet/resume"): "admin",
    ("post", "/endpoint/fleet/approve"): "admin",
    ("post", "/endpoint/fleet/quarantine"): "admin",
    ("post", "/endpoint/fleet/release"): "admin",
    ("get", "/endpoint/rollout/status"): "analyst",
    ("get", "/endpoint/fleet/health"): "analyst",
    ("get", "/endpoint/event"): "analyst",
    ("get", "/endpoint/inventory"): "analyst",
    ("post", "/endpoint/nac/isolate"): "admin",
    ("post", "/endpoint/nac/allow"): "admin",
    ("get", "/endpoint/nac/status"): "admin",
    ("get", "/endpoint/command/pending"): "agent",
    ("post", "/endpoint/command/ack"): "agent",
    ("get", "/endpoint/audit"): "analyst",
    ("get", "/endpoint/whitelist"): "analyst",
    ("post", "/endpoint/whitelist"): "admin",
    ("delete", "/endpoint/whitelist/{entry_id}"): "admin",
    ("post", "/endpoint/feedback"): "analyst",
    ("get", "/endpoint/threat-intel/version"): "agent",
    ("get", "/bundles/metadata/{name}"): "agent",
    ("get", "/bundles/targets/{name}"): "agent",
    ("get", "/endpoint/ml-ops/summary"): "analyst",
    ("get", "/endpoint/ml-ops/candidates"): "analyst",
    ("get", "/endpoint/ml-ops/candidates/{candidate_id}"): "analyst",
    ("post", "/endpoint/ml-ops/promote"): "admin",
    ("post", "/endpoint/ml-ops/rollback"): "admin",
    ("post", "/config/maintenance_task/{task_id}/run"): "admin",
    ("get", "/config/maintenance_tasks"): "admin",
}
SAFE = {"get", "head", "options"}


@pytest.fixture(scope="module")
def document():
    return json.loads(json.dumps(describe_routes().openapi()))


@pytest.fixture(scope="module")
def operations(document):
    return {(method, path): each for path, item in document["paths"].items() for method, each in item.items()}


def test_it_is_valid_openapi_3_1(document):
    assert document["openapi"].startswith("3.1")
    assert [error.message for error in OPENAPI_31_VALIDATOR.iter_errors(document)] == []


def test_the_validator_would_find_a_fault(document):
    broken = document | {"paths": {"/x": {"get": {"responses": {"two hundred": {}}}}}}
    assert list(OPENAPI_31_VALIDATOR.iter_errors(broken))


@pytest.mark.parametrize(("method", "path"), CONTRACT, ids=lambda value: value)
def test_every_route_of_the_contract_is_there_for_whom_it_says(operations, method, path):
    assert operations[method, API + path][AUDIENCE] == CONTRACT[method, path]


def test_every_route_has_a_name_of_its_own_and_says_what_it_does(operations):
    names = [each["operationId"] for each in operations.values()]
    assert len(set(names)) == len(names)
    assert all(len(each["description"]) > 10 for each in operations.values())


def test_every_route_of_the_api_documents_its_refusals_in_the_one_form(operations):
    for (method, path), each in operations.items():
        if not path.startswith(API):
            continue
        assert {"400", "401", "403", "404", "422", "503"} <= set(each["responses"]), (method, path)
        if "requestBody" in each:
            assert {"408", "413", "415"} <= set(each["responses"]), (method, path)
        for status, answer in each["responses"].items():
            if status >= "400":
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorBody"}, (method, path, status)


def test_the_one_form_is_described(document):
    form = document["components"]["schemas"]["ErrorBody"]
    assert set(form["properties"]) == {"message", "code", "status", "errors"}
    assert set(document["components"]["securitySchemes"]) == {"agentCertificate", "accessToken", "session"}


def test_no_route_is_open_to_anyone_but_these(operations):
    unguarded = {key: each[AUDIENCE] for key, each in operations.items() if not each.get("security")}
    assert unguarded == {
        ("post", f"{API}/endpoint/enroll"): "machine with an enrolment token",
        ("post", f"{API}/session"): "anyone at the administration listener",
        ("get", "/healthz"): "anyone",
        ("get", "/readyz"): "anyone at the administration listener",
        ("get", "/metrics"): "anyone at the administration listener",
    }


def test_every_change_that_takes_a_body_says_which(operations):
    without = {
        (method, path)
        for (method, path), each in operations.items()
        if method not in SAFE and "requestBody" not in each
    }
    assert without == {
        ("delete", f"{API}/session"),
        ("delete", f"{API}/access/token/{{token_id}}"),
        ("delete", f"{API}/endpoint/whitelist/{{entry_id}}"),
        ("post", f"{API}/config/maintenance_task/{{task_id}}/run"),
    }


def test_patterns_are_written_as_json_schema_writes_them(document):
    def patterns(part):
        if isinstance(part, dict):
            yield from ([part["pattern"]] if isinstance(part.get("pattern"), str) else [])
            for value in part.values():
                yield from patterns(value)
        elif isinstance(part, list):
            for value in part:
                yield from patterns(value)

    found = set(patterns(document["paths"]))
    assert found
    assert not [pattern for pattern in found if "\\A" in pattern or "\\Z" in pattern]


def test_the_copy_in_the_documentation_is_up_to_date(document):
    written = json.loads(COPY.read_text(encoding="utf-8"))
    assert written == document, "python -m eguard.server.openapi > docs/reference/openapi.json"


def test_a_running_server_hands_it_out_at_the_administration_listener_alone(tmp_path, document):
    with server_place(tmp_path) as place:
        client = place.person(None)
        root = str(client.base_url).removesuffix("/api/v1/").removesuffix("/api/v1")
        assert client.get(f"{root}/openapi.json").json() == document
        assert client.get(f"{root}/docs").status_code == 200
        agent = place.agent("a1")
        root = str(agent.base_url).removesuffix("/api/v1/").removesuffix("/api/v1")
        for path in ("/openapi.json", "/docs", "/metrics", "/readyz"):
            assert agent.get(root + path).status_code == 404
