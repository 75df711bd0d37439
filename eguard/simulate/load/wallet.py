"""Keys and certificates of the simulated agents: one file for all, read one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from eguard.errors import ConfigError

_PRIVATE = 0o600


class WalletIndex(msgspec.Struct):
    """What a wallet is for: a server, a prefix of names, how often it was used, and where each agent's part ends."""

    server: str
    prefix: str
    uses: int
    ends: list[int]


class Wallet:
    """Keys with their certificates, PEM, by the agent's number.

    They stay on the disk: a hundred thousand of them are a hundred megabytes.

    Parameters
    ----------
    path : Path
        A file that only its owner reads; made anew if no `ends` are given.
    ends : list of int, optional
        Where each agent's part of a file ends that is there.
    """

    def __init__(self, path: Path, ends: list[int] | None = None) -> None:
        flags = os.O_RDWR | os.O_CREAT | (os.O_TRUNC if ends is None else 0)
        self._file = os.open(path, flags, _PRIVATE)
        self.ends = ends or [0]

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def add(self, key: ec.EllipticCurvePrivateKey, certificate_pem: str) -> None:
        """Keep the next agent's key and certificate."""
        text = private_pem(key) + certificate_pem.encode()
        os.pwrite(self._file, text, self.ends[-1])
        self.ends.append(self.ends[-1] + len(text))

    def __getitem__(self, number: int) -> bytes:
        """Return an agent's key, followed by its certificate."""
        if not 0 <= number < len(self):
            raise IndexError(f"there is no agent {number} among {len(self)}")
        begin, end = self.ends[number], self.ends[number + 1]
        return os.pread(self._file, end - begin, begin)


def read_index(path: Path) -> WalletIndex | None:
    """Return what a wallet is for, none if there is none.

    Raises
    ------
    ConfigError
        The file cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=WalletIndex)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", remedy="Name another --folder.") from error


def write_index(path: Path, index: WalletIndex) -> None:
    """Write down what a wallet is for."""
    path.write_bytes(msgspec.json.encode(index))


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as text, not encrypted, in the form that OpenSSL reads fastest (SEC 1)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def new_keys(count: int) -> Iterator[ec.EllipticCurvePrivateKey]:
    """Return keys on P-256, each as it is asked for."""
    return (ec.generate_private_key(ec.SECP256R1()) for _ in range(count))
