"""From what an operator asks to a request that can be kept: names looked up, resolvers chosen, warnings said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from eguard.agent.isolation.request import MAX_SERVERS, IsolationRequest, PinnedServer
from eguard.agent.isolation.resolvers import MAX_RESOLVERS, ResolverConfiguration, parse_resolver, questions
from eguard.agent.isolation.ruleset import Plan
from eguard.agent.isolation.targets import Address, Lookup, Server, parse_address, parse_server, resolve
from eguard.errors import ConfigError, IsolationError

_MAX_PERSON_CHARACTERS: Final = 300
_ONLY_LOCAL: Final = (
    "the only resolver is on this host, and whom it asks is unknown: the server's addresses stay those found now "
    "unless its upstream is given with --resolver"
)


def compose(
    servers: Sequence[Server],
    resolvers: Sequence[str],
    by: str,
    now_unix: int,
    previous: IsolationRequest | None,
    *,
    lookup: Lookup | None,
    configuration: Callable[[], ResolverConfiguration],
) -> tuple[IsolationRequest, list[str]]:
    """Return the request that these servers make, and what its author should know.

    Parameters
    ----------
    servers : sequence of Server
        What stays reachable; empty: the servers of the previous request.
    resolvers : sequence of str
        Whom to ask for names; empty: this host's resolvers.
    by : str
        Who asks.
    now_unix : int
        When, in seconds since the epoch.
    previous : IsolationRequest or None
        What stood before; a name that no longer resolves keeps its addresses from there.
    lookup : callable or None
        Returns addresses for a name.
    configuration : callable
        Returns this host's resolvers.

    Raises
    ------
    ConfigError
        There is no server, or there are too many servers or resolvers, or one is malformed.
    IsolationError
        A name does not resolve and no earlier addresses are known.
    """
    known = {pinned.server: pinned for pinned in previous.servers} if previous else {}
    wanted = sorted(set(servers)) or [parse_server(text) for text in sorted(known)]
    given = [parse_resolver(text) for text in resolvers]
    if not wanted:
        raise ConfigError("no server is given", remedy="Name one: --server HOST:PORT")
    _bound("servers", len(wanted), MAX_SERVERS)
    _bound("resolvers", len(given), MAX_RESOLVERS)
    warnings: list[str] = []
    pinned = tuple(_pin(server, known, warnings, lookup) for server in wanted)
    names = [server.host for server in wanted if server.is_name]
    remote: set[str] = set()
    asked: tuple[str, ...] = ()
    if names:
        configured = configuration()
        found = given or list(configured.resolvers)
        remote = {str(resolver) for resolver in found if not resolver.is_loopback}
        asked = questions(names, configured.search)
        warnings += _resolver_warnings(found, names, asked)
    who = by[:_MAX_PERSON_CHARACTERS]
    return IsolationRequest(pinned, tuple(sorted(remote)), asked, now_unix, who), warnings


def plan_of(request: IsolationRequest, since_unix: int, by: str) -> Plan:
    """Return what the kernel shall hold for a request."""
    endpoints: set[tuple[Address, int]] = set()
    for pinned in request.servers:
        port = parse_server(pinned.server).port
        endpoints |= {(parse_address(address), port) for address in pinned.addresses}
    resolvers = frozenset(parse_resolver(text) for text in request.resolvers)
    return Plan(frozenset(endpoints), resolvers, tuple(sorted(request.questions)), since_unix, by)


def _pin(server: Server, known: dict[str, PinnedServer], warnings: list[str], lookup: Lookup | None) -> PinnedServer:
    try:
        addresses = resolve(server, lookup)
    except IsolationError as error:
        if str(server) not in known:
            raise
        warnings.append(f"{error.message}; the addresses known from before stay in force")
        return known[str(server)]
    return PinnedServer(str(server), tuple(map(str, addresses)))


def _bound(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise ConfigError(f"{count} {what} are more than {limit}", remedy=f"Name {limit} {what} at most.")


def _resolver_warnings(found: Sequence[Address], names: Sequence[str], asked: Sequence[str]) -> list[str]:
    warnings = []
    if not found:
        warnings.append("no DNS resolver is configured: the server's addresses stay those found now")
    elif all(resolver.is_loopback for resolver in found):
        warnings.append(_ONLY_LOCAL)
    warnings += [
        f"{name[:60]}... is too long for a DNS rule: its addresses stay those found now"
        for name in names
        if name not in asked
    ]
    return warnings
