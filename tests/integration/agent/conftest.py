"""A small server on a real socket with real certificates, which says what a test wants it to say."""

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

from eguard.agent.control.credentials import TlsFiles


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
