"""The authority's folder: four files, each replaced whole, the two with a key readable by their owner alone.

========================  =============================================================================================
``authority.pem``         the authority's key and both certificates, and after a rotation its predecessor's voucher
``ca.pem``                every authority whose certificates hold, by its name for servers: for agents to check those
``agents-ca.pem``         the same authorities by their names for agents: for the server to check those
``server.pem``            the server's key, its certificate and what else a client needs to believe it
========================  =============================================================================================

A key lies in one file with its certificate, so that no crash leaves a pair that does not fit.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from eguard.errors import ConfigError
from eguard.server.pki.authority import Authority

_PRIVATE: Final = 0o600
_PUBLIC: Final = 0o644


class PkiFolder:
    """The authority, the authorities that are trusted, and the server's certificate, in a folder.

    Parameters
    ----------
    path : Path
        The folder; `create` makes it.
    passphrase : str
        Encrypts the authority's key; empty: it is not encrypted. The server's own key never is, as the server has to
        start by itself.
    """

    def __init__(self, path: Path, passphrase: str = "") -> None:
        self.path = path
        self._passphrase = passphrase.encode()
        self._lock = threading.Lock()
        self._opened: tuple[tuple[int, int, int], Authority] | None = None

    @property
    def authority_file(self) -> Path:
        """The authority's key and certificate."""
        return self.path / "authority.pem"

    @property
    def trust_file(self) -> Path:
        """Authorities whose certificates hold; what agents are given as EGUARD_TLS_CA."""
        return self.path / "ca.pem"

    @property
    def agents_trust_file(self) -> Path:
        """The same authorities as the server trusts them to speak of agents."""
        return self.path / "agents-ca.pem"

    @property
    def server_file(self) -> Path:
        """The server's key and certificate chain."""
        return self.path / "server.pem"

    def create(self, names: Sequence[str], now: float) -> Authority:
        """Make a new authority, and a certificate for a server that is reached by `names`.

        Raises
        ------
        ConfigError
            There is an authority already, or a name cannot be in a certificate.
        """
        if self.authority_file.exists():
            raise ConfigError(
                f"there is an authority in {self.path} already",
                remedy="Renew it with `eguard server pki rotate`; a new one would make every agent a stranger.",
            )
        authority, key = Authority.create(now)
        self._server_pair(authority, names, now, [])  # a bad name is found before anything is written
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._trust([authority.certificate], [authority.agents_certificate])
        _replace(self.authority_file, self._authority_text(key, authority, []), _PRIVATE)
        self.renew_server(names, now)
        return authority

    def authority(self) -> Authority:
        """Return the authority; it is read again when the file was replaced.

        Raises
        ------
        ConfigError
            There is none, or its key cannot be read with this passphrase.
        """
        with self._lock:
            try:
                status = self.authority_file.stat()
                version = (status.st_mtime_ns, status.st_ino, status.st_size)
                if self._opened is None or self._opened[0] != version:
                    self._opened = (version, self._read_authority())
            except OSError as error:
                raise ConfigError(
                    f"there is no authority in {self.path}: {error.strerror}", remedy="Make one: eguard server pki init"
                ) from error
            return self._opened[1]

    def authorities(self) -> list[x509.Certificate]:
        """Return the authorities whose certificates hold, the present one first."""
        return _certificates(self.trust_file)

    def trust_pem(self) -> str:
        """Return the text of the file that agents check the server against."""
        return _read(self.trust_file).decode()

    def server_chain(self) -> list[x509.Certificate]:
        """Return the server's certificate and those behind it."""
        return _certificates(self.server_file)

    def server_names(self) -> list[str]:
        """Return the names by which the server is reached."""
        names = self.server_chain()[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [str(name.value) for name in names]

    def renew_server(self, names: Sequence[str] | None, now: float) -> x509.Certificate:
        """Give the server a new key and certificate, with the names that it has unless others are given."""
        authority = self.authority()
        vouchers = _certificates(self.authority_file)[2:]
        text, certificate = self._server_pair(authority, names or self.server_names(), now, vouchers)
        _replace(self.server_file, text, _PRIVATE)
        return certificate

    def succeed(self, now: float) -> Authority:
        """Put a new authority in the place of the present one, which stays trusted until `retire`.

        An agent that knows the present authority alone goes on believing the server, which shows it what the present
        one says of the new; agents learn the new one when they renew their certificate.
        """
        present = self.authority()
        successor, key = Authority.create(now)
        voucher = present.vouch_for(successor, now)
        self._trust(
            [successor.certificate, present.certificate], [successor.agents_certificate, present.agents_certificate]
        )
        _replace(self.authority_file, self._authority_text(key, successor, [voucher]), _PRIVATE)
        self.renew_server(None, now)
        return successor

    def retire(self, now: float) -> list[x509.Certificate]:
        """Stop trusting every authority but the present one, and return those; certificates of theirs end with it."""
        authority = self.authority()
        retired = [certificate for certificate in self.authorities() if certificate != authority.certificate]
        self._trust([authority.certificate], [authority.agents_certificate])
        key = load_pem_private_key(_read(self.authority_file), self._passphrase or None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            _replace(self.authority_file, self._authority_text(key, authority, []), _PRIVATE)
        self.renew_server(None, now)
        return retired

    def _server_pair(
        self, authority: Authority, names: Sequence[str], now: float, vouchers: list[x509.Certificate]
    ) -> tuple[bytes, x509.Certificate]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = authority.issue_server(key.public_key(), names, now)
        return _key_pem(key, NoEncryption()) + _pem([certificate, *vouchers]), certificate

    def _trust(self, authorities: Sequence[x509.Certificate], for_agents: Sequence[x509.Certificate]) -> None:
        _replace(self.trust_file, _pem(authorities), _PUBLIC)
        _replace(self.agents_trust_file, _pem(for_agents), _PUBLIC)

    def _authority_text(
        self, key: ec.EllipticCurvePrivateKey, authority: Authority, vouchers: list[x509.Certificate]
    ) -> bytes:
        encryption = BestAvailableEncryption(self._passphrase) if self._passphrase else NoEncryption()
        return _key_pem(key, encryption) + _pem([authority.certificate, authority.agents_certificate, *vouchers])

    def _read_authority(self) -> Authority:
        data = _read(self.authority_file)
        try:
            key = load_pem_private_key(data, self._passphrase or None)
            own = x509.load_pem_x509_certificates(data)[:2]
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"the authority's key in {self.authority_file} cannot be read",
                remedy="Set EGUARD_PKI_PASSPHRASE to the passphrase that the authority was made with.",
            ) from error
        keys = [each.public_key() for each in own]
        if not isinstance(key, ec.EllipticCurvePrivateKey) or keys != [key.public_key()] * 2:
            raise ConfigError(
                f"key and certificates in {self.authority_file} do not belong together",
                remedy="Restore the file from a backup.",
            )
        return Authority(own[0], own[1], key)


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise ConfigError(f"{path} holds no certificate", remedy="Restore the file from a backup.") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", remedy="Make an authority: eguard server pki init"
        ) from error


def _pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def _key_pem(key: ec.EllipticCurvePrivateKey, encryption: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that its owner alone may read; after a power cut it holds its old content or all of the new."""
    _replace(path, data, _PRIVATE)


def _replace(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)
        stream.write(data)
        stream.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
