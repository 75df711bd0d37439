"""The client of the administration: what it sends, and how each way of failing is told with a remedy."""

import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import trustme

from eguard.errors import ConfigError, ServerRefusalError, ServerUnavailableError
from eguard.operations import server_api
from eguard.operations.server_api import ServerApi

REFUSAL = {"message": "frozen", "code": "rollout_refused", "status": 409, "errors": [{"field": "f", "detail": "d"}]}


class Script(BaseHTTPRequestHandler):
    """Answers what the test says and keeps what it was asked."""

    def do_GET(self):
        self.server.asked = self.command, self.path, dict(self.headers), self._body()
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.do_GET()

    def do_DELETE(self):
        self.do_GET()

    def _body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def log_message(self, *_arguments):
        """Keep quiet."""


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def server(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = HTTPServer(("127.0.0.1", 0), Script)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.answer = 200, b"{}"
    server.handle_error = lambda *_: None  # a client that does not trust it hangs up
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def trusted(authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def api(server, trusted):
    with ServerApi(f"https://127.0.0.1:{server.server_port}/", "secret-token", trusted) as api:
        yield api


def test_a_get_carries_token_and_query(api, server):
    server.answer = 200, b'{"policies": []}'
    assert api.get("/endpoint/policy", policy_id="a b", agent_id=None) == {"policies": []}
    method, path, headers, _ = server.asked
    assert (method, path) == ("GET", "/api/v1/endpoint/policy?policy_id=a+b")
    assert headers["Authorization"] == "Bearer secret-token"


def test_a_post_carries_json_and_a_whole_path_is_taken_as_it_is(api, server):
    api.post("/api/v1/x", {"a": [1, None]})
    assert (server.asked[:2], json.loads(server.asked[3])) == (("POST", "/api/v1/x"), {"a": [1, None]})
    assert server.asked[2]["Content-Type"] == "application/json"
    api.post("/fleet/freeze")
    assert json.loads(server.asked[3]) == {}
    api.get("/healthz")
    assert server.asked[1] == "/healthz"
    server.answer = 204, b""
    assert api.delete("/endpoint/whitelist/e1") == {}


def test_a_refusal_is_told_in_the_servers_words(api, server):
    server.answer = 409, json.dumps(REFUSAL).encode()
    with pytest.raises(ServerRefusalError) as refused:
        api.post("/endpoint/policy/advance", {})
    error = refused.value
    assert (error.status, error.reason, str(error), error.errors) == (409, "rollout_refused", "frozen", [("f", "d")])


@pytest.mark.parametrize(("status", "word"), [(401, "EGUARD_API_TOKEN"), (403, "admin"), (503, "readyz")])
def test_common_refusals_have_a_remedy(api, server, status, word):
    server.answer = status, json.dumps(REFUSAL | {"status": status}).encode()
    with pytest.raises(ServerRefusalError) as refused:
        api.get("/endpoint/policy")
    assert word in refused.value.remedy
    assert "secret-token" not in f"{refused.value} {refused.value.remedy} {refused.value.context}"


@pytest.mark.parametrize(
    "answer",
    [(200, b"<html>"), (200, b"[1]"), (200, b"\xff"), (502, b"<html>bad gateway"), (302, b""), (404, b'{"detail": 1}')],
    ids=["page", "list", "no text", "gateway", "redirect", "another server"],
)
def test_what_is_no_answer_of_this_server_is_said_so(api, server, answer):
    server.answer = answer
    with pytest.raises(ServerUnavailableError) as unavailable:
        api.get("/endpoint/policy")
    assert unavailable.value.context["reason"] == "no_answer"
    assert "EGUARD_API" in unavailable.value.remedy


def test_an_endless_answer_is_not_read_to_its_end(api, server, monkeypatch):
    monkeypatch.setattr(server_api, "MAX_ANSWER_BYTES", 1000)
    server.answer = 200, b"{" + b" " * 2000 + b"}"
    with pytest.raises(ServerUnavailableError, match="longer"):
        api.get("/endpoint/policy")


def test_a_server_of_another_authority_is_not_spoken_to(server, tmp_path):
    stranger = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    api = ServerApi(f"https://127.0.0.1:{server.server_port}", "t", stranger)
    with api, pytest.raises(ServerUnavailableError) as unavailable:
        api.get("/endpoint/policy")
    assert unavailable.value.context["reason"] == "tls"
    assert "EGUARD_TLS_CA" in unavailable.value.remedy


def test_nobody_there_is_said_so(trusted):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        api = ServerApi(f"https://127.0.0.1:{port}", "t", trusted)
        with api, pytest.raises(ServerUnavailableError) as unavailable:
            api.get("/endpoint/policy")
    assert unavailable.value.context["reason"] == "unreachable"


def test_nothing_goes_in_clear_text():
    with pytest.raises(ConfigError, match="https"):
        ServerApi("http://127.0.0.1:8444", "t")


def test_an_authority_that_is_none_is_refused(tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "gone.pem"):
        with pytest.raises(ConfigError, match=name):
            ServerApi("https://127.0.0.1:1", "t", tmp_path / name)


def test_settings_name_server_token_and_authority(server, trusted, tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("from-file\n")
    monkeypatch.setenv("EGUARD_API", f"https://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("EGUARD_API_TOKEN_FILE", str(token))
    monkeypatch.setenv("EGUARD_TLS_CA", str(trusted))
    monkeypatch.delenv("EGUARD_API_TOKEN", raising=False)
    with ServerApi.from_settings() as api:
        api.get("/endpoint/policy")
    assert server.asked[2]["Authorization"] == "Bearer from-file"
    monkeypatch.setenv("EGUARD_API_TOKEN", "from-environment")
    with ServerApi.from_settings() as api:
        api.get("/endpoint/policy")
    assert server.asked[2]["Authorization"] == "Bearer from-environment"


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"two\nlines"], ids=["gone", "empty", "binary", "lines"])
def test_a_token_file_that_holds_none_is_refused(content, tmp_path, monkeypatch):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("EGUARD_API_TOKEN_FILE", str(path))
    monkeypatch.delenv("EGUARD_API_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="token"):
        ServerApi.from_settings()
