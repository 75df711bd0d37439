"""Who is let in over the wire: certificates that are forged, borrowed, revoked or meant for something else."""

import socket
import ssl
import time

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from server_place import CONSOLE, server_place

from eguard.server.pki import PkiFolder, make_key_and_request, read_request
from eguard.server.services.certificates import Certificates


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with server_place(tmp_path_factory.mktemp("access")) as running:
        yield running


def beat(agent_id, incarnation="i"):
    return {
        "agent_id": agent_id,
        "incarnation": incarnation,
        "agent_version": "1.0",
        "baseline_status": "active",
    }


def said(response):
    body = response.json()
    assert set(body) >= {"message", "code", "status", "errors"}
    assert body["status"] == response.status_code
    return response.status_code, body["code"]


def signed_by(folder, authority, agent_id, days=90.0, now=None):
    """Return the files of a certificate that an authority signed and wrote down nowhere."""
    key, csr = make_key_and_request(agent_id)
    issued = authority.issue_agent(read_request(csr, agent_id), agent_id, now or time.time(), days)
    folder.mkdir(parents=True)
    (folder / "agent.pem").write_text(issued.pem)
    (folder / "agent.key").write_bytes(key)
    return folder / "agent.pem", folder / "agent.key"


def enrolment(token, agent_id, csr_of=None, **changes):
    key, csr = make_key_and_request(csr_of or agent_id)
    return key, {"token": token, "agent_id": agent_id, "csr_pem": csr, "incarnation": "i", **changes}


def test_a_machine_enrols_beats_and_renews_over_the_wire(place, tmp_path):
    token = place.context.enrolment.tokens.create(CONSOLE, group="web")
    key, body = enrolment(token.secret, "desk one", hostname="desk-1")
    answer = place.agent().post("/endpoint/enroll", json=body)
    assert answer.status_code == 200, answer.text
    got = answer.json()
    assert got["authority_pem"] == place.authority_file.read_text()
    assert len(got["policy_keys"]) == 1
    (tmp_path / "agent.pem").write_text(got["certificate_pem"])
    (tmp_path / "agent.key").write_bytes(key)
    client = place.agent(files=(tmp_path / "agent.pem", tmp_path / "agent.key"))
    heard = client.post("/endpoint/heartbeat", json=beat("desk one"))
    assert heard.status_code == 200, heard.text
    assert heard.json()["status"] == "ok"
    assert abs(heard.json()["server_time_unix"] - time.time()) < 5
    key, csr = make_key_and_request("desk one")
    renewed = client.post("/endpoint/renew", json={"csr_pem": csr})
    assert renewed.status_code == 200, renewed.text
    (tmp_path / "agent.pem").write_text(renewed.json()["certificate_pem"])
    (tmp_path / "agent.key").write_bytes(key)
    again = place.agent(files=(tmp_path / "agent.pem", tmp_path / "agent.key"))
    assert again.post("/endpoint/heartbeat", json=beat("desk one")).status_code == 200
    view = place.person().get("/endpoint/agent/desk%20one").json()
    assert (view["group"], view["status"], len(view["certificates"])) == ("web", "active", 2)


def test_without_a_certificate_a_machine_may_enrol_and_nothing_else(place):
    client = place.agent()
    assert said(client.post("/endpoint/heartbeat", json=beat("a"))) == (401, "certificate_required")
    assert said(client.get("/endpoint/command/pending")) == (401, "certificate_required")
    _, body = enrolment("eguard-enrol-made-up", "a")
    assert said(client.post("/endpoint/enroll", json=body)) == (403, "token_invalid")


def test_each_listener_has_its_own_routes(place):
    agent, admin = place.agent("own-routes"), place.person()
    assert said(agent.get("/session")) == (404, "not_found")
    assert said(agent.get("/access/token")) == (404, "not_found")
    assert said(agent.post("/endpoint/agent/decommission", json={})) == (404, "not_found")
    assert said(agent.get("/endpoint/audit")) == (404, "not_found")
    assert said(admin.post("/endpoint/heartbeat", json=beat("own-routes"))) == (404, "not_found")
    assert said(admin.post("/endpoint/enroll", json={})) == (404, "not_found")


def test_an_agent_speaks_for_itself_alone_and_the_attempt_is_on_record(place):
    client = place.agent("mallory")
    assert said(client.post("/endpoint/heartbeat", json=beat("victim"))) == (403, "identity_mismatch")
    report = {
        "agent_id": "victim",
        "hostname": "",
        "os_type": "",
        "os_version": "",
        "kernel_version": "",
        "architecture": "",
        "collected_at_unix": 0,
    }
    assert said(client.post("/endpoint/inventory", json=report)) == (403, "identity_mismatch")
    records = place.person().get("/endpoint/audit", params={"principal": "mallory"}).json()["records"]
    assert [(record["action"], record["object_id"]) for record in records] == [("identity.refused", "victim")] * 2
    assert place.person().get("/endpoint/agent/victim").status_code == 404


