"""Keys and certificates of the simulated agents: one file for all, read one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


class Wallet:
    """Keys with their certificates, PEM, by the agent's number.

    They stay on the disk: a hundred thousand of them are a hundred megabytes.

    Parameters
    ----------
    path : Path
        A file that only its owner reads; made anew.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._ends = [0]

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def add(self, key: ec.EllipticCurvePrivateKey, certificate_pem: str) -> None:
        """Keep the next agent's key and certificate."""
        text = private_pem(key) + certificate_pem.encode()
        os.pwrite(self._file, text, self._ends[-1])
        self._ends.append(self._ends[-1] + len(text))

    def __getitem__(self, number: int) -> bytes:
        """Return an agent's key, followed by its certificate."""
        begin, end = self._ends[number], self._ends[number + 1]
        return os.pread(self._file, end - begin, begin)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as text (PKCS#8, not encrypted)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def new_keys(count: int) -> Iterator[ec.EllipticCurvePrivateKey]:
    """Return keys on P-256, each as it is asked for."""
    return (ec.generate_private_key(ec.SECP256R1()) for _ in range(count))
