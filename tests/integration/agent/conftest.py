"""A small server on a real socket with real certificates, which says what a test wants it to say."""

import gzip
import json
import ssl
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
import trustme
from control_bench import Bench
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from eguard.agent.control.credentials import TlsFiles
from eguard.agent.control.enrolment_files import Enrolment, keep_enrolment
from eguard.policy import policy_key_id, public_key_text, sign_policy
from eguard.settings import AgentSettings
from eguard.wire.baseline import UpsertResult
from eguard.wire.control import CommandList, EnrolmentAnswer, HeartbeatAnswer, PolicyKey
from eguard.wire.fleet import FleetPage
from eguard.wire.policy import PolicyPayload
from eguard.wire.telemetry import TelemetryAnswer


class Seen:
    """A request as it arrived."""

    def __init__(self, handler, body):
        parts = urlsplit(handler.path)
        self.method = handler.command
        self.path = parts.path.removeprefix("/api/v1")
        self.query = dict(parse_qsl(parts.query))
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.body = body
        names = (handler.connection.getpeercert() or {}).get("subjectAltName", ())
        self.certificate = next((value for kind, value in names if kind == "DNS"), None)
        self.at = time.monotonic()

    @property
    def json(self):
        return json.loads(self.body)


class ScriptedServer:
    """Answers by path; without an answer of the test's own it says 404 in the contract's form.

    `answers[path]` is a callable of the request. It returns a record or bytes (200), a pair (status, body) or a triple
    with headers, or None for 204; or it writes to `request.handler.wfile` itself and returns `...`.
    """

    def __init__(self, authority, *, needs_certificate=True, names=("localhost", "127.0.0.1")):
        self.answers = {}
        self.seen = defaultdict(list)
        self.order = []
        self.stopping = threading.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names).configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED if needs_certificate else ssl.CERT_OPTIONAL
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30
            disable_nagle_algorithm = True

            def setup(self):
                self.request.settimeout(10)
                self.request.do_handshake()
                super().setup()

            def do_GET(self):
                scripted._answer(self)

            do_POST = do_GET  # noqa: N815 - the name is the library's

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_):
                pass  # a client that leaves is what some tests are about

        self._http = Server(("127.0.0.1", 0), Handler)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._http.server_address[1]
        self.url = f"https://localhost:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def count(self, path):
        return len(self.seen[path])

    def wait_for(self, path, count=1, seconds=10.0):
        """Return the requests to a path once there are so many."""
        until = time.monotonic() + seconds
        while self.count(path) < count:
            assert time.monotonic() < until, f"{path}: {self.count(path)} requests, not {count}; all: {self.order}"
            time.sleep(0.01)
        return self.seen[path]

    def close(self):
        self.stopping.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def _answer(self, handler):
        length = int(handler.headers.get("Content-Length", 0))
        request = Seen(handler, handler.rfile.read(length))
        request.handler = handler
        answer = self.answers.get(request.path, _not_found)
        self.order.append(request.path)
        found = answer(request) if callable(answer) else answer
        self.seen[request.path].append(request)
        if found is ...:
            handler.close_connection = True
            return
        status, body, headers = _spread(found)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if status != 204:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if status != 204:
            handler.wfile.write(body)


def _spread(found):
    status, body, headers = 200, found, {}
    if found is None:
        return 204, b"", {}
    if isinstance(found, tuple):
        status, body, *rest = found
        headers = rest[0] if rest else {}
    return status, body if isinstance(body, bytes) else msgspec.json.encode(body), headers


def _not_found(request):
    return 404, {"message": f"there is no {request.path}", "code": "not_found", "status": 404, "errors": []}


def write_identity(leaf, folder, name="agent"):
    """Write key and certificate into one file, as an enrolment does."""
    path = folder / f"{name}.pem"
    path.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    return path


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture
def tls_files(authority, tmp_path):
    """The certificate of the agent `h`."""
    folder = tmp_path / "pem"
    folder.mkdir()
    identity = write_identity(authority.issue_cert("h"), folder)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return TlsFiles(identity, identity, folder / "ca.pem")


@pytest.fixture
def server(authority):
    made = ScriptedServer(authority)
    yield made
    made.close()


@pytest.fixture
def make_server(authority):
    """Make servers with arguments of the test's own."""
    made = []

    def make(**given):
        made.append(ScriptedServer(given.pop("authority", authority), **given))
        return made[-1]

    yield make
    for each in made:
        each.close()


