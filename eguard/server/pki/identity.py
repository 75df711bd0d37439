"""Who a certificate is: one name, of one agent, in a certificate that was made for clients.

TLS has checked the signature and the dates by then. What is decided here is whom the certificate names, and that it
names nobody else: a certificate with two names is nobody's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from eguard.wire.agent_name import agent_id_of_name

#: What reading a certificate or a request raises when it is malformed.
MALFORMED: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What the server needs of an agent's certificate.

    Parameters
    ----------
    agent_id : str
        Whom it names.
    serial_hex : str
        Serial number in hexadecimal, as the database keeps it.
    not_after : float
        Until when it holds, in seconds since the epoch.
    """

    agent_id: str
    serial_hex: str
    not_after: float


class PeerCertificate:
    """The certificate that a connection showed, read when somebody first asks; what was read takes its place.

    Parameters
    ----------
    der : bytes
        As the other side sent it.

    Attributes
    ----------
    der : bytes or None
        The same, until it was read.
    """

    __slots__ = ("_facts", "der")

    def __init__(self, der: bytes) -> None:
        self.der: bytes | None = der
        self._facts: CertificateFacts | None = None

    def facts(self) -> CertificateFacts | None:
        """Return whom it names; none if it is no agent's."""
        if self.der is not None:
            self._facts, self.der = agent_id_of(self.der), None
        return self._facts


def agent_id_of(der: bytes) -> CertificateFacts | None:
    """Return whom a certificate names; none if it is no agent's."""
    try:
        return facts_of(x509.load_der_x509_certificate(der))
    except MALFORMED:
        return None


def facts_of(certificate: x509.Certificate) -> CertificateFacts | None:
    """Return whom a certificate names; none if it is no agent's.

    Raises
    ------
    ValueError, TypeError
        It is malformed; see `MALFORMED`.
    """
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return None
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage or len(names) != 1:
        return None
    agent_id = agent_id_in(names[0])
    if agent_id is None:
        return None
    return CertificateFacts(agent_id, serial_hex(certificate), certificate.not_valid_after_utc.timestamp())


def agent_id_in(name: x509.GeneralName) -> str | None:
    """Return the agent that one subject alternative name names, if it does."""
    if isinstance(name, x509.DNSName):
        return agent_id_of_name("dns", name.value)
    if isinstance(name, x509.UniformResourceIdentifier):
        return agent_id_of_name("uri", name.value)
    return None


def serial_hex(certificate: x509.Certificate) -> str:
    """Return a certificate's serial number as the database keeps it."""
    return format(certificate.serial_number, "x")
