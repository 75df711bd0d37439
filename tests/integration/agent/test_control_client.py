"""The agent's HTTP client against servers that are well, ill, hostile or somebody else."""

import contextlib
import shutil
import ssl
import threading
import time

import pytest
import structlog
import trustme

from eguard.agent.control.client import ControlClient, Request
from eguard.agent.control.credentials import TlsFiles, trusting_context
from eguard.errors import ConfigError, ServerRefusalError, ServerUnavailableError
from eguard.wire.control import CommandList, HeartbeatAnswer

BEAT = HeartbeatAnswer(policy_revision=3, commands_pending=0, server_time_unix=1.0)
PATH = "/endpoint/heartbeat"


@pytest.fixture
def client(server, tls_files):
    made = ControlClient(server.url, tls_files)
    yield made
    made.close()


def test_the_certificate_travels_and_the_channel_is_logged_once(server, client):
    server.answers[PATH] = BEAT
    with structlog.testing.capture_logs() as logs:
        assert client.get(PATH, HeartbeatAnswer) == BEAT
        assert client.get(PATH, HeartbeatAnswer) == BEAT
    assert [seen.certificate for seen in server.seen[PATH]] == ["h", "h"]
    established = [line for line in logs if line["event"] == "mtls channel established"]
    assert len(established) == 1
    assert established[0]["tls"] in {"TLSv1.2", "TLSv1.3"}
    assert client.is_connected


def test_a_channel_that_was_lost_is_logged_again_when_it_is_back(make_server, tls_files):
    first = make_server()
    first.answers[PATH] = BEAT
    client = ControlClient(first.url, tls_files)
    try:
        with structlog.testing.capture_logs() as logs:
            client.get(PATH, HeartbeatAnswer)
            first.answers[PATH] = drop
            with pytest.raises(ServerUnavailableError):
                client.get(PATH, HeartbeatAnswer)
            assert not client.is_connected
            first.answers[PATH] = BEAT
            client.get(PATH, HeartbeatAnswer)
        assert [line["event"] for line in logs] == ["mtls channel established"] * 2
    finally:
        client.close()


def drop(request):
    request.handler.connection.close()
    return ...


def raw(*pieces, pause=0.0, for_ever=False):
    """Return an answer that is these bytes, a way of not giving one; eight seconds are for ever here."""

    def answer(request):
        until = time.monotonic() + 8.0
        with contextlib.suppress(OSError):
            while time.monotonic() < until:
                for piece in pieces:
                    request.handler.wfile.write(piece)
                    request.handler.wfile.flush()
                    time.sleep(pause)
                if not for_ever:
                    break
        return ...

    return answer


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BAD = {
    "garbage": raw(b"\x00\xff\xfe not http at all \r\n\r\n"),
    "half a head": raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "half a body": raw(HEAD + b'Content-Length: 500\r\n\r\n{"policy_revision": 1,'),
    "half a chunk": raw(CHUNKED + b"ff\r\n{"),
    "endless body": raw(CHUNKED, *[b"1000\r\n" + b" " * 4096 + b"\r\n"] * 64, for_ever=True),
    "endless head": raw(HEAD, *[b"X-A: " + b"a" * 900 + b"\r\n"] * 200),
    "head that drips": raw(b"H", pause=0.1, for_ever=True),
    "body that drips": raw(CHUNKED, b"1\r\n \r\n", pause=0.1, for_ever=True),
    "silence": raw(b"", pause=0.2, for_ever=True),
    "closed at once": drop,
    "no JSON": lambda _: b"<html>welcome</html>",
    "another record": lambda _: b'{"commands": 5}',
    "wrong type": lambda _: b'{"policy_revision": "3", "commands_pending": 0, "server_time_unix": 1}',
    "NaN": lambda _: b'{"policy_revision": 3, "commands_pending": 0, "server_time_unix": NaN}',
    "deep": lambda _: b"[" * 10_000,
    "empty": lambda _: b"",
    "500": lambda _: (500, b"Internal Server Error"),
    "503": lambda _: (503, b"", {"Retry-After": "7"}),
    "redirect": lambda _: (302, b"", {"Location": "http://localhost/elsewhere"}),
    "compressed": lambda _: (200, b"\x1f\x8b\x08\x00", {"Content-Encoding": "gzip"}),
    "two lengths": raw(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}    "),
}


