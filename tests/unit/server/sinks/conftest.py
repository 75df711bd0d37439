"""Real listeners: a webhook's receiver, syslog receivers, and certificates for both."""

import http.server
import socket
import ssl
import threading
from contextlib import ExitStack

import pytest
import trustme

from eguard.server.sinks import Message


@pytest.fixture
def message():
    return Message(
        "0f" * 16, "alert", "warning", "Seeds are not applied", {"applied": 0, "why": "\u00e4\n<x>"}, 1_772_000_000.25
    )


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority):
    """A server's context with a certificate for localhost and 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class Receiver:
    """A webhook's receiver: answers with the statuses of `script`, then 200, and keeps every request."""

    def __init__(self, script=(), tls=None, headers=None):
        self.requests = []
        self.script = list(script)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers), body))
                self.send_response(outer.script.pop(0) if outer.script else 200)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def receiver():
    """Make receivers; each is closed at the end."""
    with ExitStack() as made:

        def make(*script, tls=None, headers=None):
            opened = Receiver(script, tls, headers)
            made.callback(opened.close)
            return opened

        yield make


class StreamReceiver:
    """A syslog receiver on TCP or TLS: reads each connection to its end; `breaks` resets the first ones unread."""

    def __init__(self, tls=None, breaks=0):
        self.streams = []
        self.breaks = breaks
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                opened, _ = self._listener.accept()
            except OSError:
                return
            with opened:
                try:
                    self._read(opened)
                except OSError:
                    self.streams.append(None)

    def _read(self, opened):
        if self.breaks:
            self.breaks -= 1
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return
        if self._tls is not None:
            opened = self._tls.wrap_socket(opened, server_side=True)
        with opened:
            stream = b""
            while part := opened.recv(4096):
                stream += part
            self.streams.append(stream)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def stream_receiver():
    """Make syslog receivers on streams; each is closed at the end."""
    with ExitStack() as made:

        def make(**named):
            opened = StreamReceiver(**named)
            made.callback(opened.close)
            return opened

        yield make


@pytest.fixture
def datagrams():
    """A bound UDP socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        opened.settimeout(5.0)
        yield opened
