"""Twelve secrets, planted where they belong, and a search of everything that is kept, logged, answered or printed."""

import base64
import io
import json
import re

import pytest
import structlog
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from server_place import CONSOLE, server_place
from typer.testing import CliRunner

from eguard.cli.app import app
from eguard.logs import configure_logging
from eguard.server.pki import make_key_and_request
from eguard.server.principal import Role

PASSPHRASE = "canary-passphrase-of-the-authority"
PASSWORD = "canary-password-of-grace"
NEW_PASSWORD = "canary-second-password"
WRONG_PASSWORD = "canary-password-that-is-wrong"
WRONG_BEARER = "eguard-access-0123456789abcdef-" + "CanaryBearerThatNobodyEverMade" + "x" * 13
WRONG_TOKEN = "eguard-enrol-0123456789abcdef-" + "CanaryTokenThatNobodyEverMade_" + "x" * 13


def private_number(pem, password=None):
    """Return what is secret in a private key, in the forms in which it could get out."""
    number = load_pem_private_key(pem, password).private_numbers().private_value
    raw = number.to_bytes(32, "big")
    return [raw, raw.hex().encode(), str(number).encode()]


def body_of(pem):
    """Return the middle line of a private key's PEM text."""
    block = re.search(rb"-----BEGIN (?:ENCRYPTED )?PRIVATE KEY-----\n(.+?)-----END", pem, re.DOTALL)[1]
    return block.split(b"\n")[1]


@pytest.fixture
def logs():
    stream = io.StringIO()
    before = structlog.get_config()
    configure_logging(json_lines=True, verbose=True, stream=stream)
    yield stream
    structlog.configure(**before)


@pytest.fixture
def place(tmp_path, logs):
    with server_place(tmp_path, pki_passphrase=PASSPHRASE) as running:
        yield running


class Course:
    """What happened, and everything that was answered but the one answer that hands a secret out."""

    def __init__(self, place):
        self.place = place
        self.answers = []
        self.secrets = {}

    def keep(self, response):
        self.answers.append(response.content + repr(response.headers).encode())
        return response

    def run(self):
        self.enrol()
        self.sign_in()
        self.bear()
        self.break_down()
        folder = self.place.settings.server_state_path
        authority = (folder / "pki" / "authority.pem").read_bytes()
        server = (folder / "pki" / "server.pem").read_bytes()
        (policy,) = (folder / "keys").glob("policy-*.pem")
        policy_key = load_pem_private_key(policy.read_bytes(), None).private_bytes_raw()
        self.secrets |= {
            "passphrase": [PASSPHRASE.encode()],
            "authority's key": [body_of(authority), *private_number(authority, PASSPHRASE.encode())],
            "server's key": [body_of(server), *private_number(server)],
            "policy key": [policy_key, policy_key.hex().encode(), base64.b64encode(policy_key)],
        }

    def enrol(self):
        token = self.place.context.enrolment.tokens.create(CONSOLE, max_uses=2)
        key, csr = make_key_and_request("web-7")
        body = {"token": token.secret, "agent_id": "web-7", "csr_pem": csr, "incarnation": "i"}
        client = self.place.agent()
        assert self.keep(client.post("/endpoint/enroll", json=body)).status_code == 200
        assert self.keep(client.post("/endpoint/enroll", json=body)).status_code == 409
        self.keep(client.post("/endpoint/enroll", json=body | {"token": WRONG_TOKEN}))
        self.keep(client.post("/endpoint/enroll", json=body | {"surplus": token.secret}))
        self.keep(client.post("/endpoint/enroll", json=body | {"token": token.secret * 10}))
        self.keep(client.post("/endpoint/enroll", content=json.dumps(body).encode()[:-1]))
        self.keep(client.get("/endpoint/enroll", params={"token": token.secret}))
        self.place.context.enrolment.tokens.revoke(CONSOLE, token.token_id)
        self.keep(client.post("/endpoint/enroll", json=body))
        self.secrets |= {
            "enrolment token": [token.secret.encode()],
            "enrolment token that is wrong": [WRONG_TOKEN.encode()],
            "agent's key": [body_of(key), *private_number(key)],
        }

    def sign_in(self):
        access = self.place.context.access
        access.accounts.add(CONSOLE, "grace", Role.ADMIN, PASSWORD)
        client = self.place.person(role=None)
        began = client.post("/session", json={"name": "grace", "password": PASSWORD})
        cookie = began.cookies["eguard_session"]
        self.answers.append(began.content)
        self.keep(client.get("/session"))
        self.keep(client.delete("/session", headers={"X-Eguard-Csrf": began.json()["csrf_token"]}))
        client.cookies.set("eguard_session", cookie, domain="127.0.0.1")
        self.keep(client.get("/session"))
        for name in ("grace", "nobody", WRONG_PASSWORD):
            for _ in range(6):
                self.keep(client.post("/session", json={"name": name, "password": WRONG_PASSWORD}))
        self.keep(client.post("/session", json={"name": "grace", "password": PASSWORD * 20}))
        self.keep(client.post("/session", json={"name": "grace", "passwort": PASSWORD}))
        self.keep(client.post("/session", content=b'{"name": "grace", "password": "' + PASSWORD.encode()))
        access.set_password(CONSOLE, "grace", NEW_PASSWORD)
        self.secrets |= {
            "password": [PASSWORD.encode(), WRONG_PASSWORD.encode()],
            "password that is new": [NEW_PASSWORD.encode()],
            "cookie": [cookie.encode()],
        }

    def bear(self):
        admin = self.place.person()
        made = admin.post("/access/token", json={"name": "ci", "role": "admin"}).json()
        bearer = self.place.person(token=made["secret"])
        self.keep(bearer.get("/session"))
        self.keep(bearer.get("/access/token"))
        self.keep(bearer.get("/endpoint/audit"))
        self.keep(bearer.get("/session", headers={"Authorization": f"Basic {made['secret']}"}))
        self.keep(bearer.get("/session", headers={"Authorization": f"Bearer {made['secret']}x"}))
        self.keep(self.place.person(token=WRONG_BEARER).get("/session"))
        self.keep(admin.delete(f"/access/token/{made['token_id']}"))
        self.keep(bearer.get("/session"))
        self.secrets |= {
            "access token": [made["secret"].encode()],
            "access token that is wrong": [WRONG_BEARER.encode()],
        }

    def break_down(self):
        """Have the server fail in the middle of its work with each kind of secret in hand."""
        tokens = self.place.context.enrolment.tokens
        token = tokens.create(CONSOLE)
        admin, agent = self.place.person(), self.place.agent()
        database = self.place.context.database
        with database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE audit_log RENAME TO audit_log_gone")
        _, csr = make_key_and_request("web-8")
        body = {"token": token.secret, "agent_id": "web-8", "csr_pem": csr, "incarnation": "i"}
        try:
            assert self.keep(agent.post("/endpoint/enroll", json=body)).status_code == 503
            assert self.keep(admin.post("/access/token", json={"name": "x", "role": "admin"})).status_code == 503
            sign_in = {"name": "grace", "password": NEW_PASSWORD}
            assert self.keep(self.place.person(role=None).post("/session", json=sign_in)).status_code == 503
        finally:
            with database.write() as connection:
                connection.exec_driver_sql("ALTER TABLE audit_log_gone RENAME TO audit_log")
        self.secrets["enrolment token"].append(token.secret.encode())