@pytest.mark.parametrize("kind", sorted(BAD))
def test_every_bad_answer_is_one_error_in_bounded_time(kind, server, client):
    server.answers[PATH] = BAD[kind]
    began = time.monotonic()
    with pytest.raises(ServerUnavailableError) as caught:
        client.get(PATH, HeartbeatAnswer, Request(PATH, deadline_seconds=0.6))
    assert time.monotonic() - began < 3.0
    assert len(caught.value.message) < 600
    if kind == "503":
        assert caught.value.context["retry_after_seconds"] == 7.0
    server.answers[PATH] = BEAT
    assert client.get(PATH, HeartbeatAnswer) == BEAT  # and the next one works


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
def test_a_refusal_carries_status_code_fields_and_no_control_characters(status, server, client):
    fields = [{"field": "seq", "detail": "negative"}]
    server.answers[PATH] = lambda _: (
        status,
        {"message": "no\x1b[2J\n" + "x" * 5000, "code": "not_now", "status": status, "errors": fields},
    )
    with pytest.raises(ServerRefusalError) as caught:
        client.get(PATH, HeartbeatAnswer)
    error = caught.value
    assert (error.status, error.reason, error.errors) == (status, "not_now", [("seq", "negative")])
    assert error.message.isprintable()
    assert len(error.message) < 600


def test_a_refusal_without_the_contracts_body_is_one_all_the_same(server, client):
    server.answers[PATH] = lambda _: (403, b"<html>Forbidden")
    with pytest.raises(ServerRefusalError) as caught:
        client.get(PATH, HeartbeatAnswer)
    assert (caught.value.status, caught.value.reason) == (403, "http_403")


def test_a_server_of_another_authority_is_not_believed(make_server, tls_files):
    server = make_server(authority=trustme.CA())
    server.answers[PATH] = BEAT
    client = ControlClient(server.url, tls_files)
    with pytest.raises(ServerUnavailableError) as caught:
        client.get(PATH, HeartbeatAnswer)
    client.close()
    assert caught.value.context["reason"] == "tls"
    assert "EGUARD_TLS_CA" in caught.value.remedy
    assert not server.order


def test_a_server_of_another_name_is_not_believed(make_server, tls_files):
    server = make_server(names=["elsewhere.example"])
    client = ControlClient(server.url, tls_files)
    with pytest.raises(ServerUnavailableError) as caught:
        client.get(PATH, HeartbeatAnswer)
    client.close()
    assert caught.value.context["reason"] == "tls"
    assert not server.order


def test_a_certificate_of_another_authority_is_refused_by_the_server_and_named_so(server, tls_files, tmp_path):
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(trustme.CA().issue_cert("h").private_key_and_cert_chain_pem.bytes())
    server.answers[PATH] = BEAT
    client = ControlClient(server.url, TlsFiles(stranger, stranger, tls_files.authority))
    with pytest.raises(ServerUnavailableError) as caught:
        client.get(PATH, HeartbeatAnswer)
    client.close()
    assert caught.value.context["reason"] in {"tls", "broken_off"}
    assert not server.order


def test_old_tls_is_not_spoken(tls_files):
    context = tls_files.context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(
    "address", ["http://localhost:1", "localhost:8443", "", "https://", "https://u:p@h:1", "https://h:99999", "ftp://h"]
)
def test_there_is_no_way_without_tls(address, tls_files):
    with pytest.raises(ConfigError) as caught:
        ControlClient(address, tls_files)
    assert "https://" in caught.value.remedy


