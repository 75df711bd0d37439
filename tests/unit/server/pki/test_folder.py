"""The authority's folder, checked by OpenSSL's own verification over real handshakes."""

import contextlib
import ssl
import stat
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from eguard.errors import ConfigError
from eguard.server.pki import PkiFolder, agent_id_of, make_key_and_request, read_request
from eguard.server.pki.authority import Authority
from eguard.server.pki.identity import PeerCertificate

NOW = 1_790_000_000.0


@pytest.fixture
def folder(tmp_path, now):
    folder = PkiFolder(tmp_path / "pki")
    folder.create(["localhost", "127.0.0.1"], now)
    return folder


@pytest.fixture
def now():
    return time.time()


def handshake(server_context, client_context, name="localhost"):
    """Shake hands in memory; return the certificate that the server saw."""
    return shake_hands(server_context, client_context, name)[1].getpeercert(binary_form=True)


def shake_hands(server_context, client_context, name="localhost"):
    """Return both ends, client first."""
    client_in, client_out, server_in, server_out = (ssl.MemoryBIO() for _ in range(4))
    client = client_context.wrap_bio(client_in, client_out, server_hostname=name)
    server = server_context.wrap_bio(server_in, server_out, server_side=True)
    for _ in range(4):
        for side, out, other in ((client, client_out, server_in), (server, server_out, client_in)):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            other.write(out.read())
    return client, server


def server_context(folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder.server_file, folder.server_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(folder.agents_trust_file)
    return context


def client_context(tmp_path, folder, trust_pem, agent_id, now):
    key, request = make_key_and_request(agent_id)
    issued = folder.authority().issue_agent(read_request(request, agent_id), agent_id, now)
    path = tmp_path / "agent.pem"
    path.write_bytes(key + issued.pem.encode())
    context = ssl.create_default_context(cadata=trust_pem)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_cert_chain(path)
    return context


@pytest.mark.parametrize("agent_id", ["web-7.example", "front desk", "naïve/кошка", "a" * 128])
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_server_and_agent_believe_each_other(tmp_path, folder, now, agent_id, name):
    client = client_context(tmp_path, folder, folder.trust_pem(), agent_id, now)
    facts = agent_id_of(handshake(server_context(folder), client, name))
    assert facts.agent_id == agent_id
    assert facts.not_after == pytest.approx(now + 90 * 86_400, abs=1)


def test_a_server_is_not_believed_under_another_name(tmp_path, folder, now):
    client = client_context(tmp_path, folder, folder.trust_pem(), "web-7", now)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(server_context(folder), client, "server.example")


def test_a_certificate_of_another_authority_is_refused(tmp_path, folder, now):
    other = PkiFolder(tmp_path / "other")
    other.create(["localhost"], now)
    client = client_context(tmp_path, other, folder.trust_pem(), "web-7", now)
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):
        handshake(server_context(folder), client)


@pytest.mark.parametrize(
    ("is_trusted_for_agents", "why"), [(False, "unable to get local issuer"), (True, "unsuitable certificate purpose")]
)
def test_an_agents_certificate_makes_no_server(tmp_path, folder, now, is_trusted_for_agents, why):
    key, request = make_key_and_request("localhost")
    issued = folder.authority().issue_agent(read_request(request, "localhost"), "localhost", now)
    (tmp_path / "forged.pem").write_bytes(key + issued.pem.encode())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "forged.pem")
    trusted = folder.trust_pem() + folder.agents_trust_file.read_text() * is_trusted_for_agents
    with pytest.raises(ssl.SSLCertVerificationError, match=why):
        handshake(server, ssl.create_default_context(cadata=trusted))


def test_neither_side_sends_its_authority_along_with_its_certificate(tmp_path, folder, now):
    client = client_context(tmp_path, folder, folder.trust_pem(), "web-7", now)
    for end in shake_hands(server_context(folder), client):
        # Public from Python 3.13 on.
        assert len(end._sslobj.get_unverified_chain()) == 1


def test_what_an_authority_says_of_agents_counts_for_no_server(tmp_path, folder, now):
    authority = folder.authority()
    key = ec.generate_private_key(ec.SECP256R1())
    forged = Authority(authority.agents_certificate, authority.certificate, authority._key)
    certificate = forged.issue_server(key.public_key(), ["localhost"], now)
    (tmp_path / "forged.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "forged.pem")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        handshake(server, ssl.create_default_context(cadata=folder.trust_pem()))


def test_the_servers_certificate_makes_no_agent(folder):
    assert agent_id_of(folder.server_chain()[0].public_bytes(Encoding.DER)) is None


def test_keys_are_readable_by_their_owner_alone(folder):
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.path.iterdir()}
    assert modes == {"authority.pem": 0o600, "server.pem": 0o600, "ca.pem": 0o644, "agents-ca.pem": 0o644}
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_an_authority_is_never_overwritten(folder, now):
    before = folder.authority_file.read_bytes()
    with pytest.raises(ConfigError, match="already"):
        folder.create(["localhost"], now)
    assert folder.authority_file.read_bytes() == before


