"""How the fleet's tables are gathered: what `FleetContext` answers from, counted as the alerts and events go by."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.fleet_context import FleetContext
from eguard.errors import EstimatorInputError

SHARE_WINDOW_SECONDS: Final = 7 * 86_400.0
#: Most entries of each table; the rarest are left out and so count as unknown.
MAX_RULES: Final = 16_384
MAX_PORTS: Final = 4096
MAX_PARENTS: Final = 4096
MAX_CHILDREN: Final = 256
MAX_DESTINATIONS: Final = 4096
#: Destinations counted at once; beyond, those that one host alone used longest ago are forgotten.
MAX_COUNTED_DESTINATIONS: Final = 262_144


class FleetShares:
    """Gathers which hosts showed which rules, ports, process pairs and destinations, and makes the nightly tables.

    Rules and destinations are shared out over the hosts seen in the last seven days. Ports and (parent, child) pairs
    describe how the fleet normally works and are counted from the beginning.

    Examples
    --------
    >>> shares = FleetShares()
    >>> shares.observe(["a", "b", "b"], ["R", "R", "S"], [0.0, 10.0, 20.0])
    >>> tables = shares.nightly(86_400.0)
    >>> tables.n_hosts, dict(tables.rule_hosts)
    (2, {'R': 2, 'S': 1})
    >>> shares.nightly(7 * 86_400.0 + 15.0).rule_hosts  # the first two have left the seven days
    {'S': 1}
    """

    def __init__(self) -> None:
        self._host_seen: dict[str, float] = {}
        self._rule_seen: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._port_hosts: defaultdict[int, set[str]] = defaultdict(set)
        self._port_connections: Counter[int] = Counter()
        self._children: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._connecting_seen: dict[str, float] = {}
        self._destination_seen: dict[str, dict[str, float]] = {}
        self._latest = -np.inf

    def observe(
        self, host_ids: Sequence[str], rule_ids: Sequence[str], time_unix: Sequence[float] | NDArray[np.float64]
    ) -> None:
        """Learn alerts: which host showed which rule or event key, and when. Times may come in any order."""
        host_seen, rule_seen = self._host_seen, self._rule_seen
        for host, rule, time in zip(host_ids, rule_ids, np.asarray(time_unix, np.float64).tolist(), strict=True):
            hosts = rule_seen[rule]
            if time > hosts.get(host, -np.inf):
                hosts[host] = time
                host_seen[host] = max(time, host_seen.get(host, -np.inf))
        self._latest = max(self._latest, max(time_unix, default=-np.inf))

    def observe_ports(self, host_ids: Sequence[str], ports: Sequence[int] | NDArray[np.integer]) -> None:
        """Learn connections: which host connected to which destination port; port 0 is none."""
        for host, port in zip(host_ids, np.asarray(ports).tolist(), strict=True):
            if port > 0:
                self._port_hosts[port].add(host)
                self._port_connections[port] += 1

    def observe_destinations(
        self, host_ids: Sequence[str], destinations: Sequence[str], time_unix: Sequence[float] | NDArray[np.float64]
    ) -> None:
        """Learn contacts: which host contacted which destination, and when. Times may come in any order."""
        connecting, seen = self._connecting_seen, self._destination_seen
        times = np.asarray(time_unix, np.float64).tolist()
        for host, name, time in zip(host_ids, destinations, times, strict=True):
            connecting[host] = max(time, connecting.get(host, -np.inf))
            if name not in seen and len(seen) >= MAX_COUNTED_DESTINATIONS:
                self._forget_lone_destinations()
            hosts = seen.setdefault(name, {})
            hosts[host] = max(time, hosts.get(host, -np.inf))
        self._latest = max(self._latest, max(times, default=-np.inf))

    def observe_children(self, parents: Sequence[str], children: Sequence[str]) -> None:
        """Learn process starts: which parent started which child."""
        for parent, child in zip(parents, children, strict=True):
            self._children[parent][child] += 1

    def nightly(self, as_of_unix: float) -> FleetContext:
        """Return the tables as of a moment, and forget the alerts that lie more than seven days before it.

        Raises
        ------
        EstimatorInputError
            An alert later than `as_of_unix` was already learned: the table would know the future.
        """
        if self._latest > as_of_unix:
            raise EstimatorInputError("as_of_unix", f"alerts up to {self._latest} were learned, asked for {as_of_unix}")
        horizon = as_of_unix - SHARE_WINDOW_SECONDS
        self._host_seen = {host: seen for host, seen in self._host_seen.items() if seen > horizon}
        self._connecting_seen = {host: seen for host, seen in self._connecting_seen.items() if seen > horizon}
        _forget_before(self._rule_seen, horizon)
        _forget_before(self._destination_seen, horizon)
        shared = {name: len(hosts) for name, hosts in self._destination_seen.items() if len(hosts) > 1}
        return FleetContext(
            as_of_unix=as_of_unix,
            n_hosts=len(self._host_seen),
            rule_hosts=_commonest({rule: len(hosts) for rule, hosts in self._rule_seen.items()}, MAX_RULES),
            port_ranks=self._rank_ports(),
            children={parent: _commonest(self._children[parent], MAX_CHILDREN) for parent in self._busiest_parents()},
            n_connecting_hosts=len(self._connecting_seen),
            destination_hosts=_commonest(shared, MAX_DESTINATIONS),
        )

    def _forget_lone_destinations(self) -> None:
        """Forget half of the destinations: such as one host alone used, longest ago first, then the least used."""
        seen = self._destination_seen
        order = sorted(seen, key=lambda name: (len(seen[name]), max(seen[name].values()), name))
        for name in order[: len(seen) // 2]:
            del seen[name]

    def _rank_ports(self) -> dict[int, int]:
        """Rank by hosts, then connections, so that one chatty host does not decide; equals share the better rank."""
        weight = {port: (len(hosts), self._port_connections[port]) for port, hosts in self._port_hosts.items()}
        ranks: dict[int, int] = {}
        for position, port in enumerate(sorted(weight, key=lambda port: (-weight[port][0], -weight[port][1], port))):
            previous = next(reversed(ranks), None)
            tied = previous is not None and weight[previous] == weight[port]
            ranks[port] = ranks[previous] if previous is not None and tied else position + 1
            if len(ranks) == MAX_PORTS:
                break
        return ranks

    def _busiest_parents(self) -> Mapping[str, int]:
        return _commonest({parent: counts.total() for parent, counts in self._children.items()}, MAX_PARENTS)


def _forget_before(sightings: dict[str, dict[str, float]], horizon: float) -> None:
    """Drop the hosts that were last seen by `horizon`, and the names that none is left of."""
    for name in list(sightings):
        recent = {host: seen for host, seen in sightings[name].items() if seen > horizon}
        if recent:
            sightings[name] = recent
        else:
            del sightings[name]


def _commonest(counts: Mapping[str, int], limit: int) -> dict[str, int]:
    """Return the `limit` largest counts, by name; equal counts are cut in the order of their names."""
    kept = sorted(counts, key=lambda name: (-counts[name], name))[:limit]
    return {name: counts[name] for name in sorted(kept)}