def test_a_revoked_certificate_is_refused_on_the_connection_that_is_open(place):
    client = place.agent("stolen")
    assert client.post("/endpoint/heartbeat", json=beat("stolen")).status_code == 200
    place.context.certificates.revoke(CONSOLE, agent_id="stolen", reason="stolen")
    assert said(client.post("/endpoint/heartbeat", json=beat("stolen"))) == (403, "certificate_revoked")
    _, csr = make_key_and_request("stolen")
    assert said(client.post("/endpoint/renew", json={"csr_pem": csr})) == (403, "certificate_revoked")


def test_a_revocation_by_another_process_counts_within_a_minute(place):
    client = place.agent("stolen-too")
    assert client.post("/endpoint/heartbeat", json=beat("stolen-too")).status_code == 200
    elsewhere = Certificates(place.context.database, place.context.clock)
    elsewhere.revoke(CONSOLE, agent_id="stolen-too", reason="stolen")
    began = time.monotonic()
    while client.post("/endpoint/heartbeat", json=beat("stolen-too")).status_code == 200:
        assert time.monotonic() - began < 8.0
        time.sleep(0.2)
    assert said(client.post("/endpoint/heartbeat", json=beat("stolen-too"))) == (403, "certificate_revoked")


def test_a_decommissioned_agent_is_refused_until_it_is_enrolled_again(place):
    client = place.agent("sold")
    assert client.post("/endpoint/heartbeat", json=beat("sold")).status_code == 200
    admin = place.person()
    gone = admin.post("/endpoint/agent/decommission", json={"agent_id": "sold", "reason": "sold"})
    assert gone.json()["status"] == "decommissioned"
    assert said(client.post("/endpoint/heartbeat", json=beat("sold"))) == (403, "certificate_decommissioned")
    token = place.context.enrolment.tokens.create(CONSOLE)
    _, body = enrolment(token.secret, "sold")
    assert place.agent().post("/endpoint/enroll", json=body).status_code == 200
    assert said(client.post("/endpoint/heartbeat", json=beat("sold"))) == (403, "certificate_revoked")


def test_a_certificate_that_nobody_wrote_down_is_refused(place, tmp_path):
    authority = PkiFolder(place.authority_file.parent).authority()
    client = place.agent(files=signed_by(tmp_path / "made", authority, "ghost"))
    assert said(client.post("/endpoint/heartbeat", json=beat("ghost"))) == (403, "certificate_unknown")


def test_a_certificate_of_another_authority_ends_the_handshake(place, tmp_path):
    other = PkiFolder(tmp_path / "other")
    other.create(["localhost"], time.time())
    client = place.agent(files=signed_by(tmp_path / "made", other.authority(), "ghost"))
    with pytest.raises((httpx2.ConnectError, httpx2.ReadError, httpx2.RemoteProtocolError)):
        client.post("/endpoint/heartbeat", json=beat("ghost"))


def test_an_expired_certificate_ends_the_handshake(place, tmp_path):
    authority = PkiFolder(place.authority_file.parent).authority()
    a_week_ago = time.time() - 7 * 86_400
    client = place.agent(files=signed_by(tmp_path / "made", authority, "ghost", days=1, now=a_week_ago))
    with pytest.raises((httpx2.ConnectError, httpx2.ReadError, httpx2.RemoteProtocolError)):
        client.post("/endpoint/heartbeat", json=beat("ghost"))


