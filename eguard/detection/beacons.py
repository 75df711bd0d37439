"""The beacon tracker: the last contacts of one host with each of its destinations, as they come."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eguard.detection.beacon_rings import Rings, Sightings
from eguard.detection.lru_slots import LruSlots
from eguard.errors import EstimatorInputError
from eguard.estimators.beacon import LATEST_SECONDS, BeaconOptions, BeaconScores, score_contacts
from eguard.estimators.beacon_views import saturated_sizes
from eguard.estimators.validation import as_counts, as_finite

#: Destinations kept for a host; the one contacted longest ago is forgotten.
MAX_DESTINATIONS: Final = 1024
#: Events that enter the rings together.
STRETCH_EVENTS: Final = 8192


@lru_cache(maxsize=4096)
def is_never_c2(address: str) -> bool:
    """Return whether no single other machine can be listening at an address.

    True of multicast, link-local, broadcast, unspecified and loopback addresses; false of every other address, and of
    names. The broadcast address of a subnet is not recognised: that takes the subnet's mask.

    Examples
    --------
    >>> [is_never_c2(a) for a in ("224.0.0.251", "fe80::1%eth0", "255.255.255.255", "127.0.0.1", "::ffff:0.0.0.0")]
    [True, True, True, True, True]
    >>> [is_never_c2(a) for a in ("192.0.2.1", "2001:db8::1", "10.0.0.255", "c2.example", "")]
    [False, False, False, False, False]
    """
    try:
        parsed: Any = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    is_nobody = parsed.is_multicast or parsed.is_link_local or parsed.is_unspecified or parsed.is_loopback
    return bool(is_nobody or str(parsed) == "255.255.255.255")


class BeaconTracker:
    """Keeps the last contacts of one host with its destinations, and scores them.

    Parameters
    ----------
    capacity : int, optional
        Destinations kept; the one contacted longest ago makes room for a new one.
    options : BeaconOptions, optional
        Settings of the score; `max_observations` is the length of the rings.

    Attributes
    ----------
    skipped_total : int
        Contacts left out because their time did not exceed that of the one before: duplicates, clock steps.

    Notes
    -----
    A full destination takes 2 KiB in arrays and a few hundred bytes for its key. How a stream is cut into batches
    changes nothing. The scores are those of `eguard.estimators.beacon_regularity` on the same contacts, exactly.

    Examples
    --------
    >>> tracker = BeaconTracker()
    >>> tracker.observe(["a:443"] * 40, 60.0 * np.arange(40), np.full(40, 310))
    >>> keys, scores = tracker.scores()
    >>> keys, scores.regularity.tolist(), scores.period_seconds.tolist()
    (['a:443'], [1.0], [60.0])
    """

    def __init__(self, capacity: int = MAX_DESTINATIONS, options: BeaconOptions | None = None) -> None:
        self.options = options or BeaconOptions()
        self.skipped_total = 0
        self._index = LruSlots(capacity)
        self._rings = Rings(capacity, self.options.max_observations)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def evicted_total(self) -> int:
        """Destinations forgotten to make room."""
        return self._index.evicted_total

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self._rings.nbytes

    def observe(
        self,
        destinations: Sequence[Hashable] | NDArray[np.integer],
        times_seconds: ArrayLike,
        sizes_bytes: ArrayLike,
        look: Callable[[Sightings], None] | None = None,
    ) -> None:
        """Take in contacts in the order of their arrival.

        Parameters
        ----------
        destinations : sequence of hashable, or ndarray of int
            Who is contacted: keys, or codes that mean the same in every batch.
        times_seconds, sizes_bytes : array_like of shape (n,)
            When, and how many bytes were sent; sizes beyond 4 GiB and intervals beyond 49 days count as so much.
        look : callable, optional
            Called with each stretch of the batch before it enters the rings, to read what they hold after any of its
            events.

        Raises
        ------
        EstimatorInputError
            A time or size is not finite, a size is negative, a time is beyond 285,000 years, or the lengths differ.
            Nothing of the batch has been taken in.
        """
        if not len(destinations) == np.size(times_seconds) == np.size(sizes_bytes):
            raise EstimatorInputError("destinations", "destinations, times and sizes must be equally many")
        if not len(destinations):
            return
        times = as_finite("times_seconds", times_seconds, ndim=1)
        if float(np.abs(times).max()) > LATEST_SECONDS:
            raise EstimatorInputError("times_seconds", f"must lie within {LATEST_SECONDS:g} s of the epoch")
        sizes = saturated_sizes(as_counts("sizes_bytes", sizes_bytes))
        milliseconds = np.rint(times * 1000.0).astype(np.int64)
        keys = destinations.tolist() if isinstance(destinations, np.ndarray) else destinations
        for start in range(0, len(keys), STRETCH_EVENTS):
            stretch = slice(start, start + STRETCH_EVENTS)
            stays = self._index.take(keys[stretch])
            sightings = Sightings(self._rings, start, stays, milliseconds[stretch], sizes[stretch])
            if look is not None:
                look(sightings)
            self.skipped_total += sightings.write()

    def scores(self, reach: ArrayLike = -math.inf) -> tuple[list[Hashable], BeaconScores]:
        """Return the destinations, the one contacted longest ago first, and their scores.

        Parameters
        ----------
        reach : array_like of float, optional
            As in `eguard.estimators.beacon_regularity`.
        """
        slots = self._index.stays() % self._index.capacity
        wanted = np.broadcast_to(np.asarray(reach, np.float64), slots.shape)
        skipped = self._rings.skipped[slots]
        return self._index.keys(), score_contacts(self._rings.contacts(slots), skipped, self.options, wanted)
