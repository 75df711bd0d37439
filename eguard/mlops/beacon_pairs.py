"""Who calls whom, and when: (source host, destination) pairs with their observations, from any network events.

A destination is what an operator would block: the server name of an HTTP request or TLS handshake, the registered
domain of a DNS query, else ``address:port``. Failed connects are observations like any other, since a beacon whose
server is down keeps its timer. Multicast, link-local, broadcast and the like are never command and control: they are
left out and counted by kind.

Every pair is scored at its *source*, as an agent on that host would score it. A capture taken at a server shows other
people's hosts calling in; for the callers those pairs are outbound, and that is how they are treated here.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.beacons import is_never_c2
from eguard.detection.contacts import registered_domain
from eguard.events import EventBatch, EventClass

Floats = NDArray[np.float64]

#: Columns of an events table that pairs are made of.
PAIR_COLUMNS: Final = (
    *("time_unix", "host_id", "event_class", "event_type", "group", "target", "destination_address"),
    *("destination_port", "sent_bytes", "received_bytes", "duration_seconds"),
)
#: Zeek's logs whose target is the name of the server that was asked for.
_NAMED_LOGS: Final = frozenset({"http", "ssl"})
_CONTACTS: Final = (int(EventClass.NETWORK_CONNECT), int(EventClass.DNS_QUERY))


@dataclass(frozen=True, slots=True)
class BeaconPairs:
    """Pairs in rows; observations of pair i are ``[offsets[i]:offsets[i + 1]]``, in the order of time.

    Parameters
    ----------
    groups, hosts, destinations : tuple of str
        Names behind the codes, sorted.
    group, host, destination : ndarray of int, shape (n_pairs,)
        Codes of each pair: the capture or site, the source, and what it called.
    offsets : ndarray of int64, shape (n_pairs + 1,)
        Where each pair's observations begin.
    times_seconds, sent_bytes, received_bytes, durations_seconds : ndarray of float64, shape (n_observations,)
        When (Unix time), how much the source sent and got back, how long the connection lasted.
    excluded : dict of str to int
        Events left out, by reason.
    """

    groups: tuple[str, ...]
    hosts: tuple[str, ...]
    destinations: tuple[str, ...]
    group: NDArray[np.intp]
    host: NDArray[np.intp]
    destination: NDArray[np.intp]
    offsets: NDArray[np.int64]
    times_seconds: Floats
    sent_bytes: Floats
    received_bytes: Floats
    durations_seconds: Floats
    excluded: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.host)

    @property
    def n_observations(self) -> NDArray[np.int64]:
        """Observations of each pair, shape (n_pairs,)."""
        counts: NDArray[np.int64] = np.diff(self.offsets)
        return counts

    def take(self, rows: NDArray[Any]) -> BeaconPairs:
        """Return the pairs at an index or mask, with their observations; names and codes stay."""
        chosen = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        counts = self.n_observations[chosen]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        position = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts) + np.repeat(self.offsets[chosen], counts)
        return BeaconPairs(
            self.groups,
            self.hosts,
            self.destinations,
            self.group[chosen],
            self.host[chosen],
            self.destination[chosen],
            offsets,
            self.times_seconds[position],
            self.sent_bytes[position],
            self.received_bytes[position],
            self.durations_seconds[position],
            self.excluded,
        )

    def of_group(self, name: str) -> BeaconPairs:
        """Return the pairs of one capture or site; none if it is unknown."""
        code = self.groups.index(name) if name in self.groups else -1
        return self.take(self.group == code)

    def hosts_by_destination(self) -> NDArray[np.int64]:
        """Return how many hosts call each destination, shape (n_destinations,)."""
        callers = np.unique(np.stack([self.destination, self.host], axis=1), axis=0)
        counts: NDArray[np.int64] = np.bincount(callers[:, 0], minlength=len(self.destinations)).astype(np.int64)
        return counts

    def names(self, row: int) -> tuple[str, str]:
        """Return source host and destination of a pair."""
        return self.hosts[self.host[row]], self.destinations[self.destination[row]]

    def find(self, host: str, destination: str) -> int | None:
        """Return the row of a pair, or None."""
        if host not in self.hosts or destination not in self.destinations:
            return None
        rows = (self.host == self.hosts.index(host)) & (self.destination == self.destinations.index(destination))
        found = np.flatnonzero(rows)
        return int(found[0]) if found.size else None


def pairs_from_events(events: EventBatch, *, by_address: bool = False) -> BeaconPairs:
    """Group the contacts of a batch into pairs.

    Parameters
    ----------
    events : EventBatch
        Of any hosts and captures, in any order. Events that are neither connections nor DNS queries are left out.
    by_address : bool
        Whether connections are keyed by address and port even where the client named a server, as an agent does: a name
        that the client states itself is the attacker's to choose.

    Returns
    -------
    BeaconPairs
        Sorted by group, host and destination; observations by time.

    Examples
    --------
    >>> events = EventBatch(
    ...     time_unix=[3.0, 1.0, 2.0], host_id=["a", "a", "a"], event_class=[3, 3, 3],
    ...     destination_address=["192.0.2.1", "192.0.2.1", "224.0.0.251"], destination_port=[443, 443, 5353])
    >>> pairs = pairs_from_events(events)
    >>> pairs.names(0), pairs.times_seconds.tolist(), pairs.excluded
    (('a', '192.0.2.1:443'), [1.0, 3.0], {'multicast': 1})
    """
    excluded: Counter[str] = Counter()
    names = _destinations(events, excluded, by_address=by_address)
    kept = np.array([index for index, name in enumerate(names) if name], np.intp)
    groups, group = _codes([events.group[index] for index in kept])
    hosts, host = _codes([events.host_id[index] for index in kept])
    destinations, destination = _codes([names[index] for index in kept])
    times = events.time_unix[kept]
    order = np.lexsort((times, destination, host, group))
    keys = np.stack([group, host, destination], axis=1)[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    starts = np.flatnonzero(is_first)
    rows = kept[order]
    return BeaconPairs(
        groups,
        hosts,
        destinations,
        keys[starts, 0],
        keys[starts, 1],
        keys[starts, 2],
        np.append(starts, len(order)).astype(np.int64),
        times[order],
        events.sent_bytes[rows].astype(np.float64),
        events.received_bytes[rows].astype(np.float64),
        events.duration_seconds[rows].astype(np.float64),
        dict(sorted(excluded.items())),
    )


def exclusion_reason(address: str) -> str:
    """Return what kind of address is never command and control, or "" for one that may be.

    Examples
    --------
    >>> [exclusion_reason(a) for a in ("224.0.0.1", "ff02::fb", "169.254.1.1", "255.255.255.255", "192.0.2.7")]
    ['multicast', 'multicast', 'link_local', 'broadcast', '']
    """
    if not is_never_c2(address):
        return ""
    try:
        parsed: Any = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "other"
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    kinds = (
        ("multicast", parsed.is_multicast),
        ("link_local", parsed.is_link_local),
        ("loopback", parsed.is_loopback),
        ("unspecified", parsed.is_unspecified),
        ("broadcast", str(parsed) == "255.255.255.255"),
    )
    return next((name for name, holds in kinds if holds), "other")


def _destinations(events: EventBatch, excluded: Counter[str], *, by_address: bool) -> list[str]:
    """Return each event's destination, or "" where it has none that counts."""
    reasons = {address: exclusion_reason(address) for address in set(events.destination_address) if address}
    is_contact = np.isin(events.event_class, _CONTACTS).tolist()
    is_dns = (events.event_class == int(EventClass.DNS_QUERY)).tolist()
    names = []
    for index, port in enumerate(events.destination_port.tolist()):
        address, target = events.destination_address[index], events.target[index]
        name, reason = "", "no_destination"
        if not is_contact[index]:
            reason = "no_contact"
        elif is_dns[index]:
            name = registered_domain(target) if target else ""
        elif reasons.get(address):
            reason = reasons[address]
        elif target and not by_address and events.event_type[index] in _NAMED_LOGS:
            name = target
        elif address:
            name = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        if not name:
            excluded[reason] += 1
        names.append(name)
    return names


def _codes(names: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    known = sorted(set(names))
    code = {name: index for index, name in enumerate(known)}
    return tuple(known), np.array([code[name] for name in names], np.intp)