@pytest.mark.parametrize("missing", ["certificate", "key", "authority"])
@pytest.mark.parametrize("damage", ["missing", "empty", "garbage"])
def test_a_file_that_cannot_be_used_is_named(missing, damage, tls_files, tmp_path):
    parts = {name: tmp_path / f"{name}.pem" for name in ("certificate", "key", "authority")}
    for name, path in parts.items():
        shutil.copy(getattr(tls_files, name), path)
    if damage == "missing":
        parts[missing].unlink()
    else:
        parts[missing].write_bytes(b"" if damage == "empty" else b"-----BEGIN CERTIFICATE-----\nAAAA\n")
    with pytest.raises(ConfigError) as caught:
        ControlClient("https://localhost:1", TlsFiles(**parts))
    assert str(parts[missing]) in caught.value.message
    assert "eguard agent enroll" in caught.value.remedy


def test_a_certificate_with_the_key_of_another_is_refused(authority, tls_files, tmp_path):
    other = tmp_path / "other.pem"
    other.write_bytes(authority.issue_cert("h").private_key_pem.bytes())
    with pytest.raises(ConfigError):
        TlsFiles(tls_files.certificate, other, tls_files.authority).context()


def test_changed_certificates_are_used_at_once_and_broken_ones_are_not(authority, server, client, tls_files):
    server.answers[PATH] = BEAT
    client.get(PATH, HeartbeatAnswer)
    tls_files.certificate.write_bytes(authority.issue_cert("renewed").private_key_and_cert_chain_pem.bytes())
    client.get(PATH, HeartbeatAnswer)
    tls_files.certificate.write_bytes(b"broken")
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            client.get(PATH, HeartbeatAnswer)
    assert [seen.certificate for seen in server.seen[PATH]] == ["h", "renewed", "renewed", "renewed", "renewed"]
    assert [line["event"] for line in logs] == ["changed certificates cannot be used"]


def test_a_request_under_way_ends_with_the_certificate_that_it_began_with(authority, server, client, tls_files):
    release = threading.Event()

    def slow(_):
        release.wait(5)
        return CommandList(commands=[])

    server.answers |= {"/slow": slow, PATH: BEAT}
    found = []
    waiting = threading.Thread(target=lambda: found.append(client.get("/slow", CommandList)))
    waiting.start()
    time.sleep(0.2)
    tls_files.certificate.write_bytes(authority.issue_cert("renewed").private_key_and_cert_chain_pem.bytes())
    client.get(PATH, HeartbeatAnswer)
    release.set()
    waiting.join()
    assert found == [CommandList(commands=[])]


def test_abort_ends_a_request_that_waits(server, client):
    server.answers[PATH] = BAD["silence"]
    caught = []

    def ask():
        try:
            client.get(PATH, HeartbeatAnswer)
        except ServerUnavailableError as error:
            caught.append(error)

    waiting = threading.Thread(target=ask)
    waiting.start()
    time.sleep(0.3)
    began = time.monotonic()
    client.abort()
    waiting.join()
    assert time.monotonic() - began < 5.0, "and not at the deadline"
    assert len(caught) == 1


def test_nobody_listens(tls_files):
    client = ControlClient("https://127.0.0.1:9", tls_files)
    with pytest.raises(ServerUnavailableError) as caught:
        client.get(PATH, HeartbeatAnswer)
    client.close()
    assert caught.value.context["reason"] == "connect"


def test_proxies_of_the_environment_are_not_used(server, client, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    server.answers[PATH] = BEAT
    assert client.get(PATH, HeartbeatAnswer) == BEAT


def test_enrolment_needs_no_certificate_and_still_checks_the_server(make_server, tls_files):
    server = make_server(needs_certificate=False)
    server.answers[PATH] = BEAT
    client = ControlClient(server.url, trusting_context(tls_files.authority))
    assert client.get(PATH, HeartbeatAnswer) == BEAT
    client.close()
    assert server.seen[PATH][0].certificate is None
