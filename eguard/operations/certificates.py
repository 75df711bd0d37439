"""Reading certificates and keys, and asking OpenSSL whether a server would accept them."""

from __future__ import annotations

import contextlib
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from eguard.errors import ConfigError

_MAX_FILE_BYTES: Final = 1_000_000
# X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY of OpenSSL.
_NO_ISSUER: Final = 20
_ROUNDS: Final = 8


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a PEM file, in its order.

    Raises
    ------
    ConfigError
        The file holds none, or bytes that are no certificate.
    """
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise ConfigError(
            f"{path} holds no certificate in PEM: {error}",
            remedy="It must begin with -----BEGIN CERTIFICATE-----; from DER: openssl x509 -inform der -in FILE",
        ) from error


def public_key_of(path: Path) -> bytes:
    """Return the public half of a private key file, as DER, to compare it with a certificate's.

    Raises
    ------
    ConfigError
        The file is no PEM key, or a passphrase protects it.
    """
    try:
        key = load_pem_private_key(_read(path), password=None)
    except TypeError as error:
        raise ConfigError(
            f"{path} is protected by a passphrase, which no agent can type",
            remedy=f"Store it without one, mode 0600: openssl pkey -in {path} -out NEWFILE",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{path} holds no private key in PEM: {error}", remedy="It must begin with -----BEGIN PRIVATE KEY-----."
        ) from error
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def public_key_in(certificate: x509.Certificate) -> bytes:
    """Return the public key of a certificate, as DER.

    Raises
    ------
    ConfigError
        The key is of a kind that cannot be read.
    """
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"the certificate's key cannot be read: {error}", remedy="Issue it for an EC (P-256) or RSA key."
        ) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_MAX_FILE_BYTES)
    except PermissionError:
        raise  # what is closed to this user says nothing about the agent
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", remedy="Correct the setting.") from error


def names_of(certificate: x509.Certificate) -> list[str]:
    """Return the names that a certificate speaks for: its alternative names, else its common name."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return [str(each.value) for each in common]
    return [str(name.value) for name in names]


def days_left(certificate: x509.Certificate, now_unix: float) -> float:
    """Return the days until a certificate expires, negative once it has."""
    return (certificate.not_valid_after_utc.timestamp() - now_unix) / 86_400.0


def begins_in_days(certificate: x509.Certificate, now_unix: float) -> float:
    """Return the days until a certificate begins to be valid, negative once it is."""
    return (certificate.not_valid_before_utc.timestamp() - now_unix) / 86_400.0


def date_of(moment: datetime) -> str:
    """Return a date as people read it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def why_refused(certificate: Path, key: Path, authority: Path) -> str:
    """Return why a server that trusts `authority` would refuse this certificate as a client's; empty if it would not.

    Both ends of a TLS handshake run in memory, so the verdict is OpenSSL's own: chain, dates, purpose and strength. An
    authority that speaks of agents by a name of its own, as this project's do, is known by its key.

    Raises
    ------
    ssl.SSLError
        OpenSSL cannot load the files.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    server.load_verify_locations(authority)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE  # only the client's certificate is judged here; no byte leaves this process
    client.load_cert_chain(certificate, key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_side=False),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(_ROUNDS):
        for end in ends:
            try:
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
            except ssl.SSLCertVerificationError as error:
                if error.verify_code != _NO_ISSUER or not _is_signed_by_key_of(certificate, authority):
                    return error.verify_message
                return "" if _is_for_clients(certificate) else "unsuitable certificate purpose"
    return ""


def _is_signed_by_key_of(certificate: Path, authority: Path) -> bool:
    own = read_certificates(certificate)[0]
    for each in read_certificates(authority):
        key, algorithm = each.public_key(), own.signature_algorithm_parameters
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(algorithm, ec.ECDSA):
            with contextlib.suppress(InvalidSignature):
                key.verify(own.signature, own.tbs_certificate_bytes, algorithm)
                return True
    return False


def _is_for_clients(certificate: Path) -> bool:
    try:
        usage = read_certificates(certificate)[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage
