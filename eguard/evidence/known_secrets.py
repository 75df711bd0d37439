"""The secrets that a machine knows of: in its environment, its settings, its token files and its keys."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from eguard.agent.control.redaction import TELLING_NAME

#: A shorter value stands by chance in half of all texts; where it follows a name or a colon, its place gives it away.
MIN_CHARACTERS: Final = 6
#: Words that are not looked for even where somebody made one of them a password: they stand in every pack.
# fmt: off
_COMMON: Final = frozenset({
    "[redacted]", "absent", "collected", "commands", "digest", "drills", "eguard", "evidence", "localhost", "manifest",
    "missing", "notebooks", "partial", "password", "policy", "predicate", "predicatetype", "present", "readiness",
    "screenshots", "secret", "sections", "server", "settings", "sha256", "statement", "subject", "versions",
})
# fmt: on
_NAME: Final = re.compile(rf"(?i){TELLING_NAME}|.*(?:_auth|_key|cookie)")
_ABOUT: Final = re.compile(r"(?i).*_(?:file|path|dir|id|url_scheme)")
_USERINFO: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/@]*:(?P<password>[^\s/]+)@")
_BLOCK: Final = re.compile(
    r"-----BEGIN (?P<kind>[A-Z ]*PRIVATE KEY)-----\s*(?P<body>.*?)-----END (?P=kind)-----", re.DOTALL
)
_MAX_FILE_BYTES: Final = 1 << 20
_BODY_CHARACTERS: Final = 24
#: Shorter pieces of a path are words.
_PIECE_CHARACTERS: Final = 16


@dataclass(frozen=True, slots=True)
class KnownSecret:
    """A value that must not be kept, and where it is from, which may be said."""

    origin: str
    value: str = field(repr=False)


def known_secrets(
    environment: Mapping[str, str], settings: Iterable[BaseSettings] = (), files: Iterable[Path] = ()
) -> list[KnownSecret]:
    """Return every secret that is found, long enough to be looked for.

    Parameters
    ----------
    environment : mapping
        Variables; those whose name says so are secrets, and so is every password in an address.
    settings : iterable of BaseSettings
        Their passwords and tokens.
    files : iterable of Path
        Private keys and token files. What cannot be read here is not known here.
    """
    found = [*_of_environment(environment), *_of_settings(settings)]
    for path in files:
        found += _of_file(path)
    shown = (KnownSecret(each.origin, _as_shown(each.value)) for each in found)
    return [each for each in dict.fromkeys(shown) if _is_worth(each.value)]


def _as_shown(value: str) -> str:
    """Return a value as texts show it: bytes that are no UTF-8 are replaced there."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _is_worth(value: str) -> bool:
    return len(value) >= MIN_CHARACTERS and value.lower() not in _COMMON


def _of_environment(environment: Mapping[str, str]) -> Iterator[KnownSecret]:
    for name, value in sorted(environment.items()):
        if _NAME.fullmatch(name) and not _ABOUT.fullmatch(name) and not _is_path(value):
            yield KnownSecret(name, value.strip())
        yield from _of_address(name, value)


def _is_path(value: str) -> bool:
    return value.startswith(("/", "./", "~")) and "\n" not in value


def _of_settings(settings: Iterable[BaseSettings]) -> Iterator[KnownSecret]:
    for each in settings:
        for name in type(each).model_fields:
            value = getattr(each, name)
            if isinstance(value, SecretStr):
                yield KnownSecret(name, value.get_secret_value())
                yield from _of_receiver(name, value.get_secret_value())
            elif isinstance(value, str):
                yield from _of_address(name, value)


def _of_address(origin: str, text: str) -> Iterator[KnownSecret]:
    for match in _USERINFO.finditer(text):
        for password in (match["password"], unquote(match["password"])):
            yield KnownSecret(f"the address in {origin}", password)


def _of_receiver(origin: str, text: str) -> Iterator[KnownSecret]:
    """Yield the path of an address that is a secret as a whole: chat services put the token there."""
    if "://" in text:
        parts = urlsplit(text)
        pieces = [piece for piece in parts.path.split("/") if len(piece) >= _PIECE_CHARACTERS]
        for part in (parts.path.strip("/"), *pieces, parts.query):
            yield KnownSecret(f"the address in {origin}", part)
        yield from _of_address(origin, text)


def _of_file(path: Path) -> Iterator[KnownSecret]:
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_FILE_BYTES).decode("utf-8", "replace")
    except OSError:
        return
    blocks = list(_BLOCK.finditer(text))
    for block in blocks:
        for line in block["body"].split():
            if len(line) >= _BODY_CHARACTERS:
                yield KnownSecret(f"the key {path.name}", line)
        yield from _numbers(f"the key {path.name}", block[0])
    if not blocks and "-----BEGIN" not in text and len(text) < 4096:
        yield KnownSecret(f"the file {path.name}", text.strip())


def _numbers(origin: str, pem: str) -> Iterator[KnownSecret]:
    """Yield the secret number of a key that no passphrase protects, as it is written elsewhere."""
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        return
    if isinstance(key, Ed25519PrivateKey):
        raw = key.private_bytes_raw()
    elif isinstance(key, EllipticCurvePrivateKey):
        raw = key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8, "big")
    else:
        return
    yield KnownSecret(origin, raw.hex())
    yield KnownSecret(origin, base64.b64encode(raw).decode())
