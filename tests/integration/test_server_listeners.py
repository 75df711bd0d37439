"""A listener between real sockets: certificates reach the application, slow and broken clients do not stay."""

import asyncio
import contextlib
import json
import socket
import ssl
import threading
import time

import pytest
import trustme
from starlette.requests import Request
from starlette.responses import JSONResponse

from eguard.errors import ConfigError
from eguard.server.listeners import AGENTS, Listener, TlsFiles, reload_certificates

DEADLINE_SECONDS = 0.8


async def app(scope, receive, send):
    request = Request(scope, receive)
    certificate = scope["state"]["peer_certificate"]
    if scope["path"] == "/slow":
        await asyncio.sleep(1.5 * DEADLINE_SECONDS)
    body = await request.body() if scope["method"] == "POST" else b""
    answer = {
        "listener": scope["state"]["listener"],
        "certificate": certificate.der.hex() if certificate else None,
        "length": len(body),
    }
    await JSONResponse(answer)(scope, receive, send)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    return write_certificate(folder, authority, "127.0.0.1")


def write_certificate(folder, authority, *names):
    issued = authority.issue_cert(*names, key_type=trustme.KeyType.ECDSA)
    files = TlsFiles(folder / "server.pem", folder / "server.key", folder / "authority.pem")
    files.certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    files.key.write_bytes(issued.private_key_pem.bytes())
    authority.cert_pem.write_to_path(files.authority)
    return files


@contextlib.contextmanager
def listening(files, *, asks=True, also=None, **named):
    """Run a listener in a thread of its own and yield its port."""
    context = files.context(asks_for_certificate=asks)
    ready, box = threading.Event(), {}

    async def main():
        listener = Listener(AGENTS, app, "127.0.0.1:0", context, deadline_seconds=DEADLINE_SECONDS, **named)
        box["listener"] = listener
        serving = asyncio.create_task(listener.serve())
        more = asyncio.create_task(also(context)) if also else None
        await listener.is_listening.wait()
        ready.set()
        await serving
        if more is not None:
            more.cancel()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield box["listener"].port
    finally:
        box["listener"].should_exit = True
        thread.join(15)
        assert not thread.is_alive()


def connected(port, authority, client=None):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if client is not None:
        client.configure_cert(context)
    plain = socket.create_connection(("127.0.0.1", port), 10)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def read_all(connection):
    data = b""
    with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
        while chunk := connection.recv(65_536):
            data += chunk
    return data


def ask(connection, request):
    connection.sendall(request)
    return read_all(connection)


GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def test_the_clients_certificate_reaches_the_application(files, authority):
    client = authority.issue_cert("agent-1", key_type=trustme.KeyType.ECDSA)
    with listening(files) as port:
        with connected(port, authority, client) as connection:
            said = json.loads(ask(connection, GET).partition(b"\r\n\r\n")[2])
        with connected(port, authority) as connection:
            silent = json.loads(ask(connection, GET).partition(b"\r\n\r\n")[2])
    der = ssl.PEM_cert_to_DER_cert(client.cert_chain_pems[0].bytes().decode())
    assert said == {"listener": "agents", "certificate": der.hex(), "length": 0}
    assert silent["certificate"] is None


def test_a_certificate_of_another_authority_ends_the_handshake(files, authority):
    stranger = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert("agent-1", key_type=trustme.KeyType.ECDSA)
    with listening(files) as port, pytest.raises((ssl.SSLError, ConnectionResetError)):
        refused_within(port, authority, stranger)


def refused_within(port, authority, stranger):
    """Ask, and wait for what the server says: with TLS 1.3 a client's handshake is over before it is refused."""
    with connected(port, authority, stranger) as connection:
        connection.sendall(GET)
        if not connection.recv(100):
            raise ConnectionResetError


def test_plain_http_is_not_answered(files):
    with listening(files) as port, socket.create_connection(("127.0.0.1", port), 10) as plain:
        plain.sendall(GET)
        with contextlib.suppress(ConnectionResetError):
            assert not plain.recv(100).startswith(b"HTTP")


@pytest.mark.parametrize(
    "drip",
    [
        [],
        [b"GET / HTTP/1.1\r\n"],
        [b"G", b"E", b"T", b" ", b"/", b" ", b"H", b"T", b"T", b"P", b"/", b"1"],
        [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", b"a", b"b", b"c", b"d", b"e", b"f", b"g"],
        [b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", b"1\r\nb\r\n"],
    ],
    ids=["silence", "half a head", "a byte at a time", "half a body", "half of the chunks"],
)
def test_a_request_that_does_not_arrive_in_time_is_dropped(files, authority, drip):
    with listening(files) as port, connected(port, authority) as connection:
        started = time.monotonic()
        connection.settimeout(0.05)
        data = b""
        for piece in drip:
            connection.sendall(piece)
            with contextlib.suppress(TimeoutError):
                data += connection.recv(65_536)
        connection.settimeout(10)
        data += read_all(connection)
        took = time.monotonic() - started
    assert 0.5 * DEADLINE_SECONDS < took < 5
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert json.loads(body)["code"] == "request_timeout"


def test_an_answer_may_take_longer_than_a_request(files, authority):
    with listening(files) as port, connected(port, authority) as connection:
        answer = ask(connection, b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_kept_connection_serves_requests_far_apart(files, authority):
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    with listening(files) as port, connected(port, authority) as connection:
        for _ in range(2):
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200")
            time.sleep(1.3 * DEADLINE_SECONDS)


@pytest.mark.parametrize("garbage", [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"], ids="abc")
def test_what_is_not_http_is_refused_in_the_one_form(files, authority, garbage):
    with listening(files) as port, connected(port, authority) as connection:
        head, _, body = ask(connection, garbage).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body) == {
        "code": "bad_request",
        "status": 400,
        "errors": [],
        "message": json.loads(body)["message"],
    }


def test_a_replaced_certificate_is_taken_over_without_a_restart(authority, tmp_path, monkeypatch):
    monkeypatch.setattr("eguard.server.listeners._RELOAD_SECONDS", 0.05)
    files = write_certificate(tmp_path, authority, "127.0.0.1")
    with listening(files, also=lambda context: reload_certificates(files, [context])) as port:
        with connected(port, authority) as connection:
            before = connection.getpeercert(binary_form=True)
        time.sleep(0.2)
        write_certificate(tmp_path, authority, "127.0.0.1")
        until = time.monotonic() + 10
        after = before
        while after == before and time.monotonic() < until:
            time.sleep(0.1)
            with connected(port, authority) as connection:
                after = connection.getpeercert(binary_form=True)
    assert after != before


def test_a_port_that_is_taken_is_said(files):
    with listening(files) as port, pytest.raises(ConfigError, match="cannot listen"):
        Listener(AGENTS, app, f"127.0.0.1:{port}", files.context(asks_for_certificate=True))


def test_missing_files_have_a_remedy(tmp_path):
    files = TlsFiles(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    with pytest.raises(ConfigError) as refused:
        files.context(asks_for_certificate=True)
    assert "pki init" in refused.value.remedy
