"""Development signing keys: Ed25519, one folder, one PKCS#8 file a key, readable by the owner alone.

They let a fresh machine sign and verify without an operator. Production keeps the root and release keys offline; only
the folder's layout is shared.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from eguard.errors import BundleError

#: Keys a role has. Root needs two of its three (`ROOT_THRESHOLD`), every other role its one.
KEY_COUNTS: Final[dict[str, int]] = {"root": 3, "targets": 1, "nightly": 1, "snapshot": 1, "timestamp": 1}
ROOT_THRESHOLD: Final = 2

Signers = dict[str, list[CryptoSigner]]


def _key_path(directory: Path, role: str, number: int) -> Path:
    return directory / f"{role}-{number}.pem"


def generate_keys(directory: Path) -> Signers:
    """Create the missing keys of every role in `directory` and return all signers. Existing keys are kept.

    Raises
    ------
    BundleError
        An existing key file cannot be read.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for role, count in KEY_COUNTS.items():
        for number in range(1, count + 1):
            path = _key_path(directory, role, number)
            if not path.exists():
                make_signer(path)
    return load_keys(directory)


def make_signer(path: Path) -> CryptoSigner:
    """Create a signing key in a file that does not exist yet, readable by the owner alone."""
    signer = CryptoSigner.generate_ed25519()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(signer.private_bytes)
    return signer


def load_keys(directory: Path) -> Signers:
    """Read the signers of every role.

    Raises
    ------
    BundleError
        A key is missing, unreadable or not Ed25519.
    """
    return {role: load_role_keys(directory, role) for role in KEY_COUNTS}


def load_role_keys(directory: Path, role: str) -> list[CryptoSigner]:
    """Read the signers of one role.

    Raises
    ------
    BundleError
        A key is missing, unreadable or not Ed25519.
    """
    return [load_signer(_key_path(directory, role, number)) for number in range(1, KEY_COUNTS[role] + 1)]


def load_signer(path: Path) -> CryptoSigner:
    """Read one signing key.

    Raises
    ------
    BundleError
        It is missing, unreadable or not Ed25519.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(
            f"cannot read the signing key {path}: {error}",
            remedy="Create development keys with `eguard bundle init`, or put the release keys there.",
            path=str(path),
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{path} is not an Ed25519 key", remedy="eGuard signs with Ed25519 only.", path=str(path))
    return CryptoSigner(key)