class PolicySigner:
    """Signs policies as a server does, and counts their revisions."""

    def __init__(self, agent_id="h"):
        self.key = Ed25519PrivateKey.generate()
        self.agent_id = agent_id
        self.public = PolicyKey(
            key_id=policy_key_id(public_key_text(self.key)), public_key=public_key_text(self.key)
        )  # fmt: skip

    def sign(self, revision, document=None, *, key=None, **given):
        fields = {
            "revision": revision,
            "mode_revision": revision,
            "policy_id": "default",
            "policy_version": f"v{revision}",
            "rollout_id": "default",
            "agent_id": self.agent_id,
            "group": "default",
            "policy": document or {},
            "policy_keys": (self.public,),
        }
        return sign_policy(PolicyPayload(**(fields | given)), key or self.key)


class ControlServer(ScriptedServer):
    """A server that says what a good one would: it takes everything, and sends the policy that the test has set."""

    def __init__(self, authority, signer, **given):
        super().__init__(authority, **given)
        self.signer = signer
        self.policy = signer.sign(1)
        self.revision = 1
        self.rows = {}
        self.alerts = {}
        self.fleet = FleetPage(seeded=0, generation=0, seed_enabled=True, fleet_baselines=[])
        self.commands = []
        self.answers |= {
            "/endpoint/heartbeat": self.heartbeat,
            "/endpoint/policy": self.poll,
            "/endpoint/inventory": {"status": "ok"},
            "/endpoint/baseline/batch": self.batch,
            "/endpoint/baseline/fleet": lambda _: self.fleet,
            "/endpoint/telemetry": self.telemetry,
            "/endpoint/command/pending": lambda _: CommandList(commands=self.commands),
            "/endpoint/command/ack": self.ack,
        }

    def set_policy(self, revision, document=None, **given):
        self.policy, self.revision = self.signer.sign(revision, document, **given), revision

    def heartbeat(self, _):
        return HeartbeatAnswer(
            policy_revision=self.revision, commands_pending=len(self.commands), server_time_unix=time.time()
        )

    def poll(self, request):
        until = time.monotonic() + float(request.query["wait"])
        while self.revision <= int(request.query["revision"]):
            if time.monotonic() >= until or self.stopping.wait(0.02):
                return None
        return self.policy

    def batch(self, request):
        accepted = unchanged = stale = 0
        for row in request.json["baselines"]:
            seq = self.rows.get(row["process_key"], {"seq": 0})["seq"]
            accepted += row["seq"] > seq
            unchanged += row["seq"] == seq
            stale += row["seq"] < seq
            if row["seq"] > seq:
                self.rows[row["process_key"]] = row
        return UpsertResult(accepted, unchanged, stale, [])

    def telemetry(self, request):
        body = gzip.decompress(request.body) if "content-encoding" in request.headers else request.body
        alerts = json.loads(body)["alerts"]
        known = sum(alert["alert_id"] in self.alerts for alert in alerts)
        self.alerts |= {alert["alert_id"]: alert for alert in alerts}
        return TelemetryAnswer(accepted=len(alerts) - known, duplicate=known)

    def ack(self, request):
        self.commands = [each for each in self.commands if each.command_id != request.json["command_id"]]
        return {"status": "ok"}


@pytest.fixture
def signer():
    return PolicySigner()


@pytest.fixture
def control_server(authority, signer):
    made = ControlServer(authority, signer)
    yield made
    made.close()


@pytest.fixture
def enrolled(authority, control_server, signer, tmp_path, monkeypatch):
    """Settings of an agent `h` that is enrolled with the control server, with short intervals."""
    monkeypatch.chdir(tmp_path)  # no repository of bundles here
    state = tmp_path / "state"
    write_enrolment(state / "tls", authority, control_server.url, signer)
    return AgentSettings(
        state_path=state,
        heartbeat_seconds=0.2,
        policy_wait_seconds=5.0,
        baseline_upload_seconds=0.3,
        fleet_seed_seconds=0.3,
        telemetry_seconds=0.2,
        bundle_repository="",
    )


def write_enrolment(folder, authority, server, signer):
    leaf = authority.issue_cert(signer.agent_id)
    answer = EnrolmentAnswer(
        agent_id=signer.agent_id,
        certificate_pem="".join(blob.bytes().decode() for blob in leaf.cert_chain_pems),
        authority_pem=authority.cert_pem.bytes().decode(),
        policy_keys=(signer.public,),
    )
    enrolment = Enrolment(
        server=server, agent_id=signer.agent_id, enrolled_at_unix=1.0, policy_keys=answer.policy_keys
    )  # fmt: skip
    keep_enrolment(folder, enrolment, answer, leaf.private_key_pem.bytes())


@pytest.fixture
def bench(control_server, tls_files, signer, tmp_path):
    made = Bench(tmp_path / "state", control_server, tls_files, signer)
    yield made
    made.close()
