"""What a host has sent where: timing and size of its contacts per destination, for features 32 and 33.

The features come from the estimators alone: how periodic the contacts are, and how much their sizes tell of the
intervals between them. Whether that makes a beacon is not decided here.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict, deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.estimators import periodicity_score, permutation_mutual_information, quantile_buckets
from eguard.events import EventBatch, EventClass

#: Destinations kept for a host; the one contacted longest ago is forgotten.
MAX_DESTINATIONS: Final = 1024
#: Contacts kept for a destination.
RING_OBSERVATIONS: Final = 256
#: Below this many contacts neither feature is computed.
MIN_OBSERVATIONS: Final = 20
#: A destination is evaluated anew after an eighth more contacts, but within these bounds.
REEVALUATE_OBSERVATIONS: Final = (8, 64)
#: Permutations behind the debiased mutual information.
N_PERMUTATIONS: Final = 50

_CONNECT: Final = int(EventClass.NETWORK_CONNECT)
_DNS: Final = int(EventClass.DNS_QUERY)
#: Second-level names under which country registries sell domains.
_PUBLIC_SECOND_LEVELS: Final = frozenset({"ac", "co", "com", "edu", "gov", "net", "or", "org"})

Destination = tuple[str, str, int]


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


class _Ring:
    """Contacts with one destination and what was last made of them."""

    __slots__ = ("evaluate_at", "features", "observations", "seen")

    def __init__(self) -> None:
        self.observations: deque[tuple[float, int]] = deque(maxlen=RING_OBSERVATIONS)
        self.seen = 0
        self.evaluate_at = 0
        self.features = (0.0, 0.0)


class DestinationHistory:
    """The last contacts of one host with each of its destinations.

    A destination is (process name, address, port), or (process name, registered domain, 0) for DNS queries. Contacts
    that do not lie after the one before (duplicate times, clock steps) are counted in `skipped` and left out.
    """

    def __init__(self) -> None:
        self._rings: OrderedDict[Destination, _Ring] = OrderedDict()
        self.skipped = 0

    def __len__(self) -> int:
        return len(self._rings)

    def observe(self, batch: EventBatch, is_candidate: NDArray[np.bool_]) -> dict[int, tuple[float, float]]:
        """Take in the contacts of a batch.

        Parameters
        ----------
        batch : EventBatch
            Events of this host in the order of delivery.
        is_candidate : ndarray of bool
            Events for which the features are wanted.

        Returns
        -------
        dict
            Position in the batch -> (debiased mutual information in bits, periodicity score in [0, 1]), for candidate
            contacts with at least `MIN_OBSERVATIONS` contacts behind them.
        """
        evaluated: dict[int, tuple[float, float]] = {}
        is_contact = (batch.event_class == _CONNECT) | (batch.event_class == _DNS)
        for index in np.flatnonzero(is_contact).tolist():
            destination = self._destination(batch, index)
            if destination is None:
                continue
            ring = self._push(destination, float(batch.time_unix[index]), int(batch.sent_bytes[index]))
            if is_candidate[index] and len(ring.observations) >= MIN_OBSERVATIONS:
                if ring.seen >= ring.evaluate_at:
                    least, most = REEVALUATE_OBSERVATIONS
                    ring.evaluate_at = ring.seen + min(max(ring.seen // 8, least), most)
                    ring.features = _evaluate(destination, ring)
                evaluated[index] = ring.features
        return evaluated

    def _destination(self, batch: EventBatch, index: int) -> Destination | None:
        if batch.event_class[index] == _DNS:
            name = batch.target[index]
            return (batch.comm[index], registered_domain(name), 0) if name else None
        address = batch.destination_address[index]
        return (batch.comm[index], address, int(batch.destination_port[index])) if address else None

    def _push(self, destination: Destination, time_unix: float, sent_bytes: int) -> _Ring:
        ring = self._rings.get(destination)
        if ring is None:
            ring = self._rings[destination] = _Ring()
            if len(self._rings) > MAX_DESTINATIONS:
                self._rings.popitem(last=False)
        else:
            self._rings.move_to_end(destination)
        if ring.observations and time_unix <= ring.observations[-1][0]:
            self.skipped += 1
        else:
            ring.observations.append((time_unix, sent_bytes))
            ring.seen += 1
        return ring


def _evaluate(destination: Destination, ring: _Ring) -> tuple[float, float]:
    observations = np.array(ring.observations, dtype=np.float64)
    times, sizes = observations[:, 0], observations[1:, 1]
    intervals = np.diff(times)
    # The permutations of a destination are its own: neither other destinations nor the order of evaluation move them.
    seed = hashlib.blake2b(repr((destination, ring.seen)).encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(seed, "big"))
    information = 0.0
    if np.ptp(intervals) > 0.0 and np.ptp(sizes) > 0.0:
        debiased, _ = permutation_mutual_information(
            quantile_buckets(intervals), quantile_buckets(sizes), rng, n_permutations=N_PERMUTATIONS
        )
        information = max(0.0, float(debiased))
    score = float(periodicity_score(times).score)
    return information, score if math.isfinite(score) else 0.0