def printed(place, monkeypatch):
    """Return what the command line prints when it lists everything, and when it refuses."""
    monkeypatch.setenv("EGUARD_SERVER_STATE_PATH", str(place.settings.server_state_path))
    monkeypatch.setenv("EGUARD_PKI_PASSPHRASE", PASSPHRASE)
    commands = (
        ["server", "pki", "show"],
        ["server", "token", "list"],
        ["server", "token", "access", "list", "--json"],
        ["server", "user", "list", "--json"],
        ["server", "audit", "list", "--json", "--limit", "500"],
        ["server", "agent", "show", "web-7", "--json"],
        ["config", "show"],
        ["server", "pki", "init", "--name", "localhost"],
    )
    told = []
    for command in commands:
        answer = CliRunner().invoke(app, command)
        told.append(f"{answer.output}{answer.exception!r}".encode())
    return told


def test_no_secret_gets_out(place, logs, monkeypatch):
    course = Course(place)
    course.run()
    assert len(course.secrets) == 12
    haystacks = {"answers": b"\n".join(course.answers), "command line": b"\n".join(printed(place, monkeypatch))}
    configure_logging(json_lines=True, verbose=True, stream=logs)  # the command line took the log for itself
    place.stop()  # now everything is on disk
    place.start()
    haystacks["logs"] = logs.getvalue().encode()
    state = place.settings.server_state_path
    keys = {state / "pki" / "authority.pem", state / "pki" / "server.pem", *(state / "keys").iterdir()}
    for path in sorted(state.rglob("*")):
        if path.is_file() and path not in keys:
            haystacks[str(path.relative_to(state))] = path.read_bytes()
    assert {"fleet.sqlite", "pki/ca.pem"} <= set(haystacks)
    assert b"enrolled agent" in haystacks["logs"]
    assert b"account locked" in haystacks["logs"]
    assert len(course.answers) > 40
    for name, forms in course.secrets.items():
        for form in forms:
            assert len(form) >= 16
            for where, hay in haystacks.items():
                assert form not in hay, f"{name} is in {where}"


def test_the_search_finds_a_secret_that_is_there(place):
    token = place.context.enrolment.tokens.create(CONSOLE, note="the note is kept")
    place.stop()
    kept = (place.settings.server_state_path / "fleet.sqlite").read_bytes()
    place.start()
    assert b"the note is kept" in kept
    assert token.token_id.encode() in kept
    assert token.secret.encode() not in kept
