"""Which alerts the whitelist silences.

An alert that is silenced is stored, marked and counted like any other. An entry silences no more than it names:

* ``process_key``: alerts of exactly this key;
* ``rule``: alerts of which every rule is on the list, unless an indicator or a beacon speaks too;
* ``ip``: alerts whose target or beacon is the address, or in the network;
* ``domain``: alerts whose target or beacon is the name or, where the entry has a dot, a name below it;
* ``hash``: alerts about the file, by what the matched rules or the indicator say of its hash.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Final

from eguard.detection.alert import Alert
from eguard.wire.policy import WhitelistEntry

_HASH: Final = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{64}|[0-9a-f]{32})(?![0-9a-f])")
_OTHER_EVIDENCE: Final = ("indicator ", "beacon ")


class Suppressor:
    """The entries that hold for one agent now.

    Parameters
    ----------
    entries : iterable of WhitelistEntry
        In the order in which they are tried within their kind.

    Examples
    --------
    >>> entry = WhitelistEntry(entry_id="e1", kind="domain", value="example.org")
    >>> alert = Alert(alert_id="a", host_id="h", observed_at_unix=0.0, event_class="dns_query",
    ...     process_key="curl:sh", confidence="low", response="alert_only", reasons=(), target="cdn.example.org")
    >>> Suppressor([entry]).match(alert)
    'e1'
    """

    def __init__(self, entries: Iterable[WhitelistEntry]) -> None:
        self._exact: dict[tuple[str, str], str] = {}
        self._networks: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, str]] = []
        for entry in entries:
            if entry.kind == "ip":
                self._networks.append((ipaddress.ip_network(entry.value), entry.entry_id))
            else:
                self._exact.setdefault((entry.kind, entry.value), entry.entry_id)

    def match(self, alert: Alert) -> str | None:
        """Return the id of the entry that silences the alert, or None."""
        if not self._exact and not self._networks:
            return None
        found = self._exact.get(("process_key", alert.process_key))
        return found or self._by_rules(alert) or self._by_destination(alert) or self._by_hash(alert)

    def _by_rules(self, alert: Alert) -> str | None:
        if any(reason.startswith(_OTHER_EVIDENCE) for reason in alert.reasons):
            return None
        entries = [self._exact.get(("rule", rule.rule_id)) for rule in alert.rules]
        return entries[0] if entries and all(entries) else None

    def _by_destination(self, alert: Alert) -> str | None:
        for destination in filter(None, (alert.target, alert.beacon.destination if alert.beacon else "")):
            found = self._by_address(destination) or self._by_name(destination)
            if found:
                return found
        return None

    def _by_address(self, text: str) -> str | None:
        if not self._networks:
            return None
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return None
        return next((entry_id for network, entry_id in self._networks if address in network), None)

    def _by_name(self, text: str) -> str | None:
        name = text.lower().rstrip(".")
        whole = self._exact.get(("domain", name))
        below = (self._exact.get(("domain", parent)) for parent in _parents(name))
        return whole or next(filter(None, below), None)

    def _by_hash(self, alert: Alert) -> str | None:
        if not any(kind == "hash" for kind, _ in self._exact):
            return None
        texts = [*alert.reasons, *(value for rule in alert.rules for _, value in rule.matched_fields)]
        found = (self._exact.get(("hash", digest)) for text in texts for digest in _HASH.findall(text.lower()))
        return next(filter(None, found), None)


def _parents(name: str) -> Iterator[str]:
    """Yield the names above `name` that have a dot."""
    _, _, rest = name.partition(".")
    while "." in rest:
        yield rest
        _, _, rest = rest.partition(".")
