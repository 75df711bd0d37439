"""People's passwords: argon2id, slow enough that a stolen table is worth little, few at once to bound memory."""

from __future__ import annotations

import threading
from typing import Final

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from eguard.errors import ServerRefusalError

#: RFC 9106 recommends 64 MiB with three passes where memory is short; a login takes some 50 ms.
_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=1, type=Type.ID)
#: Hashes that are computed at the same time: 128 MiB at most, whoever tries to sign in how often.
_AT_ONCE: Final = threading.BoundedSemaphore(2)

MIN_CHARACTERS: Final = 12
MAX_CHARACTERS: Final = 256


def hash_password(password: str) -> str:
    """Return what is kept of a password.

    Raises
    ------
    ServerRefusalError
        422 ``weak_password``: it is shorter than twelve characters, longer than 256, or one character over and over.
    """
    if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS or len(set(password)) < 3:
        detail = f"{MIN_CHARACTERS} to {MAX_CHARACTERS} characters, at least three of them different"
        raise ServerRefusalError(422, "weak_password", f"the password needs {detail}", errors=[("password", detail)])
    with _AT_ONCE:
        return _HASHER.hash(password)


def is_password(password: str, kept: str | None) -> bool:
    """Tell whether a password is the one that was kept; it takes as long for an account that does not exist."""
    if len(password) > MAX_CHARACTERS:
        return False
    with _AT_ONCE:
        try:
            return _HASHER.verify(kept or _NOBODYS, password) and kept is not None
        except (VerificationError, InvalidHashError):
            return False


# Nobody's password, hashed at today's costs: its salt and digest are arbitrary.
_NOBODYS: Final = "$argon2id$v=19$m=65536,t=3,p=1$" + "bm9ib2R5J3Mgc2FsdC4uLg" + "$" + "A" * 43
