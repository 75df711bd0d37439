"""Whom a certificate names."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from eguard.server.pki.identity import agent_id_of
from eguard.wire.agent_name import agent_id_of_name, certificate_name

KEY = ec.generate_private_key(ec.SECP256R1())
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)


def certificate(*names, usage=CLIENT, common_name="web-7"):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(0xABC)
        .not_valid_before(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2026, 3, 1, tzinfo=dt.UTC))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def test_facts_are_those_of_the_certificate():
    facts = agent_id_of(certificate(x509.DNSName("web-7")))
    assert (facts.agent_id, facts.serial_hex) == ("web-7", "abc")
    assert facts.not_after == dt.datetime(2026, 3, 1, tzinfo=dt.UTC).timestamp()


def test_case_is_kept():
    assert agent_id_of(certificate(x509.DNSName("Web-7"))).agent_id == "Web-7"


@pytest.mark.parametrize(
    "names",
    [
        (),
        (x509.DNSName("web-7"), x509.DNSName("web-8")),
        (x509.DNSName("web-7"), x509.UniformResourceIdentifier("urn:eguard:agent:front%20desk")),
        (x509.DNSName("*.example"),),
        (x509.UniformResourceIdentifier("https://web-7/"),),
        (x509.UniformResourceIdentifier("urn:eguard:agent:web-7"),),
        (x509.UniformResourceIdentifier("urn:eguard:agent:front%20Desk%2e"),),
        (x509.UniformResourceIdentifier("urn:eguard:agent:"),),
        (x509.RFC822Name("web-7@example.com"),),
    ],
    ids=["none", "two", "two-kinds", "wildcard", "other-uri", "dns-name-as-uri", "second-spelling", "empty", "mail"],
)
def test_a_certificate_that_does_not_name_exactly_one_agent_is_nobodys(names):
    assert agent_id_of(certificate(*names)) is None


@pytest.mark.parametrize("usage", [(), (ExtendedKeyUsageOID.SERVER_AUTH,)], ids=["none", "server"])
def test_a_certificate_that_was_not_made_for_clients_is_nobodys(usage):
    assert agent_id_of(certificate(x509.DNSName("web-7"), usage=usage)) is None


@pytest.mark.parametrize("der", [b"", b"0", b"\x30\x82\xff\xff", b"-----BEGIN CERTIFICATE-----"])
def test_bytes_that_are_no_certificate_are_nobodys(der):
    assert agent_id_of(der) is None


def test_every_cut_of_a_certificate_is_nobodys():
    der = certificate(x509.DNSName("web-7"))
    assert all(agent_id_of(der[:size]) is None for size in range(0, len(der), 7))


@given(st.text(min_size=1, max_size=128).filter(lambda name: name.isprintable()))
def test_every_name_has_one_form_and_comes_back(agent_id):
    kind, value = certificate_name(agent_id)
    assert value.isascii()
    assert agent_id_of_name(kind, value) == agent_id
