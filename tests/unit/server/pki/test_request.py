"""Requests for certificates that ask for more, or for something else, than the one name."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from eguard.errors import ServerRefusalError
from eguard.server.pki.request import make_key_and_request, read_request

SHA256 = hashes.SHA256()
KEY = ec.generate_private_key(ec.SECP256R1())


def request(*names, common_name=None, key=KEY, hashed=SHA256):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashed).public_bytes(Encoding.PEM).decode()


def refused(csr, agent_id="web-7"):
    with pytest.raises(ServerRefusalError) as caught:
        read_request(csr, agent_id)
    assert caught.value.status == 422
    return caught.value.reason


@pytest.mark.parametrize("agent_id", ["web-7", "front desk"])
def test_an_own_request_is_read(agent_id):
    _, csr = make_key_and_request(agent_id)
    assert isinstance(read_request(csr, agent_id), ec.EllipticCurvePublicKey)


def test_the_key_is_the_requests(tmp_path):
    assert read_request(request(x509.DNSName("web-7")), "web-7") == KEY.public_key()
    assert read_request(request(common_name="web-7"), "web-7") == KEY.public_key()


def test_a_name_that_is_no_dns_name_may_be_asked_for_as_one():
    assert read_request(request(x509.DNSName("front desk")), "front desk") == KEY.public_key()


@pytest.mark.parametrize(
    "csr",
    [
        request(),
        request(x509.DNSName("web-8")),
        request(x509.DNSName("web-7"), x509.DNSName("web-8")),
        request(x509.DNSName("web-7"), common_name="web-8"),
        request(common_name="web-8"),
        request(x509.DNSName("WEB-7")),
        request(x509.DNSName("web-7"), x509.RFC822Name("root@example.com")),
        request(x509.UniformResourceIdentifier("urn:eguard:agent:web-7")),
    ],
    ids=["none", "other", "two", "other-common-name", "only-other-common-name", "case", "mail", "second-spelling"],
)
def test_a_forged_name_is_refused(csr):
    assert refused(csr) == "csr_name"


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (rsa.generate_private_key(65537, 2048), SHA256),
        (ec.generate_private_key(ec.SECP256K1()), SHA256),
        (ec.generate_private_key(ec.SECP521R1()), SHA256),
        (ed25519.Ed25519PrivateKey.generate(), None),
    ],
    ids=["rsa", "secp256k1", "p-521", "ed25519"],
)
def test_keys_of_other_kinds_are_refused(key, hashed):
    assert refused(request(x509.DNSName("web-7"), key=key, hashed=hashed)) == "csr_key"


def test_a_request_that_its_key_did_not_sign_is_refused():
    der = x509.load_pem_x509_csr(request(x509.DNSName("web-7")).encode()).public_bytes(Encoding.DER)
    forged = bytearray(der)
    forged[-1] ^= 1
    csr = "-----BEGIN CERTIFICATE REQUEST-----\n" + base64.b64encode(forged).decode() + "\n"
    assert refused(csr + "-----END CERTIFICATE REQUEST-----\n") == "csr_signature"


@pytest.mark.parametrize("csr", ["x", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"])
def test_what_is_no_request_is_refused(csr):
    assert refused(csr) == "invalid_csr"
