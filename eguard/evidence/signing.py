"""What signs evidence and whom it is believed from: in-toto statements in DSSE envelopes, as bundles' provenance is.

A folder holds the key that signs on this machine, made when it is first needed, and under ``trusted/`` the public keys
of other machines whose evidence counts here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from eguard.bundle.keys import load_signer, make_signer
from eguard.bundle.provenance import sign_statement, verify_statement
from eguard.errors import BundleSignatureError, EvidenceError
from eguard.wire.canonical import canonical_json

KEY_NAME: Final = "evidence.pem"
PUBLIC_NAME: Final = "evidence-public.pem"
TRUSTED_FOLDER: Final = "trusted"
#: A manifest of some thousand files, or a drill with all that its commands printed, is far smaller.
MAX_ENVELOPE_BYTES: Final = 16 << 20
_STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"


class Custody:
    """The keys of a folder of evidence.

    Parameters
    ----------
    folder : Path
        ``EGUARD_EVIDENCE_PATH``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def key_path(self) -> Path:
        """The private key, which nothing may hand on."""
        return self.folder / KEY_NAME

    def signer(self) -> CryptoSigner:
        """Return this machine's signer; key and folder are made if there are none.

        Raises
        ------
        EvidenceError
            The folder cannot be written.
        BundleError
            The key cannot be read.
        """
        if self.key_path.exists():
            return load_signer(self.key_path)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            made = make_signer(self.key_path)
            (self.folder / PUBLIC_NAME).write_bytes(_public_pem(made))
        except OSError as error:
            raise EvidenceError(
                f"no key can be kept in {self.folder}: {error.strerror}",
                remedy="Set EGUARD_EVIDENCE_PATH to a folder that this user may write.",
            ) from error
        return made

    def trusted_keys(self) -> list[Key]:
        """Return the public keys whose evidence counts here: this machine's own, and those under ``trusted/``.

        The own key is taken from the private one, not from the public file beside it.

        Raises
        ------
        BundleError, EvidenceError
            A key cannot be read.
        """
        own = [load_signer(self.key_path).public_key] if self.key_path.exists() else []
        return [*own, *(load_public_key(path) for path in sorted((self.folder / TRUSTED_FOLDER).glob("*.pem")))]


def _public_pem(signer: CryptoSigner) -> bytes:
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer.public_key.keyval["public"]))
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def load_public_key(path: Path) -> Key:
    """Read a public key, PEM.

    Raises
    ------
    EvidenceError
        It cannot be read or is none.
    """
    try:
        return SSlibKey.from_crypto(load_pem_public_key(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise EvidenceError(
            f"{path} is no public key: {error}",
            remedy=f"Name the {PUBLIC_NAME} of the machine that signed.",
        ) from error


def build_statement(subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """Return an in-toto statement of `predicate` about things named with their SHA-256.

    References
    ----------
    in-toto Attestation Framework, Statement v1.
    """
    return {
        "_type": _STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(subjects.items())],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def seal(statement: Mapping[str, Any], signer: CryptoSigner) -> bytes:
    """Return a statement in a signed envelope."""
    return sign_statement(canonical_json(dict(statement)), [signer])


def open_sealed(envelope: bytes, keys: Iterable[Key], predicate_type: str) -> dict[str, Any]:
    """Return the statement of an envelope that a trusted key signed.

    Raises
    ------
    EvidenceError
        No trusted key signed these bytes, or they are a statement of something else.
    """
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise EvidenceError(f"an envelope of {len(envelope):,} bytes is none")
    try:
        statement = verify_statement(envelope, list(keys))
    except BundleSignatureError as error:
        raise EvidenceError(
            f"it is not signed by a trusted key, or was changed since: {error.__cause__ or error}",
            remedy="Evidence of another machine counts where its public key is known: put it under trusted/ in "
            "EGUARD_EVIDENCE_PATH, or name it with --key.",
        ) from error
    if statement.get("_type") != _STATEMENT_TYPE or statement.get("predicateType") != predicate_type:
        raise EvidenceError(f"it is a statement of {statement.get('predicateType')!r}, not of {predicate_type!r}")
    return statement


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