@pytest.mark.parametrize("names", [[], ["a..b"], ["ok.example", "x" * 64]], ids=["none", "empty-label", "long-label"])
def test_names_that_cannot_be_in_a_certificate_leave_nothing_behind(tmp_path, names):
    folder = PkiFolder(tmp_path / "pki")
    with pytest.raises(ConfigError):
        folder.create(names, NOW)
    assert not folder.path.exists()


def test_a_passphrase_guards_the_authoritys_key_and_no_other(tmp_path, now):
    PkiFolder(tmp_path, "open sesame").create(["localhost"], now)
    assert b"ENCRYPTED" in (tmp_path / "authority.pem").read_bytes()
    assert PkiFolder(tmp_path, "open sesame").authority().not_after > now
    for wrong in ("", "open barley"):
        with pytest.raises(ConfigError) as caught:
            PkiFolder(tmp_path, wrong).authority()
        assert "EGUARD_PKI_PASSPHRASE" in caught.value.remedy
        assert "sesame" not in repr(caught.value)
    server_context(PkiFolder(tmp_path))


def test_no_certificate_outlives_its_authority(folder, now):
    _, request = make_key_and_request("a")
    issued = folder.authority().issue_agent(read_request(request, "a"), "a", now, days=36_500)
    assert issued.not_after == folder.authority().not_after


def test_rotation_keeps_the_servers_names_and_changes_its_key(tmp_path, folder, now):
    before = folder.server_chain()[0]
    folder.renew_server(None, now)
    after = folder.server_chain()[0]
    assert before.public_key() != after.public_key()
    assert folder.server_names() == ["localhost", "127.0.0.1"]


def test_while_authorities_change_old_and_new_agents_and_the_server_believe_each_other(tmp_path, folder, now):
    old_trust = folder.trust_pem()
    old = client_context(tmp_path, folder, old_trust, "old", now)
    folder.succeed(now)
    assert agent_id_of(handshake(server_context(folder), old)).agent_id == "old"
    new = client_context(tmp_path, folder, folder.trust_pem(), "new", now)
    assert agent_id_of(handshake(server_context(folder), new)).agent_id == "new"
    folder.renew_server(None, now)
    assert agent_id_of(handshake(server_context(folder), old)).agent_id == "old"


def test_a_retired_authoritys_certificates_end(tmp_path, folder, now):
    old = client_context(tmp_path, folder, folder.trust_pem(), "old", now)
    folder.succeed(now)
    new = client_context(tmp_path, folder, folder.trust_pem(), "new", now)
    assert len(folder.retire(now)) == 1
    assert len(folder.authorities()) == 1
    with pytest.raises(ssl.SSLError):
        handshake(server_context(folder), old)
    assert agent_id_of(handshake(server_context(folder), new)).agent_id == "new"


def test_an_open_folder_follows_a_rotation_by_another_process(folder, now):
    before = folder.authority()
    assert folder.authority() is before
    PkiFolder(folder.path).succeed(now)
    assert folder.authority().certificate.serial_number != before.certificate.serial_number


def test_an_authority_signs_certificates_and_nothing_else(folder):
    certificate = folder.authority().certificate
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 1)
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)


def test_files_that_are_no_pair_are_refused(tmp_path, folder, now):
    other = PkiFolder(tmp_path / "other")
    other.create(["localhost"], now)
    mine, theirs = folder.authority_file.read_text(), other.authority_file.read_text()
    begin = "-----BEGIN CERTIFICATE-----"
    folder.authority_file.write_text(mine.split(begin)[0] + begin + theirs.split(begin)[1])
    with pytest.raises(ConfigError, match="do not belong together"):
        PkiFolder(folder.path).authority()


def test_a_peers_certificate_is_read_once_and_its_bytes_are_not_kept(folder):
    authority = folder.authority()
    key = ec.generate_private_key(ec.SECP256R1())
    der = ssl.PEM_cert_to_DER_cert(authority.issue_agent(key.public_key(), "web-1", time.time()).pem)
    peer = PeerCertificate(der)
    first = peer.facts()
    assert first == agent_id_of(der)
    assert first.agent_id == "web-1"
    assert peer.der is None
    assert peer.facts() is first
    assert PeerCertificate(b"no certificate").facts() is None
