"""Layer 1: exact indicators (file hashes, domains, addresses and networks) matched against batches of events."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from eguard.detection.field_tests import parse_address
from eguard.detection.indicator_list import KINDS, Indicator, make_indicator
from eguard.detection.recent_cache import RecentCache
from eguard.errors import RuleError
from eguard.events.columns import EventBatch
from eguard.events.model import EventClass

#: Version of the JSON form; another one is refused.
INDICATORS_FORMAT: Final = 1
_REMEMBERED: Final = 32_768
#: No name in DNS is longer, so longer text is no name.
_LONGEST_NAME: Final = 254
_NAMED_CLASSES: Final = frozenset({int(EventClass.NETWORK_CONNECT), int(EventClass.DNS_QUERY)})
_NETWORK_CONNECT: Final = int(EventClass.NETWORK_CONNECT)

_Hits = tuple[Indicator, ...]
_NONE: Final[_Hits] = ()


class _IndicatorForm(msgspec.Struct, forbid_unknown_fields=True):
    """JSON form of one indicator."""

    kind: str
    value: str
    source: str


class IndicatorSet:
    """Known-bad hashes, domains, addresses and networks.

    A domain stands for its subdomains too. Of a connection both ends are looked at: the destination, and the host
    where the sensor names hosts by address. Looking up costs a dictionary per event and kind, whatever the list's
    length; networks are grouped by prefix length.

    Parameters
    ----------
    indicators : iterable of Indicator
        In canonical form (`eguard.detection.indicator_list.make_indicator`).

    Examples
    --------
    >>> known = IndicatorSet([make_indicator("evil.example", source="feed")])
    >>> batch = EventBatch(time_unix=[0.0, 0.0], event_class=[4, 4], target=["c2.EVIL.example.", "notevil.example"])
    >>> known.match(batch).tolist(), known.hits(batch, 0)[0].source
    ([True, False], 'feed')
    """

    def __init__(self, indicators: Iterable[Indicator]) -> None:
        self.indicators: tuple[Indicator, ...] = tuple(sorted(set(indicators)))
        self._by_kind: dict[str, dict[Any, Indicator]] = {kind: {} for kind in KINDS}
        for indicator in self.indicators:
            self._by_kind[indicator.kind].setdefault(_key(indicator), indicator)
        prefixes = {(version, prefix) for version, prefix, _ in self._by_kind["network"]}
        self._prefixes = sorted(prefixes)
        self._addresses: RecentCache[str, _Hits] = RecentCache(_REMEMBERED)
        self._names: RecentCache[str, _Hits] = RecentCache(_REMEMBERED, weigh=len)

    def __len__(self) -> int:
        return len(self.indicators)

    @classmethod
    def from_json(cls, obj: Any) -> IndicatorSet:
        """Read what the rules stage wrote.

        Raises
        ------
        RuleError
            The form is of another version, malformed, or holds something that is no indicator.
        """
        items = obj.get("indicators") if isinstance(obj, dict) and obj.get("format") == INDICATORS_FORMAT else None
        if not isinstance(items, list):
            raise RuleError(f"not an indicator file of format {INDICATORS_FORMAT}", reason="malformed")
        indicators = []
        for number, item in enumerate(items):
            try:
                form = msgspec.convert(item, _IndicatorForm)
            except msgspec.ValidationError as error:
                raise RuleError(f"indicator {number} is malformed: {error}", reason="malformed") from error
            indicators.append(make_indicator(form.value, kind=form.kind, source=form.source))
        return cls(indicators)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, sorted."""
        return {"format": INDICATORS_FORMAT, "indicators": [indicator._asdict() for indicator in self.indicators]}

    def match(self, batch: EventBatch) -> NDArray[np.bool_]:
        """Return, for each event, whether some indicator is in it.

        Returns
        -------
        ndarray of bool of shape (len(batch),)
        """
        matched = np.zeros(len(batch), dtype=np.bool_)
        hashes = self._by_kind["sha256"]
        if hashes:
            matched |= [bool(digest) and digest.lower() in hashes for digest in batch.file_sha256]
        classes = batch.event_class
        for number in np.flatnonzero(np.isin(classes, list(_NAMED_CLASSES))).tolist():
            matched[number] = matched[number] or bool(self._network_hits(batch, number))
        return matched

    def hits(self, batch: EventBatch, index: int) -> _Hits:
        """Return the indicators in event `index`, each with its source."""
        found = self._by_kind["sha256"].get(batch.file_sha256[index].lower())
        network = self._network_hits(batch, index) if int(batch.event_class[index]) in _NAMED_CLASSES else _NONE
        return tuple(dict.fromkeys(((found,) if found else _NONE) + network))

    def _network_hits(self, batch: EventBatch, index: int) -> _Hits:
        """Return the indicators among names and addresses of a connection or query."""
        address, target, host = batch.destination_address[index], batch.target[index], batch.host_id[index]
        hits = _NONE
        if address:
            hits += self._address_hits(address)
            ports = self._by_kind["address_port"]
            if ports:
                port = int(batch.destination_port[index])
                found = ports.get((parse_address(address), port))
                hits += (found,) if found else _NONE
        if target:
            hits += self._name_hits(target)
        if int(batch.event_class[index]) == _NETWORK_CONNECT:
            hits += self._address_hits(host)
        return hits

    def _address_hits(self, text: str) -> _Hits:
        """Return the indicators for an address; text that is no address has none."""
        hits = self._addresses.get(text)
        if hits is None:
            hits = tuple(self._look_up_address(text))
            self._addresses.put(text, hits)
        return hits

    def _look_up_address(self, text: str) -> Iterator[Indicator]:
        address = parse_address(text)
        if address is None:
            return
        if (found := self._by_kind["address"].get(address)) is not None:
            yield found
        for version, prefix in self._prefixes:
            if version == address.version:
                key = (version, prefix, int(address) >> (address.max_prefixlen - prefix))
                if (found := self._by_kind["network"].get(key)) is not None:
                    yield found

    def _name_hits(self, text: str) -> _Hits:
        """Return the indicators for a name: its own and those of its parent domains."""
        if len(text) > _LONGEST_NAME:
            return _NONE
        hits = self._names.get(text)
        if hits is None:
            domains = self._by_kind["domain"]
            labels = text.lower().rstrip(".").split(".")
            parents = (".".join(labels[start:]) for start in range(len(labels)))
            hits = tuple(domains[name] for name in parents if name in domains) or self._address_hits(text)
            self._names.put(text, hits)
        return hits


def _key(indicator: Indicator) -> Any:
    """Return what an indicator is looked up by."""
    if indicator.kind == "address":
        return parse_address(indicator.value)
    if indicator.kind == "address_port":
        address, _, port = indicator.value.rpartition(":")
        return parse_address(address.strip("[]")), int(port)
    if indicator.kind == "network":
        network = ipaddress.ip_network(indicator.value)
        return (
            network.version,
            network.prefixlen,
            int(network.network_address) >> (network.max_prefixlen - network.prefixlen),
        )
    return indicator.value