def test_the_servers_own_certificate_makes_no_agent(place, tmp_path):
    pem = (place.authority_file.parent / "server.pem").read_bytes()
    key = load_pem_private_key(pem, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key").write_bytes(key)
    (tmp_path / "pem").write_bytes(pem)
    client = place.agent(files=(tmp_path / "pem", tmp_path / "key"))
    try:
        answer = client.post("/endpoint/heartbeat", json=beat("localhost"))
    except (httpx2.ConnectError, httpx2.ReadError, httpx2.RemoteProtocolError):
        return  # OpenSSL looks at the certificate's purpose
    assert said(answer)[0] in {401, 403}


def test_nothing_is_answered_in_clear(place):
    for port in (place.running.agent_port, place.running.admin_port):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            try:
                heard = plain.recv(1000)
            except ConnectionResetError:
                continue  # hung up with the request unread
            assert b"HTTP/" not in heard


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_versions_of_tls_are_refused(place, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with (
        pytest.raises((ssl.SSLError, ConnectionResetError)),
        socket.create_connection(("127.0.0.1", place.running.agent_port), timeout=5) as plain,
    ):
        context.wrap_socket(plain)


def test_two_machines_with_one_certificate_are_shown(place):
    client = place.agent("twin")
    for incarnation in ("first", "second", "first", "second"):
        assert client.post("/endpoint/heartbeat", json=beat("twin", incarnation)).status_code == 200
    admin = place.person()
    (row,) = admin.get("/endpoint/inventory", params={"q": "twin"}).json()["rows"]
    assert row["cloned"]
    found = admin.get("/endpoint/audit", params={"action": "endpoint.clone_detected", "object_id": "twin"}).json()
    assert len(found["records"]) == 1


def test_a_session_needs_its_cookie_and_for_changes_its_token(place):
    place.context.access.accounts.add(CONSOLE, "grace", CONSOLE.role, "a long password")
    client = place.person(role=None)
    assert said(client.get("/session")) == (401, "not_authenticated")
    wrong = {"name": "grace", "password": "a wrong password"}
    assert said(client.post("/session", json=wrong)) == (401, "invalid_login")
    began = client.post("/session", json={"name": "grace", "password": "a long password"})
    assert began.status_code == 200, began.text
    cookie = began.headers["set-cookie"].lower()
    assert all(flag in cookie for flag in ("httponly", "secure", "samesite=strict", "path=/", "max-age=43200"))
    assert began.headers["cache-control"] == "no-store"
    me = client.get("/session").json()
    assert (me["name"], me["role"], me["csrf_token"]) == ("grace", "admin", began.json()["csrf_token"])
    wanted = {"name": "ci", "role": "analyst"}
    assert said(client.post("/access/token", json=wanted)) == (403, "csrf")
    assert said(client.post("/access/token", json=wanted, headers={"X-Eguard-Csrf": "x"})) == (403, "csrf")
    headers = {"X-Eguard-Csrf": me["csrf_token"]}
    made = client.post("/access/token", json=wanted, headers=headers)
    assert made.status_code == 201, made.text
    assert client.delete("/session", headers=headers).json() == {"ended": True}
    client.cookies.set("eguard_session", began.cookies["eguard_session"], domain="127.0.0.1")
    assert said(client.get("/session")) == (401, "not_authenticated")


def test_an_analyst_looks_and_changes_nothing(place):
    analyst = place.person("analyst")
    assert analyst.get("/endpoint/inventory").status_code == 200
    assert analyst.get("/endpoint/audit/verify").json()["intact"]
    assert said(analyst.get("/access/token")) == (403, "forbidden")
    for path in ("/endpoint/agent/decommission", "/endpoint/agent/group", "/endpoint/fleet/quarantine"):
        assert said(analyst.post(path, json={"agent_id": "a", "reason": "r"})) == (403, "forbidden")


def test_tokens_are_made_listed_and_revoked_over_the_wire(place):
    admin = place.person()
    made = admin.post("/access/token", json={"name": "nightly", "role": "analyst", "days": 1}).json()
    bearer = place.person(token=made["secret"])
    assert bearer.get("/session").json() == {"name": "nightly", "role": "analyst", "credential": made["token_id"]}
    listed = admin.get("/access/token").text
    assert made["token_id"] in listed
    assert made["secret"] not in listed
    assert admin.delete(f"/access/token/{made['token_id']}").json() == {"token_id": made["token_id"], "revoked": True}
    assert said(bearer.get("/session")) == (401, "not_authenticated")
    assert said(admin.delete(f"/access/token/{made['token_id']}")) == (404, "unknown_token")


def test_the_audit_log_is_checked_against_a_head_that_was_kept(place):
    admin = place.person()
    head = admin.get("/endpoint/audit/verify").json()["head"]
    assert admin.get("/endpoint/audit/verify", params=head).json()["intact"]
    forged = admin.get("/endpoint/audit/verify", params=head | {"record_hash": "0" * 64}).json()
    assert (forged["intact"], forged["broken_at"]) == (False, head["sequence"])
    assert said(admin.get("/endpoint/audit/verify", params={"sequence": 1})) == (422, "invalid_parameter")


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 501}, {"since": "nan"}, {"since": "-1"}, {"cursor": "x"}, {"until": 1e300}]
)
def test_parameters_of_the_audit_log_are_bounded(place, params):
    assert said(place.person().get("/endpoint/audit", params=params))[0] == 422
