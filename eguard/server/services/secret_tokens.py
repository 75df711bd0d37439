"""Secrets that this server gives out: 256 random bits, shown once, kept as SHA-256.

A secret reads ``eguard-KIND-IDENTIFIER-RANDOM``. The identifier is no secret: it finds the row, so that the secret is
compared once, in constant time, and it is what logs and the audit log name. A plain hash is enough, as nobody guesses
256 bits; passwords, which people choose, are kept otherwise (`eguard.server.services.passwords`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final, Literal

SecretKind = Literal["enrol", "access"]

_SECRET: Final = re.compile(r"eguard-(enrol|access)-([0-9a-f]{16})-([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A secret that was just made. Its text is shown to whoever asked for it and kept nowhere."""

    identifier: str
    text: str = field(repr=False)
    digest: str = field(repr=False)


def new_secret(kind: SecretKind) -> NewSecret:
    """Return a new secret."""
    identifier = secrets.token_hex(8)
    text = f"eguard-{kind}-{identifier}-{secrets.token_urlsafe(32)}"
    return NewSecret(identifier, text, digest_of(text))


def identifier_of(kind: SecretKind, text: str) -> str | None:
    """Return the identifier in a secret; none if the text is no secret of this kind.

    Examples
    --------
    >>> identifier_of("access", new_secret("access").text) is None
    False
    >>> identifier_of("enrol", new_secret("access").text), identifier_of("enrol", "sesame")
    (None, None)
    """
    found = _SECRET.fullmatch(text)
    return found[2] if found is not None and found[1] == kind else None


def digest_of(text: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_secret(text: str, digest: str) -> bool:
    """Tell whether a text is the secret that was kept, in a time that does not depend on where they differ."""
    return hmac.compare_digest(digest_of(text), digest)
