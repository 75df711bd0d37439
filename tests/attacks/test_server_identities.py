"""Who is believed to be whom: certificates that do not hold, bodies that speak for others, paths in disguise."""

import pytest
from server_access import (
    BROKEN_OFF,
    beat,
    client,
    connected,
    heartbeat,
    issue_unrecorded,
    read_answers,
    split_answer,
)
from server_place import CONSOLE, server_place

from eguard.clock import SystemClock
from eguard.server.pki.authority import Authority
from eguard.server.pki.files import pki_folder
from eguard.server.pki.request import make_key_and_request


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with server_place(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.mark.parametrize(
    "kind", ["another authority", "another authority of the same name", "expired", "not yet valid"]
)
def test_a_certificate_that_does_not_hold_gets_no_answer_at_all(place, kind):
    now = SystemClock().now()
    own = pki_folder(place.settings).authority()
    certificate = {
        "another authority": lambda: issue_unrecorded(place, "a1", Authority.create(now)[0]),
        "another authority of the same name": lambda: issue_unrecorded(place, "a1", impostor_of(own, now)),
        "expired": lambda: issue_unrecorded(place, "a1", own, now=now - 7200, days=1 / 24),
        "not yet valid": lambda: issue_unrecorded(place, "a1", own, now=now + 7200),
    }[kind]()
    with (
        client(place, place.running.agent_port, certificate) as agent,
        pytest.raises(BROKEN_OFF),
    ):
        agent.get("/healthz")


def impostor_of(authority, now):
    """Return an authority whose certificate is the fleet's own and whose key is not."""
    return Authority(authority.certificate, authority.agents_certificate, Authority.create(now)[1])


def test_the_servers_own_certificate_is_no_agents(place):
    folder = pki_folder(place.settings)
    certificate = (folder.server_file, folder.server_file)
    with (
        client(place, place.running.agent_port, certificate) as agent,
        pytest.raises(BROKEN_OFF),
    ):
        agent.get("/healthz")


CLAIMS = {
    "heartbeat": {"incarnation": "i", "agent_version": "1", "baseline_status": "active"},
    "inventory": {
        "hostname": "h",
        "os_type": "linux",
        "os_version": "12",
        "kernel_version": "6",
        "architecture": "x86_64",
        "collected_at_unix": 1.0,
    },
    "telemetry": {"batch_id": "b", "alerts": []},
    "calibration": {"batch_id": "b", "samples": []},
    "baseline/batch": {"batch_id": "b", "baselines": []},
}


@pytest.mark.parametrize("route", CLAIMS)
def test_an_agent_speaks_for_itself_and_for_no_other(place, route):
    records = place.context.audit.search(action="identity.refused").records
    name = f"claimer-{route.replace('/', '-')}"
    victim = place.issue(f"victim-of-{name}")
    beat(place, victim, f"victim-of-{name}")
    before = stored(place, f"victim-of-{name}")
    with client(place, place.running.agent_port, place.issue(name)) as agent:
        own = agent.post(f"/api/v1/endpoint/{route}", json={"agent_id": name} | CLAIMS[route])
        assert own.status_code in {200, 404}, own.text  # an agent that never sent a heartbeat has no inventory
        for other in (f"victim-of-{name}", name.upper(), name + "x", f"{name}\u0301"):
            said = agent.post(f"/api/v1/endpoint/{route}", json={"agent_id": other} | CLAIMS[route])
            assert (said.status_code, said.json()["code"]) == (403, "identity_mismatch")
    now = place.context.audit.search(action="identity.refused").records
    assert len(now) == len(records) + 4
    assert {each.principal for each in now[:4]} == {name}
    assert stored(place, f"victim-of-{name}") == before


def stored(place, agent_id):
    row = place.context.inventory.endpoint(agent_id)
    return {key: value for key, value in row.items() if "seconds" not in key}


def test_an_agent_reads_nobody_elses_policy_commands_or_certificate(place):
    beat(place, place.issue("owner"), "owner")
    with client(place, place.running.agent_port, place.issue("reader")) as agent:
        asked = agent.get("/api/v1/endpoint/policy", params={"agent_id": "owner"})
        assert (asked.status_code, asked.json()["code"]) == (403, "identity_mismatch")
        _, csr_pem = make_key_and_request("owner")
        renewed = agent.post("/api/v1/endpoint/renew", json={"csr_pem": csr_pem})
        assert renewed.status_code == 422
        queued = place.person().post("/endpoint/nac/isolate", json={"agent_id": "owner", "reason": "drill"}).json()
        said = {"command_id": queued["command_id"], "status": "done"}
        assert agent.post("/api/v1/endpoint/command/ack", json=said).status_code == 404
        assert agent.get("/api/v1/endpoint/command/pending").json() == {"commands": []}


def test_a_revocation_counts_on_a_connection_that_is_open(place):
    certificate = place.issue("soon-revoked")
    with client(place, place.running.agent_port, certificate) as agent:
        assert agent.post("/api/v1/endpoint/heartbeat", content=heartbeat("soon-revoked")).status_code == 200
        place.context.certificates.revoke(CONSOLE, agent_id="soon-revoked", reason="stolen")
        refused = agent.post("/api/v1/endpoint/heartbeat", content=heartbeat("soon-revoked"))
        assert (refused.status_code, refused.json()["code"]) == (403, "certificate_revoked")


PATHS = [
    "//api/v1/endpoint/audit",
    "/api/v1/endpoint/../endpoint/audit",
    "/api/v1/endpoint/audit/",
    "/API/v1/endpoint/audit",
    "/api/v1/endpoint/%61udit",
    "/api/v1/endpoint/audit;x=1",
    "/healthz/../metrics",
    "/healthz%2f..%2fmetrics",
    "/healthz/..%2f..%2fopenapi.json",
    "/metrics?x=/api/v1/endpoint/",
    "https://127.0.0.1/api/v1/endpoint/audit",
    "/api/v1/endpoint/audit%00",
    "/api/v1/bundles/targets/..%2f..%2f..%2fpki%2fauthority.pem",
    "/api/v1/bundles/targets/../../pki/authority.pem",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_spelling_of_a_path_gets_round_the_guards(place, walker, path):
    """Paths go over the wire as written: a client that tidies them would test itself."""
    for port, certificate in ((place.running.agent_port, walker), (place.running.admin_port, None)):
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        with connected(place, port, certificate) as connection:
            connection.sendall(request.encode())
            data = read_answers(connection)
        if port == place.running.admin_port and path.startswith("/metrics"):
            assert data.startswith(b"HTTP/1.1 200")  # for anyone, at this port
            continue
        status = int(data.split(b" ")[1])
        assert status in {307, 400, 401, 404}, data
        if status != 307:
            assert set(split_answer(data)[1]) == {"message", "code", "status", "errors"}


@pytest.fixture(scope="module")
def walker(place):
    return place.issue("walker")
