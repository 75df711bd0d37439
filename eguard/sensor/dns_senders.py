"""Which processes turned to which name server lately: what the probes add to the DNS tap, which sees packets alone."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from eguard.sensor.dns_message import DnsPacket
from eguard.sensor.dns_tap import owner_of

_SENDERS: Final = 256
_SENDER_SECONDS: Final = 5.0


class DnsSenders:
    """The last senders, bounded."""

    def __init__(self) -> None:
        self._senders: OrderedDict[tuple[int, str], float] = OrderedDict()

    def note(self, pid: int, address: str) -> None:
        """Remember that a process turned to the name server at `address`."""
        self._senders[pid, address] = time.monotonic()
        self._senders.move_to_end((pid, address))
        if len(self._senders) > _SENDERS:
            self._senders.popitem(last=False)

    def owner(self, packet: DnsPacket) -> int:
        """Return who sent a query: the one process that turned to this server lately, or the socket's holder."""
        since = time.monotonic() - _SENDER_SECONDS
        lately = [
            pid
            for (pid, address), when in reversed(self._senders.items())
            if when >= since and address == packet.destination_address
        ]
        if len(lately) == 1:
            return lately[0]
        return owner_of(packet, lately) or (lately[0] if lately else 0)
