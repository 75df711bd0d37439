"""Indicators: what one is, and reading operators' lists of them.

A list is plain text with one value a line (its kind is seen from its form), or CSV with the header
``kind,value,source``. ``#`` begins a comment line. Dots written as ``[.]``, as reports do, are accepted.
"""

from __future__ import annotations

import csv
import ipaddress
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from eguard.errors import RuleError

KINDS: Final = ("sha256", "domain", "address", "address_port", "network")
_HEADER: Final = ("kind", "value", "source")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_ADDRESS_PORT: Final = re.compile(r"\[?([0-9a-fA-F.:]+?)\]?:(\d{1,5})")
#: Wider networks would make half the world an indicator: /8 of IPv4, /32 of IPv6.
_WIDEST_PREFIX: Final = {4: 8, 6: 32}
_LONGEST_VALUE: Final = 512


class Indicator(NamedTuple):
    """One known-bad thing in its canonical form, and who says so."""

    kind: str
    value: str
    source: str


def parse_indicators(text: str, source: str) -> list[Indicator]:
    r"""Read an operator's list.

    Parameters
    ----------
    text : str
        Content of the list.
    source : str
        Name of the list; the source of every indicator that names none itself.

    Returns
    -------
    list of Indicator
        Without duplicates, in the order of the list.

    Raises
    ------
    RuleError
        A line is not an indicator; names the list, the line and the cause.

    Examples
    --------
    >>> parse_indicators("# feed of today\nEvil[.]example.COM\n203.0.113.0/24\n", "feed")[0]
    Indicator(kind='domain', value='evil.example.com', source='feed')
    >>> parse_indicators("10.0.0.1\nhttp://x.example/a\n", "feed")
    Traceback (most recent call last):
    eguard.errors.RuleError: feed, line 2: 'http://x.example/a' is a URL; give its host name alone
    """
    found: dict[tuple[str, str], Indicator] = {}
    for number, kind, value, origin in _rows(text.removeprefix("\ufeff"), source):
        try:
            indicator = make_indicator(value, kind=kind, source=origin)
        except RuleError as error:
            raise RuleError(
                f"{source}, line {number}: {error}",
                remedy="Correct or remove the line; nothing of the list was taken.",
                line=number,
                source=source,
            ) from error
        found.setdefault(indicator[:2], indicator)
    return list(found.values())


def _rows(text: str, source: str) -> Iterator[tuple[int, str, str, str]]:
    """Iterate over (line number, kind or empty, value, source)."""
    is_table = False
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        if not is_table and content.replace(" ", "").lower() == ",".join(_HEADER):
            is_table = True
        elif is_table:
            row = next(csv.reader([content]))
            if len(row) != len(_HEADER):
                raise RuleError(f"{source}, line {number}: {len(row)} columns instead of {len(_HEADER)}", line=number)
            kind, value, origin = (cell.strip() for cell in row)
            yield number, kind.lower(), value, origin or source
        else:
            yield number, "", content, source


def make_indicator(value: str, *, kind: str = "", source: str) -> Indicator:
    """Return one indicator in canonical form; its kind is seen from its form if not given.

    Raises
    ------
    RuleError
        The value is none, or not of the given kind.
    """
    if kind and kind not in KINDS:
        raise RuleError(f"{kind[:40]!r} is no kind of indicator; there are {', '.join(KINDS)}")
    if not value or len(value) > _LONGEST_VALUE:
        raise RuleError("the value is empty" if not value else f"the value has {len(value)} characters")
    text = value.replace("[.]", ".").lower()
    if "://" in text:
        raise RuleError(f"{value[:80]!r} is a URL; give its host name alone")
    kind = kind or _kind_of(text)
    return Indicator(kind, _CANONICAL[kind](text), source)


def _kind_of(text: str) -> str:
    """Return what a value looks like."""
    if _SHA256.fullmatch(text):
        return "sha256"
    if "/" in text:
        return "network"
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return "address_port" if _ADDRESS_PORT.fullmatch(text) else "domain"
    return "address"


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise RuleError(f"{text[:80]!r} is no SHA-256: 64 hexadecimal digits")
    return text


def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise RuleError(f"{text[:80]!r} is no address: {error}") from error
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_unspecified or address.is_loopback:
        raise RuleError(f"{text[:80]!r} is every machine's own address")
    return str(address)


def _address_port(text: str) -> str:
    found = _ADDRESS_PORT.fullmatch(text)
    if found is None or not 0 < int(found[2]) < 65_536:
        raise RuleError(f"{text[:80]!r} is no address with a port between 1 and 65535")
    address, port = _address(found[1]), int(found[2])
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise RuleError(f"{text[:80]!r} is no network: {error}") from error
    if network.prefixlen < _WIDEST_PREFIX[network.version]:
        raise RuleError(f"{text[:80]!r} is too wide: /{_WIDEST_PREFIX[network.version]} at least")
    return str(network)


def _domain(text: str) -> str:
    name = text.removeprefix("*.").rstrip(".")
    try:
        name = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError as error:
        raise RuleError(f"{text[:80]!r} is no domain name: {error}") from error
    labels = name.split(".")
    if len(labels) < 2:
        raise RuleError(f"{text[:80]!r} is no domain name: it has no dot")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        raise RuleError(f"{text[:80]!r} is no domain name")
    return name


_CANONICAL: Final = {
    "sha256": _sha256,
    "domain": _domain,
    "address": _address,
    "address_port": _address_port,
    "network": _network,
}
