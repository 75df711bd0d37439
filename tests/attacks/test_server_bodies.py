"""Bad bodies against every route that takes one: refused with a code in the one form, nothing stored, server alive."""

import contextlib
import json
from http.client import HTTPSConnection

import pytest
import sqlalchemy as sa
from jsonschema import Draft202012Validator
from server_access import bearer, beat, tls_context
from server_bad_bodies import example, forms, routes_with_bodies, schema_bodies, unstrict_bodies
from server_place import server_place

from eguard.fleet.tables import maintenance_run, metadata

AGENTS_ROUTES = ("/baseline/batch", "/calibration", "/command/ack", "/enroll", "/heartbeat", "/renew", "/telemetry")
#: Routes that store the good rows of a batch and name the bad ones: there is no good row in these batches.
BY_ROWS = {"POST /api/v1/endpoint/baseline/batch": "baselines", "POST /api/v1/endpoint/telemetry": "alerts"}
#: A token of access counts its last use, a session too: no body has a part in it.
NOT_OF_BODIES = {"access_token", "audit_log", "server_counter"}
#: Whoever uploads is alive, whatever is in the batch; and the schedule goes on.
NOT_OF_BODIES_COLUMNS = {"last_heartbeat", "next_due", "lease_owner", "lease_until"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with server_place(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def certificate(place):
    files = place.issue("a1")
    beat(place, files, "a1")
    return files


@pytest.fixture(scope="module")
def admin(place):
    return place.token("admin")


@pytest.fixture
def ask(place, certificate, admin):
    """Return what sends a body to a route, as somebody who may, and returns status and JSON of the answer."""
    agents = HTTPSConnection("127.0.0.1", place.running.agent_port, context=tls_context(place, certificate), timeout=30)
    people = HTTPSConnection("127.0.0.1", place.running.admin_port, context=tls_context(place), timeout=30)

    def send(route, body, encoding=None):
        method, path = route.split(" ")
        is_agents = path.endswith(AGENTS_ROUTES) or (route == "POST /api/v1/endpoint/inventory")
        connection, headers = (agents, {}) if is_agents else (people, bearer(admin))
        if encoding is not None:
            headers["Content-Encoding"] = encoding
        try:
            connection.request(method, path.replace("{incident_id}", "i1"), body, headers)
            answer = connection.getresponse()
        except OSError:
            connection.close()  # refused before the whole body was sent: once more, for the answer
            return 413, None
        text = answer.read()
        if answer.will_close:
            connection.close()
        return answer.status, json.loads(text) if text else None

    with contextlib.closing(agents), contextlib.closing(people):
        yield send


@pytest.fixture
def untouched(place):
    """Hold the database to what it was before the test."""
    before = stored(place)
    yield
    assert stored(place) == before


def stored(place):
    tables = [table for table in metadata.sorted_tables if table.name not in NOT_OF_BODIES]
    with place.context.database.read() as connection:
        columns = {table.name: [each for each in table.c if each.name not in NOT_OF_BODIES_COLUMNS] for table in tables}
        rows = {name: connection.execute(sa.select(*each)).all() for name, each in columns.items()}
        runs = sa.select(maintenance_run.c.run_id).where(maintenance_run.c.started_by.not_in(("schedule", "catch-up")))
        rows["maintenance_run"] = connection.execute(runs).all()
        mutations = connection.scalar(sa.text("SELECT COUNT(*) FROM audit_log WHERE action NOT LIKE 'identity.%'"))
    return {name: sorted(map(repr, each)) for name, each in rows.items()} | {"audit": mutations}


def is_refusal(status, said):
    return 400 <= status < 500 and set(said) == {"message", "code", "status", "errors"} and said["status"] == status


@pytest.mark.parametrize("route", routes_with_bodies())
def test_what_is_no_strict_json_is_refused_with_its_reason(route, ask, untouched):
    good = json.dumps(example(routes_with_bodies()[route])).encode()
    wrong = {}
    for name, (body, encoding, codes) in unstrict_bodies(good).items():
        status, said = ask(route, body, encoding)
        if not is_refusal(status, said) or said["code"] not in codes:
            wrong[name] = status, said, "instead of", codes
    assert wrong == {}


@pytest.mark.parametrize("route", forms())
def test_what_the_schema_does_not_allow_is_refused(route, ask, untouched):
    schema = forms()[route]
    good, wrong = example(schema), {}
    assert Draft202012Validator(schema).is_valid(good)
    for name, value in schema_bodies(schema, good):
        body = json.dumps(value).encode()
        status, said = ask(route, body)
        if not (is_refusal(status, said) or (route in BY_ROWS and status == 200 and names_its_rows(said))):
            wrong[name] = status, said
    assert wrong == {}


def names_its_rows(said):
    return said["accepted"] == 0 and len(said["rejected"]) >= 1 and all(each["code"] for each in said["rejected"])


def test_the_corpus_is_large():
    routes = routes_with_bodies()
    of_bytes = len(unstrict_bodies(b'{"x":1}'))
    of_fields = {route: len(list(schema_bodies(schema, example(schema)))) for route, schema in forms().items()}
    assert len(routes) >= 30
    assert of_bytes >= 65
    assert of_bytes + sum(of_fields.values()) >= 300
    assert min(of_fields.values()) >= 15
    assert of_bytes * len(routes) + sum(of_fields.values()) >= 4000


def test_the_server_lives_and_takes_good_bodies_after_it(place, ask):
    for _ in range(3):
        assert ask("POST /api/v1/endpoint/heartbeat", b"[" * 60_000)[0] == 400
    body = {"agent_id": "a1", "incarnation": "i", "agent_version": "1", "baseline_status": "active"}
    status, said = ask("POST /api/v1/endpoint/heartbeat", json.dumps(body).encode())
    assert (status, said["status"]) == (200, "ok")
    assert place.context.audit.verify().intact
