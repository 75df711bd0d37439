import socket
import ssl

import pytest

from eguard.operations.server import address_of

WAY = ("server_name", "server_connect", "server_tls")


@pytest.fixture
def to(settings, authority):
    """Return settings for a server at a port of this machine."""

    def make(port, issuer=authority, host="localhost", scheme="https", **changes):
        certificate, key = issuer.issue("agent-7", **changes.pop("dates", {}))
        given = {"tls_cert": certificate, "tls_key": key, "tls_ca": authority.file} | changes
        return settings(server=f"{scheme}://{host}:{port}", **given)

    return make


def test_the_whole_way_to_a_server(examine, to, serve, mutual):
    here = to(serve(mutual()))
    assert examine("server_name", with_settings=here).state == "ok"
    assert examine("server_connect", with_settings=here).state == "ok"
    found = examine(*WAY, with_settings=here)
    assert found.state == "ok", found
    assert "TLSv1.3" in found.cause
    assert "with the agent's certificate; the server answers HTTP/1.1 200 OK" in found.cause


@pytest.mark.parametrize("name", WAY)
def test_without_a_server_the_way_is_skipped(examine, name):
    assert examine(name).state == "skipped"


def test_a_name_that_does_not_resolve_stops_the_rest(examine, to):
    here = to(8443, host="no-such-host.invalid")
    found = examine("server_name", with_settings=here)
    assert (found.state, "no-such-host.invalid does not resolve" in found.cause) == ("failed", True)
    assert "getent hosts" in found.remedy
    assert examine(*WAY, with_settings=here).state == "skipped"


@pytest.mark.parametrize("server", ["localhost:8443", "https://", "https://localhost:99999", "https://[::1"])
def test_an_address_without_host_or_port_is_told(examine, settings, server):
    assert examine("server_name", with_settings=settings(server=server)).state == "failed"


def test_a_closed_port_is_told(examine, to):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = examine("server_name", "server_connect", with_settings=to(port))
    assert (found.state, f"nothing listens at localhost port {port}" in found.cause) == ("failed", True)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TimeoutError("timed out"), "did not answer within 3 s"),
        (OSError(101, "Network is unreachable"), "there is no route"),
        (PermissionError(1, "Operation not permitted"), "packet filter"),
    ],
    ids=["silence", "no route", "filter"],
)
def test_each_way_of_not_arriving_has_its_cause(examine, to, monkeypatch, error, says):
    def refuse(*_):
        raise error

    monkeypatch.setattr(socket, "create_connection", refuse)
    found = examine("server_connect", with_settings=to(8443))
    assert (found.state, says in found.cause) == ("failed", True), found


@pytest.mark.parametrize(
    ("names", "dates", "says"),
    [
        (("localhost",), {"days": -1.0, "begins_days": -9.0}, "certificate has expired"),
        (("localhost",), {"begins_days": 2.0}, "not yet valid"),
        (("eguard.example",), {}, "Hostname mismatch"),
    ],
    ids=["expired", "not yet", "another name"],
)
def test_a_server_certificate_that_does_not_verify_is_told(examine, to, serve, mutual, names, dates, says):
    found = examine("server_tls", with_settings=to(serve(mutual(names, **dates))))
    assert found.state == "failed"
    assert "the server's certificate does not verify" in found.cause
    assert says in found.cause
    assert found.remedy


def test_a_server_of_another_authority_is_told(examine, to, serve, mutual, new_authority):
    found = examine("server_tls", with_settings=to(serve(mutual()), tls_ca=new_authority().file))
    assert found.state == "failed"
    assert "EGUARD_TLS_CA" in found.remedy


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_server_that_refuses_the_agents_certificate_is_told(examine, to, serve, mutual, new_authority, version):
    context = mutual()
    context.maximum_version = version
    here = to(serve(context), issuer=new_authority(name="stranger"))
    for _ in range(20):  # its alert must not be lost, whoever is faster
        found = examine("server_tls", with_settings=here)
        assert found.state == "failed"
        assert found.cause == "the server refuses this agent's certificate: unknown ca"


def test_a_server_that_wants_a_certificate_and_gets_none_is_told(examine, to, serve, mutual):
    found = examine("server_tls", with_settings=to(serve(mutual()), tls_cert=None, tls_key=None))
    assert (found.state, "refuses this agent's certificate" in found.cause) == ("failed", True), found


def test_a_server_without_tls_is_told(examine, to, serve):
    found = examine("server_tls", with_settings=to(serve(answer=b"HTTP/1.1 400 Bad Request\r\n\r\n")))
    assert (found.state, "does not speak TLS at this port" in found.cause) == ("failed", True), found


def test_a_server_that_hangs_up_in_the_handshake_is_told(examine, to, serve):
    found = examine("server_tls", with_settings=to(serve(answer=b"")))
    assert (found.state, "closed the connection during the handshake" in found.cause) == ("failed", True), found


def test_clocks_that_differ_are_told(examine, to, serve, mutual):
    found = examine("server_tls", with_settings=to(serve(mutual(), seconds_off=-3600.0)))
    assert found.state == "warning"
    assert "3,600 s ahead of the server's" in found.cause or "3,601 s ahead" in found.cause


def test_a_server_that_answers_with_something_else_is_told(examine, to, serve, mutual):
    found = examine("server_tls", with_settings=to(serve(mutual(), answer=b"220 smtp ready\r\n")))
    assert (found.state, "sent no answer" in found.cause) == ("warning", True)


def test_plain_http_is_left_to_the_transport_check(examine, to, serve):
    assert examine("server_tls", with_settings=to(serve(), scheme="http")).state == "skipped"


def test_port_and_host_come_from_the_address():
    assert (address_of("https://a.example:1/x").port, address_of("https://[::1]").host) == (1, "::1")
