import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from eguard.server.pki.authority import Authority

SERVER = "https://localhost:8443"


@pytest.fixture
def secured(settings, authority):
    """Return settings with a certificate of the authority; dates and names as asked for."""

    def make(*names, server=SERVER, **dates):
        certificate, key = authority.issue(*(names or ("agent-7",)), **dates)
        return settings(server=server, tls_cert=certificate, tls_key=key, tls_ca=authority.file)

    return make


@pytest.mark.parametrize("name", ["transport", "tls_files", "tls_certificate", "tls_authority"])
def test_a_good_set_up_is_fine(examine, secured, name):
    assert examine(name, with_settings=secured()).state == "ok"


@pytest.mark.parametrize("name", ["transport", "tls_files", "tls_certificate", "tls_authority"])
def test_an_agent_that_works_alone_needs_none(examine, name):
    assert examine(name).state == "skipped"


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ("http://localhost:8443", "non-mTLS transport: EGUARD_SERVER=http://localhost:8443 is not encrypted"),
        ("HTTP://localhost", "non-mTLS transport"),
        ("localhost:8443", "is no https address"),
        ("ftp://localhost", "is no https address"),
    ],
    ids=["http", "capitals", "no scheme", "another scheme"],
)
def test_only_mutual_tls_will_do(examine, secured, server, says):
    found = examine("transport", with_settings=secured(server=server))
    assert (found.state, says in found.cause) == ("failed", True), found


def test_missing_settings_are_named(examine, settings, authority):
    found = examine("transport", with_settings=settings(server=SERVER, tls_ca=authority.file))
    assert (found.state, found.cause) == (
        "failed",
        "non-mTLS transport: EGUARD_TLS_CERT, EGUARD_TLS_KEY are not set, and there is no enrolment to take the place",
    )


def test_files_that_are_missing_open_or_no_files_are_told(examine, secured, tmp_path):
    good = secured()
    good.tls_key.chmod(0o640)
    found = examine("tls_files", with_settings=good)
    assert (found.state, "has mode 0640" in found.cause) == ("failed", True)
    assert f"sudo chmod 600 {good.tls_key}" in found.remedy
    good.tls_key.unlink()
    assert "EGUARD_TLS_KEY" in examine("tls_files", with_settings=good).cause
    folder = good.model_copy(update={"tls_ca": tmp_path})
    assert "EGUARD_TLS_CA" in examine("tls_files", with_settings=folder.model_copy(update={"tls_key": None})).cause


@pytest.mark.parametrize(
    ("dates", "state", "says"),
    [
        ({"days": 29.5}, "warning", "expires in 29."),
        ({"days": -0.5, "begins_days": -10}, "failed", "expired 0.5 days ago"),
        ({"begins_days": 3}, "failed", "not yet valid: it begins in 3.0 days"),
    ],
    ids=["soon", "expired", "not yet"],
)
def test_dates_of_the_certificate(examine, secured, dates, state, says):
    found = examine("tls_certificate", with_settings=secured(**dates))
    assert (found.state, says in found.cause) == (state, True), found
    assert found.remedy


def test_a_key_of_another_certificate_is_told(examine, secured):
    mixed = secured().model_copy(update={"tls_key": secured().tls_key})
    found = examine("tls_certificate", with_settings=mixed)
    assert (found.state, "does not belong to the certificate" in found.cause) == ("failed", True)


def test_a_certificate_for_another_agent_is_told(examine, secured):
    found = examine("tls_certificate", with_settings=secured("agent-8"))
    assert (found.state, "names agent-8, and this agent is agent-7" in found.cause) == ("warning", True)


def test_a_key_with_a_passphrase_is_told(examine, secured):
    good = secured()
    key = ec.generate_private_key(ec.SECP256R1())
    good.tls_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    assert "passphrase" in examine("tls_certificate", with_settings=good).cause


@pytest.mark.parametrize("file", ["tls_cert", "tls_key", "tls_ca"])
@pytest.mark.parametrize(
    "content", [b"", b"\x30\x82garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n"], ids=["empty", "der", "cut"]
)
def test_bytes_that_are_no_pem_are_told(examine, secured, file, content):
    good = secured()
    getattr(good, file).write_bytes(content)
    found = examine("tls_authority" if file == "tls_ca" else "tls_certificate", with_settings=good)
    assert found.state == "failed"
    assert str(getattr(good, file)) in found.cause
    assert found.remedy


def test_an_authority_that_has_expired_is_told(examine, settings, new_authority):
    old = new_authority(days=-1.0, begins_days=-10.0)
    found = examine("tls_authority", with_settings=settings(server=SERVER, tls_ca=old.file))
    assert (found.state, "the authority CN=test authority expired" in found.cause) == ("failed", True)


def test_an_expired_authority_comes_before_one_that_will_expire(examine, settings, new_authority, tmp_path):
    both = tmp_path / "both.pem"
    soon, old = new_authority(days=5.0), new_authority(days=-1.0, begins_days=-10.0)
    both.write_bytes(soon.file.read_bytes() + old.file.read_bytes())
    assert examine("tls_authority", with_settings=settings(server=SERVER, tls_ca=both)).state == "failed"


def test_a_certificate_of_another_authority_does_not_verify(examine, secured, new_authority):
    other = new_authority(name="another authority")
    found = examine("tls_authority", with_settings=secured().model_copy(update={"tls_ca": other.file}))
    assert found.state == "failed"
    assert "unable to get local issuer certificate" in found.cause


def test_a_certificate_for_servers_is_refused_as_a_clients(examine, settings, authority):
    from cryptography.x509 import ExtendedKeyUsageOID

    certificate, key = authority.issue("agent-7", usage=ExtendedKeyUsageOID.SERVER_AUTH)
    found = examine(
        "tls_authority",
        with_settings=settings(server=SERVER, tls_cert=certificate, tls_key=key, tls_ca=authority.file),
    )
    assert (found.state, "purpose" in found.cause) == ("failed", True), found
    assert "clientAuth" in found.remedy


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("agent", ""),
        ("agent of another authority", "unable to get local issuer certificate"),
        ("server of the agents' name", "purpose"),
    ],
)
def test_the_servers_own_authority_is_known_by_its_key(examine, settings, tmp_path, kind, words):
    """Agents trust it by another name than the one that signs their certificates."""
    now = time.time()
    authority, signing_key = Authority.create(now)
    issuer = {
        "agent": authority,
        "agent of another authority": Authority.create(now)[0],
        "server of the agents' name": Authority(authority.agents_certificate, authority.certificate, signing_key),
    }[kind]
    key = ec.generate_private_key(ec.SECP256R1())
    if kind.startswith("agent"):
        certificate = issuer.issue_agent(key.public_key(), "agent-7", now).pem.encode()
    else:
        certificate = issuer.issue_server(key.public_key(), ["agent-7"], now).public_bytes(Encoding.PEM)
    identity, trusted = tmp_path / "agent.pem", tmp_path / "ca.pem"
    identity.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate)
    identity.chmod(0o600)
    trusted.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    found = examine(
        "tls_authority", with_settings=settings(server=SERVER, tls_cert=identity, tls_key=identity, tls_ca=trusted)
    )
    assert (found.state, words in found.cause) == ("failed" if words else "ok", True), found
    assert words or "the agent's certificate verifies against it" in found.cause
