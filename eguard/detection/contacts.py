"""Which events contact somebody, whom, and under which name a fleet counts it.

A destination is an address and port, or the domain registered for a name that was looked up. Names that a client states
itself (TLS server name, HTTP host) are not used: whoever writes a beacon chooses them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.beacons import is_never_c2
from eguard.events import EventBatch, EventClass

#: (process name, address or registered domain, port); the port of a domain is 0.
Destination = tuple[str, str, int]

#: Ends of connections, with the bytes that were sent. A sensor that reports them reports the beginning as
#: `OPENING_TYPES`, and the end is the contact: only then is its size known.
CLOSING_TYPES: Final = frozenset({"tcp_close", "tcp_failed"})
OPENING_TYPES: Final = frozenset({"tcp_connect"})
#: Event types whose connection was opened by the other side.
INBOUND_TYPES: Final = frozenset({"accept", "inbound", "tcp_accept"})

_CONNECT: Final = int(EventClass.NETWORK_CONNECT)
_DNS: Final = int(EventClass.DNS_QUERY)
#: Second-level names under which country registries sell domains.
_PUBLIC_SECOND_LEVELS: Final = frozenset({"ac", "co", "com", "edu", "gov", "net", "or", "org"})


@dataclass(frozen=True, slots=True)
class Contacts:
    """The events of a batch that contact a destination: their positions, and whom they contact."""

    positions: NDArray[np.intp]
    destinations: list[Destination]

    @classmethod
    def of(cls, batch: EventBatch) -> Contacts:
        """Find the contacts of a batch: connections with an address and look-ups of a name."""
        classes, types = batch.event_class, batch.event_type
        rows = np.flatnonzero((classes == _CONNECT) | (classes == _DNS)).tolist()
        if not OPENING_TYPES.isdisjoint(types) or not CLOSING_TYPES.isdisjoint(types):
            closed = [row for row, kind in enumerate(types) if kind in CLOSING_TYPES]
            rows = sorted([row for row in rows if types[row] not in OPENING_TYPES] + closed)
        is_lookup, ports = (classes == _DNS).tolist(), batch.destination_port.tolist()
        comm, address, target = batch.comm, batch.destination_address, batch.target
        rows = [row for row in rows if (target[row] if is_lookup[row] else address[row])]
        destinations = [
            (comm[row], registered_domain(target[row]), 0) if is_lookup[row] else (comm[row], address[row], ports[row])
            for row in rows
        ]
        return cls(np.array(rows, dtype=np.intp), destinations)


def registered_domain(name: str) -> str:
    """Return the part of a DNS name that its owner registered, by rule of thumb.

    Examples
    --------
    >>> registered_domain("a.b.example.com."), registered_domain("www.example.co.uk"), registered_domain("localhost")
    ('example.com', 'example.co.uk', 'localhost')
    """
    labels = name.rstrip(".").lower().split(".")
    is_country = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _PUBLIC_SECOND_LEVELS
    return ".".join(labels[-3:] if is_country else labels[-2:])


def fleet_name(destination: Destination) -> str:
    """Return the name under which the fleet counts a destination, whichever process contacts it.

    Examples
    --------
    >>> fleet_name(("curl", "192.0.2.1", 443)), fleet_name(("curl", "2001:db8::1", 443)), fleet_name(("x", "a.org", 0))
    ('192.0.2.1:443', '[2001:db8::1]:443', 'a.org')
    """
    _, host, port = destination
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_inbound(batch: EventBatch, position: int) -> bool:
    """Return whether the other side opened the connection, as far as the source says."""
    if batch.event_type[position] in INBOUND_TYPES:
        return True
    fields = batch.fields[position]
    return fields is not None and fields.get("Initiated", "").lower() == "false"


def fleet_destinations(batch: EventBatch) -> tuple[NDArray[np.intp], list[str]]:
    """Return the contacts that count for how common a destination is: positions, and the fleet's names.

    Left out are connections that the other side opened and addresses where no beacon can call.
    """
    contacts = Contacts.of(batch)
    kept = [
        index
        for index, (position, destination) in enumerate(
            zip(contacts.positions.tolist(), contacts.destinations, strict=True)
        )
        if not is_never_c2(destination[1]) and not is_inbound(batch, position)
    ]
    return contacts.positions[kept], [fleet_name(contacts.destinations[index]) for index in kept]
