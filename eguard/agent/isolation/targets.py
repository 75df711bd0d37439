"""Which servers an isolated host may still reach: parsing of ``HOST:PORT`` and looking names up.

Nothing that an operator or a policy writes reaches nft as text. A host is either an address, which `ipaddress` parsed
and printed again, or a name of letters, digits, ``-`` and ``_``, of which only the bytes of its DNS question are used.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from eguard.errors import ConfigError, IsolationError

Address = IPv4Address | IPv6Address
Lookup = Callable[[str], Iterable[str]]

MAX_NAME_BYTES: Final = 253
MAX_ADDRESSES: Final = 64
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_FORM: Final = "Write HOST:PORT, for example server.example:8443, 192.0.2.7:8443 or [2001:db8::7]:8443."


@dataclass(frozen=True, order=True)
class Server:
    """A control channel's far end: a lower-case name or an address as `ipaddress` prints it, and a TCP port."""

    host: str
    port: int

    @property
    def is_name(self) -> bool:
        """Return whether the host has to be looked up."""
        return _as_address(self.host) is None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_server(text: str) -> Server:
    """Return the server that ``HOST:PORT`` names.

    Raises
    ------
    ConfigError
        The text is anything but a host name, an IPv4 address or a bracketed IPv6 address with a port from 1 to 65535.

    Examples
    --------
    >>> parse_server("Server.Example.:8443")
    Server(host='server.example', port=8443)
    >>> str(parse_server("[2001:DB8::0:7]:443"))
    '[2001:db8::7]:443'
    """
    host, separator, port = text.rpartition(":")
    if not separator or not host:
        raise _refused(text, "it is not HOST:PORT")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise _refused(text, f"the port {port!r} is not a number from 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        address = _as_address(host[1:-1])
        if not isinstance(address, IPv6Address):
            raise _refused(text, f"{host[1:-1]!r} is not an IPv6 address")
    elif ":" in host:
        raise _refused(text, "an IPv6 address is written in brackets")
    else:
        address = _as_address(host)
    if address is None:
        return Server(parse_name(host), int(port))
    plain = _plain(address)
    if not is_usable(plain):
        raise _refused(text, f"{plain} is no single host's address that works on every interface")
    return Server(str(plain), int(port))


def parse_address(text: str) -> Address:
    """Return an address that a connection can be made to, IPv4-mapped ones as IPv4.

    Raises
    ------
    ConfigError
        The text is no address, or one of no single host, or of one link only.

    Examples
    --------
    >>> parse_address("::ffff:192.0.2.7")
    IPv4Address('192.0.2.7')
    """
    address = _as_address(text)
    if address is None or not is_usable(_plain(address)):
        raise _refused(text, "it is not the address of one host")
    return _plain(address)


def parse_name(text: str) -> str:
    """Return a host name in lower case without a final dot.

    Raises
    ------
    ConfigError
        A label is empty, too long or holds anything but ASCII letters, digits, ``-`` and ``_``; or the name ends in a
        number, which some resolvers read as an address.

    Examples
    --------
    >>> parse_name("EXAMPLE.org.")
    'example.org'
    """
    name = text.lower().removesuffix(".") if text.isascii() else ""
    labels = name.split(".")
    if len(name) > MAX_NAME_BYTES or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused(text, "a name has labels of 1 to 63 ASCII letters, digits, - and _, and 253 characters at most")
    if _NUMBER.fullmatch(labels[-1]):
        raise _refused(text, "it is neither an address nor a name")
    return name


def resolve(server: Server, lookup: Lookup | None = None) -> tuple[Address, ...]:
    """Return the addresses of a server, sorted, IPv4 first; at most 64.

    Parameters
    ----------
    server : Server
        What to look up; an address is returned as it is.
    lookup : callable, optional
        Returns addresses for a name and raises OSError when there are none; the system's resolver by default.

    Raises
    ------
    IsolationError
        The name does not resolve, or only to addresses that no connection can use.
    """
    address = _as_address(server.host)
    if address is not None:
        return (address,)
    try:
        answers = sorted(set((lookup or system_lookup)(server.host)))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _unresolved(server, reason) from error
    parsed = (_as_address(answer) for answer in answers)
    usable = {_plain(address) for address in parsed if address is not None}
    found = sorted(filter(is_usable, usable), key=lambda item: (item.version, int(item)))
    if not found:
        raise _unresolved(server, f"the answers {', '.join(answers) or '(none)'} cannot be connected to")
    return tuple(found[:MAX_ADDRESSES])


def system_lookup(name: str) -> list[str]:
    """Return what the system's resolver (`getaddrinfo`) answers for TCP."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]


def is_usable(address: Address) -> bool:
    """Return whether a connection to this address can be meant on any interface."""
    if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
        return False
    return not (isinstance(address, IPv6Address) and (address.is_link_local or address.scope_id is not None))


def _as_address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _plain(address: Address) -> Address:
    """Return the IPv4 address inside an IPv4-mapped one: that is what travels."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _refused(text: str, why: str) -> ConfigError:
    return ConfigError(f"server {text[:300]!r} is refused: {why}", remedy=_FORM, server=text)


def _unresolved(server: Server, reason: str) -> IsolationError:
    return IsolationError(
        f"the server's name {server.host!r} does not resolve: {reason}",
        remedy="Correct the name or the resolver, or give the server's address: --server 192.0.2.7:8443. "
        "Nothing was changed.",
        server=str(server),
    )
