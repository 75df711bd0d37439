"""The authority: it signs agents' and servers' certificates, and the authority that comes after it.

Everything is decided here, nothing is taken from a request but its key: one name, one use, the dates. Keys are on
P-256; a certificate begins five minutes early, as clocks differ, and never outlives its authority.

An authority has one key and two names: one for what it says of servers, which agents trust, and one for what it says of
agents, which servers trust. Whoever holds the certificate of whoever signed their own, OpenSSL has send it along with
every handshake, and the other side read and keep it: with one name for both that would be 5 KiB of an agent's
connection for nothing (docs/adr/0012-server-stack.md).

References
----------
RFC 5280, sections 4.2.1 (extensions) and 3.2 (paths of certification).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from eguard.errors import ConfigError
from eguard.server.pki.identity import serial_hex
from eguard.server.pki.request import alternative_name

AGENT_DAYS: Final = 90
SERVER_DAYS: Final = 398
AUTHORITY_DAYS: Final = 3650

_DAY_SECONDS: Final = 86_400.0
_BACKDATED_SECONDS: Final = 300.0
_MAX_COMMON_NAME_BYTES: Final = 64

IssuedFor = Literal["agent", "renewal", "operator"]


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """An agent's certificate, and what the database keeps of it."""

    pem: str
    serial: str
    fingerprint: str
    not_before: float
    not_after: float


class Authority:
    """A certificate authority.

    Parameters
    ----------
    certificate : x509.Certificate
        Its own, by the name that servers' certificates say.
    agents_certificate : x509.Certificate
        Its own, by the name that agents' certificates say.
    key : ec.EllipticCurvePrivateKey
        The key that it signs with.
    """

    def __init__(
        self, certificate: x509.Certificate, agents_certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self.certificate = certificate
        self.agents_certificate = agents_certificate
        self._key = key

    @classmethod
    def create(cls, now: float) -> tuple[Authority, ec.EllipticCurvePrivateKey]:
        """Return a new authority that signed itself, and its key for whoever keeps it."""
        key = ec.generate_private_key(ec.SECP256R1())
        # Two authorities of one server live side by side during a rotation, and are told apart by their names.
        number = f"{x509.random_serial_number():040x}"
        certificate = _own(_name(f"eGuard authority {number}"), key, now, path_length=1)
        agents_certificate = _own(_name(f"eGuard agents {number}"), key, now, path_length=0)
        return cls(certificate, agents_certificate, key), key

    @property
    def not_after(self) -> float:
        """Until when the authority itself holds."""
        return self.certificate.not_valid_after_utc.timestamp()

    def issue_agent(
        self, key: ec.EllipticCurvePublicKey, agent_id: str, now: float, days: float = AGENT_DAYS
    ) -> IssuedCertificate:
        """Return a certificate that lets its holder speak for one agent."""
        names = x509.SubjectAlternativeName([alternative_name(agent_id)])
        certificate = self._leaf(
            key, agent_id, names, self.agents_certificate, usage=ExtendedKeyUsageOID.CLIENT_AUTH, now=now, days=days
        )
        return IssuedCertificate(
            pem=certificate.public_bytes(Encoding.PEM).decode(),
            serial=serial_hex(certificate),
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            not_before=certificate.not_valid_before_utc.timestamp(),
            not_after=certificate.not_valid_after_utc.timestamp(),
        )

    def issue_server(
        self, key: ec.EllipticCurvePublicKey, names: Sequence[str], now: float, days: float = SERVER_DAYS
    ) -> x509.Certificate:
        """Return a certificate for a server that is reached by `names`: DNS names and IP addresses.

        Raises
        ------
        ConfigError
            There is no name, or one that cannot be in a certificate.
        """
        if not names:
            raise ConfigError("the server's certificate needs a name", remedy="Name it: --name server.example")
        alternative = x509.SubjectAlternativeName([_server_name(name) for name in names])
        return self._leaf(
            key, names[0], alternative, self.certificate, usage=ExtendedKeyUsageOID.SERVER_AUTH, now=now, days=days
        )

    def vouch_for(self, successor: Authority, now: float) -> x509.Certificate:
        """Return a certificate of the next authority's key, signed by this one.

        A server sends it along, so that an agent that knows only this authority believes what the next one signed.
        """
        key = successor.certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ConfigError("the next authority's key is on no elliptic curve", remedy="Make it with this program.")
        end = min(self.not_after, successor.not_after)
        return (
            _builder(successor.certificate.subject, self.certificate.subject, key, now=now, not_after=end)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_authority_usage(), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(self._identifier(), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _leaf(
        self,
        key: ec.EllipticCurvePublicKey,
        title: str,
        names: x509.SubjectAlternativeName,
        issuer: x509.Certificate,
        *,
        usage: x509.ObjectIdentifier,
        now: float,
        days: float,
    ) -> x509.Certificate:
        subject = _name(title)
        end = min(now + days * _DAY_SECONDS, self.not_after)
        return (
            _builder(subject, issuer.subject, key, now=now, not_after=end)
            .add_extension(names, critical=not list(subject))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(self._identifier(), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())


def _own(name: x509.Name, key: ec.EllipticCurvePrivateKey, now: float, *, path_length: int) -> x509.Certificate:
    """Return a certificate that an authority signs for itself."""
    public = key.public_key()
    return (
        _builder(name, name, public, now=now, not_after=now + AUTHORITY_DAYS * _DAY_SECONDS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_authority_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, now: float, not_after: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(int(now - _BACKDATED_SECONDS), UTC))
        .not_valid_after(datetime.fromtimestamp(int(not_after), UTC))
    )


def _name(text: str) -> x509.Name:
    """Return a subject for people to read; a text that has no room in one is left out, as the other names say it."""
    if not 1 <= len(text.encode()) <= _MAX_COMMON_NAME_BYTES:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _server_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name.encode("idna").decode())
    except (UnicodeError, ValueError) as error:
        raise ConfigError(f"{name!r} is no DNS name and no IP address", remedy="Write it as clients do.") from error


def _authority_usage() -> x509.KeyUsage:
    return _usage(key_cert_sign=True, crl_sign=True)


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
