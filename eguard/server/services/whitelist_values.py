"""What a whitelist entry may say: each kind of value in the one spelling that it is compared in."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from eguard.errors import WireError
from eguard.wire.baseline import TimeUnix
from eguard.wire.policy import WhitelistKind
from eguard.wire.process_key import decode_process_key

_HASH: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_MAX_DOMAIN: Final = 253
_RULE: Final = re.compile(r"[^\x00-\x1f\x7f]{1,255}")


class WhitelistRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new entry.

    Attributes
    ----------
    kind, value : str
        What is not to be alerted on.
    scope, scope_id : str
        Whom it holds for: the ``fleet`` (without an id), a ``group`` or an ``agent``.
    reason : str
        Why, for whoever asks later.
    expires_at_unix : float, optional
        From when on it no longer holds.
    """

    kind: WhitelistKind
    value: Annotated[str, Meta(min_length=1, max_length=512)]
    scope: Literal["fleet", "group", "agent"] = "fleet"
    scope_id: Annotated[str, Meta(max_length=128, pattern=r"\A[^\x00-\x1f\x7f]*\Z")] = ""
    reason: Annotated[str, Meta(min_length=1, max_length=255)]
    expires_at_unix: TimeUnix | None = None


def canonical_value(kind: WhitelistKind, value: str) -> str:
    """Return the value in the spelling that is stored and compared.

    Raises
    ------
    ValueError
        The value is none of its kind; the message says what is wanted.

    Examples
    --------
    >>> canonical_value("domain", "Example.ORG."), canonical_value("ip", "2001:DB8::/32")
    ('example.org', '2001:db8::/32')
    >>> canonical_value("ip", "0.0.0.0/0")
    Traceback (most recent call last):
        ...
    ValueError: a network of every address would silence every connection
    """
    return _READERS[kind](value)


def _process_key(value: str) -> str:
    try:
        decode_process_key(value)
    except WireError as error:
        raise ValueError(error.message) from error
    return value


def _hash(value: str) -> str:
    digest = value.strip().lower()
    if not _HASH.fullmatch(digest):
        raise ValueError("a hash is SHA-256 (64) or MD5 (32) in hexadecimal digits")
    return digest


def _domain(value: str) -> str:
    name = value.strip().lower().rstrip(".")
    if len(name) > _MAX_DOMAIN or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError("a domain is a host name in ASCII letters, without a wildcard; names below it are included")
    return name


def _ip(value: str) -> str:
    text = value.strip()
    try:
        network = ipaddress.ip_network(text, strict=True)
    except ValueError as error:
        raise ValueError(f"an ip is an address or a network such as 10.1.0.0/16: {error}") from error
    if network.prefixlen == 0:
        raise ValueError("a network of every address would silence every connection")
    return str(network) if "/" in text else str(network.network_address)


def _rule(value: str) -> str:
    if not _RULE.fullmatch(value):
        raise ValueError("a rule is named by its id, 1 to 255 characters")
    return value


_READERS: Final = {"process_key": _process_key, "hash": _hash, "domain": _domain, "ip": _ip, "rule": _rule}
