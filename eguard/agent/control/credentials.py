"""Who this agent is on the network, and whom it believes: three PEM files, read anew when they change.

An enrolment keeps certificate and private key in one file, so that both change in one rename: no crash leaves a
certificate beside the key of another.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

from eguard.errors import ConfigError
from eguard.settings import AgentSettings

IDENTITY_NAME: Final = "agent.pem"
AUTHORITY_NAME: Final = "ca.pem"
_MAX_PEM_BYTES: Final = 262_144
_REMEDY: Final = (
    "Enrol this machine: eguard agent enroll. Or name readable PEM files: "
    "EGUARD_TLS_CERT, EGUARD_TLS_KEY, EGUARD_TLS_CA."
)

#: What tells one state of the files from the next.
Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The three files of mutual TLS; `certificate` and `key` may be the same file."""

    certificate: Path
    key: Path
    authority: Path

    @classmethod
    def of(cls, settings: AgentSettings) -> TlsFiles:
        """Return the files of the settings, those of the enrolment in the place of what is not set."""
        identity = settings.tls_folder / IDENTITY_NAME
        return cls(
            certificate=settings.tls_cert or identity,
            key=settings.tls_key or settings.tls_cert or identity,
            authority=settings.tls_ca or settings.tls_folder / AUTHORITY_NAME,
        )

    def stamp(self) -> Stamp:
        """Return a value that changes when one of the files does; it costs three looks at names."""
        return tuple(_stamp(path) for path in (self.certificate, self.key, self.authority))

    def context(self) -> ssl.SSLContext:
        """Return a context that presents the certificate and believes the authority alone.

        Raises
        ------
        ConfigError
            A file is missing, unreadable, no PEM, or certificate and key do not belong together.
        """
        context = trusting_context(self.authority)
        for path in (self.certificate, self.key):
            _refuse_unreadable(path)
        try:
            # Without a password of its own OpenSSL would ask the terminal for one.
            context.load_cert_chain(self.certificate, self.key, password="")
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(
                f"the certificate {self.certificate} and the key {self.key} cannot be used: {error}", remedy=_REMEDY
            ) from error
        return context

    def certificate_span(self) -> tuple[datetime, datetime]:
        """Return from when until when the certificate is valid, UTC.

        Raises
        ------
        ConfigError
            There is no certificate in the file.
        """
        certificate = read_certificate(self.certificate)
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def trusting_context(authority: Path) -> ssl.SSLContext:
    """Return a context that believes one authority, checks names, and speaks TLS 1.2 or later.

    Raises
    ------
    ConfigError
        The authority's file is missing, unreadable or no PEM.
    """
    _refuse_unreadable(authority)
    try:
        context = ssl.create_default_context(cafile=authority)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{authority} holds no certificate of an authority: {error}", remedy=_REMEDY) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def read_certificate(path: Path) -> x509.Certificate:
    """Return the first certificate of a PEM file.

    Raises
    ------
    ConfigError
        The file cannot be read or holds none.
    """
    _refuse_unreadable(path)
    try:
        return x509.load_pem_x509_certificates(path.read_bytes()[:_MAX_PEM_BYTES])[0]
    except ValueError as error:
        raise ConfigError(f"{path} holds no certificate: {error}", remedy=_REMEDY) from error


def server_address(server: str) -> tuple[str, int, str]:
    """Return host, port and path prefix of a server's address.

    Raises
    ------
    ConfigError
        It is no https address, or carries more than a host, a port and a path.

    Examples
    --------
    >>> server_address("https://eguard.example:8443/")
    ('eguard.example', 8443, '')
    >>> server_address("http://eguard.example:8443")
    Traceback (most recent call last):
        ...
    eguard.errors.ConfigError: the server's address 'http://eguard.example:8443' is not https://NAME:PORT
    """
    try:
        parts = urlsplit(server)
        host, port = parts.hostname or "", parts.port or 443
    except ValueError:
        host, port, parts = "", 0, urlsplit("")
    if parts.scheme != "https" or not host or parts.username or parts.query or parts.fragment:
        raise ConfigError(
            f"the server's address {server[:200]!r} is not https://NAME:PORT",
            remedy="There is no way without TLS. Write EGUARD_SERVER=https://eguard.example:8443",
            server=server[:200],
        )
    return host, port, parts.path.rstrip("/")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _refuse_unreadable(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            stream.read(1)
    except OSError as error:
        raise ConfigError(
            f"the TLS file {path} cannot be read: {error.strerror or error}", remedy=_REMEDY, path=str(path)
        ) from error
