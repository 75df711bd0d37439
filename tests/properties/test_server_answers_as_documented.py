"""What the API's document allows and forbids, generated and sent to a running server: it keeps to its document.

``EGUARD_TEST_SCHEMATHESIS_CASES=5000`` sends that many cases in all.
"""

import os
import sys
from functools import cache

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode, checks
from server_access import bearer, beat
from server_place import server_place

from eguard.server.app import describe_routes
from eguard.server.openapi import AUDIENCE

CASES = int(os.environ.get("EGUARD_TEST_SCHEMATHESIS_CASES", "300"))
SEED = 20_260_301
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
#: It stores the good rows of a batch and names the bad ones: 200 for what the schema does not allow.
BY_ROWS = "POST /api/v1/endpoint/baseline/batch"
ERROR_FIELDS = {"message", "code", "status", "errors"}


@cache
def operations():
    """Return every operation of the document by its name, with whom it is for."""
    schema = schemathesis.openapi.from_dict(describe_routes().openapi())
    found = (each.ok() for each in schema.get_all_operations())
    return {operation.label: operation for operation in found}


@cache
def with_something_to_say():
    """Return the operations that take a body or parameters; of the others there is one case each."""
    return {label for label, each in operations().items() if each.body or list(each.iter_parameters())}


def is_for_agents(operation):
    audience = operation.definition.raw[AUDIENCE]
    return audience.startswith(("agent", "machine"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with server_place(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def ask(place):
    """Return what sends a case to the listener that its route is at, as somebody who may."""
    certificate = place.issue("a1")
    beat(place, certificate, "a1")
    agent, admin = requests.Session(), requests.Session()
    for session in (agent, admin):
        session.trust_env = False
    admin.headers.update(bearer(place.token("admin")))
    agents_way = {"session": agent, "cert": tuple(map(str, certificate)), "port": place.running.agent_port}
    admins_way = {"session": admin, "cert": None, "port": place.running.admin_port}

    sent = []

    def call(case):
        sent.append(case.operation.label)
        way = dict(agents_way if is_for_agents(case.operation) else admins_way)
        case.query.pop("wait", None)  # an answer that may be withheld for a minute
        speak_for_itself(case)
        base_url = f"https://127.0.0.1:{way.pop('port')}"
        return case.call(base_url=base_url, verify=str(place.authority_file), timeout=30, **way)

    with agent, admin:
        yield call
    sys.stdout.write(f"{len(sent)} cases sent\n")  # pytest -s


def speak_for_itself(case):
    """Have most bodies of agents speak for the agent that sends them: else all end at the guard."""
    if is_for_agents(case.operation) and isinstance(case.body, dict) and isinstance(case.body.get("agent_id"), str):
        case.body = case.body | {"agent_id": "a1"}


@pytest.mark.parametrize("label", operations())
def test_every_answer_is_one_that_the_document_names(label, ask, place):
    operation = operations()[label]
    held = CHECKS if label == BY_ROWS else [*CHECKS, checks.negative_data_rejection]
    strategy = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if label in with_something_to_say():
        strategy |= operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @seed(SEED)
    @settings(
        max_examples=max(2, -(-CASES // len(with_something_to_say()))),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def check(case):
        answer = ask(case)
        case.validate_response(answer, checks=held)
        if answer.status_code >= 400 and label != "GET /readyz":
            said = answer.json()
            assert set(said) == ERROR_FIELDS
            assert said["status"] == answer.status_code
            assert said["code"]

    check()


def test_the_server_lives_after_it(place):
    assert place.person().get("/endpoint/inventory").status_code == 200
    assert place.context.audit.verify().intact
