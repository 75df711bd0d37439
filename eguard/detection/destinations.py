"""What a host has sent where: features 32 and 33 of its contacts, and the beacons among its destinations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.alert import BeaconEvidence
from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.detection.beacon_judge import BeaconJudge
from eguard.detection.beacon_rings import Sightings
from eguard.detection.beacons import BeaconTracker
from eguard.detection.contacts import Contacts, Destination, is_inbound
from eguard.detection.fleet_context import FleetContext
from eguard.estimators import permutation_mutual_information, quantile_buckets
from eguard.estimators.beacon import LATEST_SECONDS, score_contacts
from eguard.events import EventBatch

#: The features of a destination are computed anew after an eighth more contacts, but within these bounds.
REEVALUATE_OBSERVATIONS: Final = (8, 64)
#: Permutations behind the debiased mutual information.
N_PERMUTATIONS: Final = 50


@dataclass(frozen=True, slots=True)
class ContactFindings:
    """What a batch's contacts showed, by position in the batch.

    Attributes
    ----------
    features : dict
        (debiased mutual information in bits, periodicity score in [0, 1]) of candidates, and of contacts that confirmed
        a beacon, from the 20th contact on.
    beacons : dict
        Evidence that stands against the destination of candidates, and of contacts at which it was scored.
    raised : list of int
        Contacts at which the evidence first exceeded the threshold, confirmed or advisory.
    """

    features: dict[int, tuple[float, float]] = field(default_factory=dict)
    beacons: dict[int, BeaconEvidence] = field(default_factory=dict)
    raised: list[int] = field(default_factory=list)

    @property
    def confirmed(self) -> list[int]:
        """Contacts that confirmed a beacon."""
        return [position for position in self.raised if self.beacons[position].is_confirmed]


class DestinationHistory:
    """The last contacts of one host with each of its destinations.

    A destination is (process name, address, port), or (process name, registered domain, 0) for DNS queries. Contacts
    without a usable time, or not after the one before (duplicate times, clock steps), are counted in `skipped`.

    Parameters
    ----------
    allow_list : sequence of str, optional
        Addresses and registered domains that are never scored as beacons.
    """

    def __init__(self, allow_list: Sequence[str] = ()) -> None:
        self.tracker = BeaconTracker()
        self.judge = BeaconJudge(self.tracker.options, allow_list)
        self._untimed = 0
        self._features: dict[int, _Reading] = {}

    def __len__(self) -> int:
        return len(self.tracker)

    @property
    def skipped(self) -> int:
        """Contacts left out so far."""
        return self.tracker.skipped_total + self._untimed

    def observe(
        self,
        batch: EventBatch,
        is_candidate: NDArray[np.bool_],
        calibration: BeaconCalibration | None = None,
        fleet: FleetContext | None = None,
    ) -> ContactFindings:
        """Take in the contacts of a batch.

        Parameters
        ----------
        batch : EventBatch
            Events of this host in the order of delivery.
        is_candidate : ndarray of bool
            Events for which the features and the standing evidence are wanted.
        calibration : BeaconCalibration, optional
            Threshold of the beacon score; without one no destination is scored.
        fleet : FleetContext, optional
            Tells how rare destinations are.
        """
        findings = ContactFindings()
        contacts = Contacts.of(batch)
        times = batch.time_unix[contacts.positions]
        is_timed = np.abs(times) <= LATEST_SECONDS  # false for NaN
        if not is_timed.all():
            self._untimed += int(np.count_nonzero(~is_timed))
            kept = np.flatnonzero(is_timed)
            contacts = Contacts(contacts.positions[kept], [contacts.destinations[row] for row in kept.tolist()])
        positions, tables = contacts.positions, fleet or FleetContext()

        def look(sightings: Sightings) -> None:
            stretch = slice(sightings.start, sightings.start + len(sightings))
            here, destinations = positions[stretch], contacts.destinations[stretch]
            asked = np.flatnonzero(is_candidate[here])
            verdicts = self.judge.judge(
                sightings,
                destinations,
                lambda row: is_inbound(batch, int(here[row])),
                calibration=calibration,
                fleet=tables,
                asked=asked,
                time_unix=float(batch.time_unix[here[-1]]),
            )
            findings.beacons.update((int(here[row]), found) for row, found in verdicts.standing.items())
            findings.raised.extend(here[verdicts.raised].tolist())
            confirmed = [row for row in verdicts.raised if verdicts.standing[row].is_confirmed]
            wanted = np.union1d(asked, np.array(confirmed, dtype=np.intp))
            features = self._read(sightings, destinations, wanted)
            findings.features.update((int(here[row]), values) for row, values in features.items())

        sizes = np.maximum(batch.sent_bytes[positions], 0)
        self.tracker.observe(contacts.destinations, batch.time_unix[positions], sizes, look)
        return findings

    def _read(
        self, sightings: Sightings, destinations: Sequence[Destination], wanted: NDArray[np.intp]
    ) -> dict[int, tuple[float, float]]:
        """Return the features of the wanted rows, computed anew for those whose destination has grown enough."""
        enough = wanted[sightings.seen[wanted] >= self.tracker.options.min_observations]
        readings: dict[int, _Reading] = {}
        due: list[int] = []
        for row in enough.tolist():
            slot, stay, seen = int(sightings.slots[row]), int(sightings.stays[row]), int(sightings.seen[row])
            reading = self._features.get(slot)
            if reading is None or reading.stay != stay or seen >= reading.renew_at:
                least, most = REEVALUATE_OBSERVATIONS
                reading = self._features[slot] = _Reading(stay, seen + min(max(seen // 8, least), most))
                due.append(row)
            readings[row] = reading
        if due:
            contacts = sightings.contacts(np.array(due, dtype=np.intp))
            nothing = np.zeros(len(due), dtype=np.int64)
            scores = score_contacts(contacts, nothing, self.tracker.options, np.full(len(due), -np.inf))
            for index, row in enumerate(due):
                part = slice(int(contacts.offsets[index]) + 1, int(contacts.offsets[index + 1]))
                seed = (destinations[row], int(sightings.seen[row]))
                information = _information_bits(seed, contacts.gaps[part], contacts.sizes[part])
                readings[row].features = (information, float(scores.periodicity[index]))
        return {row: reading.features for row, reading in readings.items()}


@dataclass(slots=True)
class _Reading:
    """Features of a destination, as of when they were last computed."""

    stay: int
    renew_at: int
    features: tuple[float, float] = (0.0, 0.0)


def _information_bits(seed: tuple[Destination, int], gaps: NDArray[np.int64], sizes: NDArray[np.int64]) -> float:
    """Return the debiased mutual information of intervals and sizes; permuted only where both vary."""
    if not np.ptp(gaps) or not np.ptp(sizes):
        return 0.0
    # The permutations of a destination are its own: neither other destinations nor the order of evaluation move them.
    digest = hashlib.blake2b(repr(seed).encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "big"))
    debiased, _ = permutation_mutual_information(
        quantile_buckets(gaps), quantile_buckets(sizes), rng, n_permutations=N_PERMUTATIONS
    )
    return debiased
