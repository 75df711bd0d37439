"""Who calls home: the composite beacon score of a host's destinations against the calibrated threshold.

score = regularity x rarity in the fleet. Rarity decides: update checks and clocks call as regularly as any beacon, but
from every host. Scores are made as contacts arrive, on a schedule of a destination's own contacts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.alert import BeaconEvidence
from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.detection.beacon_rings import Sightings
from eguard.detection.beacon_tally import BeaconTally
from eguard.detection.beacons import is_never_c2
from eguard.detection.contacts import Destination, fleet_name
from eguard.detection.fleet_context import FleetContext
from eguard.estimators.beacon import BeaconOptions, score_contacts

#: A destination is scored at its 20th contact and then after a quarter more, but at least 4 and at most 64 more.
QUARTER: Final = 4
SMALLEST_STEP: Final = 4
LARGEST_STEP: Final = 64
#: A score that equals the threshold does not exceed it, whichever way a quotient was rounded.
_REACH_MARGIN: Final = 1.0 - 1e-12

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What was found in a stretch: the evidence that stands at each row asked for, and the rows where alarms begin."""

    standing: dict[int, BeaconEvidence] = field(default_factory=dict)
    raised: list[int] = field(default_factory=list)


class BeaconJudge:
    """Scores the destinations of one host as they are contacted.

    Parameters
    ----------
    options : BeaconOptions
        Settings of the score.
    allow_list : sequence of str
        Addresses and registered domains that are never scored, as the tracker's destinations name them.

    Attributes
    ----------
    counts : Counter
        ``scored``, ``common`` (so many hosts use it that no regularity would do), ``never_c2``, ``allowed``
        and ``inbound``: evaluations made and passed over, with the reason; ``alarms`` and ``advisories`` raised.
    tally : BeaconTally
        Distinct destinations of the day that were scored and confirmed.
    """

    def __init__(self, options: BeaconOptions, allow_list: Sequence[str] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self.tally = BeaconTally()
        self._options = options
        self._is_due = _schedule(options.min_observations, options.max_observations)
        self._allowed = {name.lower() for name in allow_list}
        self._standing: dict[int, tuple[int, BeaconEvidence]] = {}

    def judge(
        self,
        sightings: Sightings,
        destinations: Sequence[Destination],
        is_inbound: Callable[[int], bool],
        *,
        calibration: BeaconCalibration | None,
        fleet: FleetContext,
        asked: Rows,
        time_unix: float = 0.0,
    ) -> Verdicts:
        """Score the destinations of a stretch that are due.

        Parameters
        ----------
        sightings : Sightings
            The stretch, before it enters the rings.
        destinations : sequence of Destination
            Destination of each of its events.
        is_inbound : callable
            Whether the other side opened a connection, by its row in the stretch.
        calibration : BeaconCalibration or None
            Without one, or without a threshold, nothing is scored and nothing stands.
        fleet : FleetContext
            Tells how rare destinations are.
        asked : ndarray of int
            Rows whose standing evidence is wanted.
        time_unix : float
            When the stretch ended; tells the day for `tally`.
        """
        if calibration is None or calibration.threshold is None:
            self._standing.clear()
            return Verdicts()
        due = self._due(sightings)
        rows = [row for row in due.tolist() if self._may_be_c2(destinations[row], row, is_inbound)]
        names = [fleet_name(destinations[row]) for row in rows]
        found = self._score(sightings, rows, names, calibration, fleet)
        if rows:
            beacons = [each.destination for each in found.values() if each is not None and each.is_confirmed]
            self.tally.count(time_unix, names, beacons)
        verdicts = Verdicts()
        wanted = set(asked.tolist())
        for row in sorted(wanted | found.keys()):
            slot, stay = int(sightings.slots[row]), int(sightings.stays[row])
            held = self._standing.get(slot)
            if held is not None and held[0] != stay:
                held = None
            if row in found:
                evidence = found[row]
                if evidence is None:
                    self._standing.pop(slot, None)
                    continue
                self._standing[slot] = (stay, evidence)
                if held is None:
                    verdicts.raised.append(row)
                    self.counts["alarms" if evidence.is_confirmed else "advisories"] += 1
                held = (stay, evidence)
            if held is not None:
                verdicts.standing[row] = held[1]
        return verdicts

    def _due(self, sightings: Sightings) -> Rows:
        seen, last = sightings.seen, self._is_due.size - 1
        is_due = np.where(seen <= last, self._is_due[np.minimum(seen, last)], (seen - last) % LARGEST_STEP == 0)
        return np.flatnonzero(sightings.is_accepted & is_due)

    def _may_be_c2(self, destination: Destination, row: int, is_inbound: Callable[[int], bool]) -> bool:
        reason = ""
        if is_never_c2(destination[1]):
            reason = "never_c2"
        elif destination[1].lower() in self._allowed:
            reason = "allowed"
        elif is_inbound(row):
            reason = "inbound"
        if reason:
            self.counts[reason] += 1
        return not reason

    def _score(
        self,
        sightings: Sightings,
        rows: list[int],
        names: list[str],
        calibration: BeaconCalibration,
        fleet: FleetContext,
    ) -> dict[int, BeaconEvidence | None]:
        """Return the evidence of each row, None where the score does not exceed the threshold."""
        threshold = calibration.threshold
        assert threshold is not None
        rarity = fleet.destination_rarity(names)
        # No regularity exceeds 1, so no score exceeds the rarity.
        is_rare = rarity > threshold
        found: dict[int, BeaconEvidence | None] = dict.fromkeys(rows)
        self.counts.update(common=len(rows) - int(np.count_nonzero(is_rare)))
        chosen = np.flatnonzero(is_rare)
        if not chosen.size:
            return found
        self.counts["scored"] += chosen.size
        contacts = sightings.contacts(np.array(rows, dtype=np.intp)[chosen])
        reach = threshold / rarity[chosen] * _REACH_MARGIN
        scores = score_contacts(contacts, np.zeros(chosen.size, dtype=np.int64), self._options, reach)
        composite = scores.regularity * rarity[chosen]
        is_confirmed = fleet.knows_destinations and not calibration.insufficient_calibration
        for index in np.flatnonzero(composite > threshold).tolist():
            at = int(chosen[index])
            found[rows[at]] = BeaconEvidence(
                destination=names[at],
                score=float(composite[index]),
                regularity=float(scores.regularity[index]),
                rarity=float(rarity[at]),
                threshold=threshold,
                period_seconds=float(scores.period_seconds[index]),
                n_observations=int(scores.n_observations[index]),
                is_confirmed=is_confirmed,
            )
        return found


def _schedule(first: int, last: int) -> NDArray[np.bool_]:
    """Return, by number of contacts up to where the step no longer grows, whether a destination is due.

    Examples
    --------
    >>> np.flatnonzero(_schedule(20, 256)).tolist()
    [20, 25, 31, 38, 47, 58, 72, 90, 112, 140, 175, 218, 256]
    """
    is_due = np.zeros(max(last, QUARTER * LARGEST_STEP) + 1, dtype=np.bool_)
    contacts = first
    while contacts < is_due.size - 1:
        is_due[contacts] = True
        contacts += min(max(contacts // QUARTER, SMALLEST_STEP), LARGEST_STEP)
    is_due[-1] = True
    return is_due
