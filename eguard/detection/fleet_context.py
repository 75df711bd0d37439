"""What the fleet knows: the tables behind features 9, 31 and 35 and the rarity of a beacon's destination.

The pipeline (in replay: every simulated night) or the server's nightly task builds the tables with `FleetShares`; a
bundle ships them as `fleet-context.json`; `FleetContext` answers from them. An entry the tables do not know gets the
smoothed default, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.errors import ModelError
from eguard.estimators.beacon import destination_rarity

FLEET_CONTEXT_VERSION: Final = 1
#: Beyond it a float no longer tells two counts apart.
MAX_COUNT: Final = 2**53

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FleetContext:
    """The fleet's tables as of one moment.

    Parameters
    ----------
    as_of_unix : float
        Nothing later than this moment has entered the tables.
    n_hosts : int
        Hosts seen in the seven days before.
    rule_hosts : mapping of str to int
        By rule or event key, the hosts that showed it in those seven days.
    port_ranks : mapping of int to int
        Rank of each destination port, 1 for the one most hosts connect to.
    children : mapping of str to mapping of str to int
        By parent's name, how often it started each child, in the whole fleet.
    n_connecting_hosts : int
        Hosts that connected anywhere in those seven days.
    destination_hosts : mapping of str to int
        By destination (`destinations.fleet_destinations`), how many of them used it; those that two or more did.

    Notes
    -----
    With k of H hosts, rank r of R ports and c of P children of a parent::

        rule_rarity         = 1 - (k + 1/2)/(H + 1)
        port_rarity         = r/(R + 2), (R + 1)/(R + 2) for a port unknown to the table
        parent_child_rarity = 1 - (c + 1/2)/(P + 1)

    so that an empty table answers 1/2 throughout: not known, rather than rare. Destinations are not smoothed, because a
    beacon score is compared with a threshold that was calibrated on 1 - (k - 1)/(H - 1).

    Examples
    --------
    >>> fleet = FleetContext(n_hosts=9, rule_hosts={"R": 9})
    >>> fleet.rule_rarity(["R", "unheard of"]).round(2).tolist()
    [0.05, 0.95]
    """

    as_of_unix: float = 0.0
    n_hosts: int = 0
    rule_hosts: Mapping[str, int] = field(default_factory=dict)
    port_ranks: Mapping[int, int] = field(default_factory=dict)
    children: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    n_connecting_hosts: int = 0
    destination_hosts: Mapping[str, int] = field(default_factory=dict)

    @property
    def knows_destinations(self) -> bool:
        """Whether there is a fleet in which a destination could be rare: two hosts that connect at least."""
        return self.n_connecting_hosts >= 2

    def rule_rarity(self, rule_ids: Sequence[str]) -> Column:
        """Return 1 minus the smoothed share of hosts that have shown each rule, shape (n,)."""
        hosts = self.rule_hosts
        shown = np.fromiter((hosts.get(rule, 0) for rule in rule_ids), np.float64, len(rule_ids))
        rarity: Column = 1.0 - (np.minimum(shown, self.n_hosts) + 0.5) / (self.n_hosts + 1.0)
        return rarity

    def port_rarity(self, ports: NDArray[np.integer[Any]]) -> Column:
        """Return how far down the fleet's ranking each destination port stands, shape (n,); 0 without a port."""
        unknown = len(self.port_ranks) + 1
        distinct, position = np.unique(ports, return_inverse=True)
        ranks = [self.port_ranks.get(port, unknown) if port > 0 else 0 for port in distinct.tolist()]
        rarity: Column = (np.array(ranks, np.float64) / (unknown + 1))[position]
        return rarity

    def parent_child_rarity(self, parents: Sequence[str], children: Sequence[str]) -> Column:
        """Return 1 minus the smoothed frequency of each child given its parent, shape (n,)."""
        pairs = list(zip(parents, children, strict=True))
        known: dict[tuple[str, str], float] = {}
        for parent, child in set(pairs):
            started = self.children.get(parent, {})
            known[parent, child] = 1.0 - (started.get(child, 0) + 0.5) / (sum(started.values()) + 1.0)
        return np.fromiter((known[pair] for pair in pairs), np.float64, len(pairs))

    def destination_rarity(self, destinations: Sequence[str]) -> Column:
        """Return how rare each destination is, shape (n,); 1 where no two hosts use it, or nothing is known."""
        hosts = self.destination_hosts
        using = np.fromiter((hosts.get(name, 1) for name in destinations), np.float64, len(destinations))
        if not self.knows_destinations or not using.size:
            return np.ones(using.size)
        return destination_rarity(using, self.n_connecting_hosts)

    def to_json(self) -> dict[str, Any]:
        """Return the tables as a JSON object, the same bytes for the same tables."""
        return {
            "version": FLEET_CONTEXT_VERSION,
            "as_of_unix": self.as_of_unix,
            "n_hosts": self.n_hosts,
            "rule_hosts": dict(sorted(self.rule_hosts.items())),
            "port_ranks": {str(port): rank for port, rank in sorted(self.port_ranks.items())},
            "children": {parent: dict(sorted(counts.items())) for parent, counts in sorted(self.children.items())},
            "n_connecting_hosts": self.n_connecting_hosts,
            "destination_hosts": dict(sorted(self.destination_hosts.items())),
        }

    @classmethod
    def from_json(cls, obj: Any) -> FleetContext:
        """Read what `to_json` wrote; tables written before destinations were counted have none.

        Raises
        ------
        ModelError
            The object has another version or shape, or a number that no count can be.
        """
        if not isinstance(obj, dict) or obj.get("version") != FLEET_CONTEXT_VERSION:
            raise ModelError(
                f"fleet context is not of version {FLEET_CONTEXT_VERSION}",
                remedy="Build the bundle again with this version of eGuard.",
            )
        try:
            tables = cls(
                as_of_unix=float(obj["as_of_unix"]),
                n_hosts=_count(obj["n_hosts"]),
                rule_hosts={str(rule): _count(hosts) for rule, hosts in obj["rule_hosts"].items()},
                port_ranks={int(port): _count(rank) for port, rank in obj["port_ranks"].items()},
                children={
                    str(parent): {str(child): _count(n) for child, n in counts.items()}
                    for parent, counts in obj["children"].items()
                },
                n_connecting_hosts=_count(obj.get("n_connecting_hosts", 0)),
                destination_hosts={
                    str(name): _count(hosts) for name, hosts in obj.get("destination_hosts", {}).items()
                },
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ModelError(f"fleet context is malformed: {error}") from error
        if not np.isfinite(tables.as_of_unix) or any(
            not 1 <= rank <= len(tables.port_ranks) for rank in tables.port_ranks.values()
        ):
            raise ModelError("fleet context holds a rank or time out of range")
        if max(tables.destination_hosts.values(), default=0) > tables.n_connecting_hosts:
            raise ModelError("fleet context holds a destination with more hosts than there are")
        return tables


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"{value!r} is no count")
    return value
