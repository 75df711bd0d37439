"""Whom an isolated host may ask for its server's name, and which questions that takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from eguard.agent.isolation.targets import Address, parse_name
from eguard.errors import ConfigError

RESOLV_CONF: Final = Path("/etc/resolv.conf")
#: Where systemd-resolved, which listens on 127.0.0.53 and 127.0.0.54, names the servers that it asks.
UPSTREAM_RESOLV_CONF: Final = Path("/run/systemd/resolve/resolv.conf")
MAX_RESOLVERS: Final = 16
MAX_SEARCH_DOMAINS: Final = 6
#: The kernel compares payload up to 255 bytes behind the UDP header: 20 bytes, the question's name, its type and class.
MAX_QUESTION_NAME_BYTES: Final = 200


@dataclass(frozen=True)
class ResolverConfiguration:
    """Resolvers of this host and the domains it appends to names."""

    resolvers: tuple[Address, ...]
    search: tuple[str, ...] = ()


def read_resolvers(path: Path = RESOLV_CONF, upstream: Path = UPSTREAM_RESOLV_CONF) -> ResolverConfiguration:
    """Read the resolvers of this host; those behind a local forwarder too where they are written down.

    A file that is not there configures nothing. Lines that cannot be read are passed over, as the C library does.
    """
    configured = parse_resolv_conf(_text(path))
    if any(resolver.is_loopback for resolver in configured.resolvers):
        behind = parse_resolv_conf(_text(upstream))
        both = dict.fromkeys((*configured.resolvers, *behind.resolvers))
        return ResolverConfiguration(tuple(both)[:MAX_RESOLVERS], configured.search or behind.search)
    return configured


def parse_resolv_conf(text: str) -> ResolverConfiguration:
    r"""Return what a resolv.conf(5) configures; the last ``search`` or ``domain`` line counts.

    Examples
    --------
    >>> parse_resolv_conf("search corp.example\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\n")
    ResolverConfiguration(resolvers=(IPv4Address('192.0.2.53'), IPv6Address('fe80::1')), search=('corp.example',))
    """
    resolvers: list[Address] = []
    search: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or line[0] in "#;":
            continue
        if words[0] == "nameserver":
            resolvers += _addresses(words[1:2])
        elif words[0] in ("search", "domain"):
            search = list(_names(words[1:]))
    return ResolverConfiguration(tuple(dict.fromkeys(resolvers))[:MAX_RESOLVERS], tuple(search[:MAX_SEARCH_DOMAINS]))


def parse_resolver(text: str) -> Address:
    """Return the address of a resolver.

    Raises
    ------
    ConfigError
        It is not the address of one host.
    """
    found = _addresses([text])
    if not found:
        raise ConfigError(
            f"resolver {text[:300]!r} is not a host's address",
            remedy="Give an IPv4 or IPv6 address: --resolver 192.0.2.53",
            resolver=text,
        )
    return found[0]


def questions(names: Iterable[str], search: Sequence[str] = ()) -> tuple[str, ...]:
    """Return every name that a resolver may be asked to find these servers, sorted.

    A stub resolver appends its search domains to short names, and some try those first, so they are let through too.
    Names too long for the kernel's comparison are left out: their addresses stay those known before isolation.

    Examples
    --------
    >>> questions(["server"], ["corp.example"])
    ('server', 'server.corp.example')
    """
    asked = {candidate for name in names for candidate in (name, *(f"{name}.{domain}" for domain in search))}
    return tuple(sorted(name for name in asked if len(name) <= MAX_QUESTION_NAME_BYTES))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _addresses(words: Iterable[str]) -> list[Address]:
    found = []
    for word in words:
        try:
            address = ip_address(word.split("%", 1)[0])
        except ValueError:
            continue
        if not (address.is_multicast or address.is_unspecified):
            found.append(address)
    return found


def _names(words: Iterable[str]) -> Iterable[str]:
    for word in words:
        try:
            yield parse_name(word)
        except ConfigError:
            continue
