"""The threshold of the beacon score: conformal, on half of the hosts of a benign network, checked on the other half.

"One false alarm in a hundred destinations": the unit that is exchangeable is the *destination*, because hosts share
names and the same update server called by ten hosts is one piece of evidence and not ten. A destination's score is the
largest that any host gives it, and 0 if no host called it often enough to be scored: such a destination cannot alarm,
and it is one of the hundred all the same. Stricter readings that count scored pairs or scored names alone stand
beside it in every report.

How many hosts call a destination is a property of the fleet, so that the rarity counts all of its hosts; what is
halved is who calibrates and who checks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.estimators import ConformalThreshold, conformal_threshold
from eguard.estimators.beacon import BeaconOptions
from eguard.mlops.beacon_intervals import rate
from eguard.mlops.beacon_pairs import BeaconPairs
from eguard.mlops.sampling import hash_ranks

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

Reading = Literal["destination", "pair", "scored_pair", "scored_destination"]
#: The reading of "one false alarm in a hundred destinations" as it stands.
DESTINATION: Final[Reading] = "destination"
#: The stricter reading that every table shows beside it: only pairs with observations enough count.
SCORED_PAIR: Final[Reading] = "scored_pair"


@dataclass(frozen=True, slots=True)
class PairScores:
    """What a threshold is set on: scores of pairs by any method, arrays of shape (n_pairs,).

    Parameters
    ----------
    host, destination : ndarray of int
        Codes.
    score : ndarray of float64
        0 where a pair is not scored.
    is_scored : ndarray of bool
        Whether it had observations enough.
    """

    host: NDArray[np.intp]
    destination: NDArray[np.intp]
    score: Floats
    is_scored: Mask

    def take(self, rows: Mask) -> PairScores:
        """Return some of the pairs."""
        return PairScores(self.host[rows], self.destination[rows], self.score[rows], self.is_scored[rows])

    def by_destination(self, *, scored_only: bool = False) -> Floats:
        """Return the largest score of each distinct destination that these pairs call."""
        rows = self.is_scored if scored_only else np.ones(len(self.host), bool)
        names, code = np.unique(self.destination[rows], return_inverse=True)
        largest = np.zeros(len(names))
        np.maximum.at(largest, code, self.score[rows])
        return largest


#: What may count as one trial, and its scores.
READINGS: Final[dict[Reading, Callable[[PairScores], Floats]]] = {
    DESTINATION: lambda pairs: pairs.by_destination(),
    "pair": lambda pairs: pairs.score,
    SCORED_PAIR: lambda pairs: pairs.score[pairs.is_scored],
    "scored_destination": lambda pairs: pairs.by_destination(scored_only=True),
}


def pair_scores(pairs: BeaconPairs, score: Floats, is_scored: Mask) -> PairScores:
    """Return the scores of `pairs` under one method as a threshold needs them."""
    return PairScores(pairs.host, pairs.destination, score, is_scored)


def hash_halves(pairs: BeaconPairs) -> Mask:
    """Return which pairs are of the calibrating half: hosts at even places in the order of their names' SHA-256."""
    present = np.unique(pairs.host)
    place = np.zeros(len(pairs.hosts), np.int64)
    place[present] = hash_ranks([pairs.hosts[code] for code in present])
    is_calibrating: Mask = place[pairs.host] % 2 == 0
    return is_calibrating


def threshold_of(scores: PairScores, alpha: float, reading: Reading = DESTINATION) -> ConformalThreshold:
    """Return the conformal threshold of one reading; infinite where there is too little to calibrate on."""
    values = READINGS[reading](scores)
    if not values.size:
        return ConformalThreshold(np.inf, "insufficient_calibration", None, 0, alpha, "marginal")
    return conformal_threshold(values, alpha)


def false_alarms(scores: PairScores, threshold: float) -> dict[str, Any]:
    """Return how many benign destinations and pairs exceed a threshold, with exact intervals."""
    every, scored = scores.by_destination(), scores.by_destination(scored_only=True)
    flagged = scores.is_scored & (scores.score > threshold)
    return {
        "destinations": rate(int((every > threshold).sum()), every.size),
        "scored_destinations": rate(int((scored > threshold).sum()), scored.size),
        "scored_pairs": rate(int(flagged.sum()), int(scores.is_scored.sum())),
    }


def check_transfer(scores: PairScores, is_calibrating: Mask, alpha: float, reading: Reading) -> dict[str, Any]:
    """Calibrate on one side and count false alarms on the other.

    Beside all destinations of the checking hosts stand those that no calibrating host called: names that both halves
    call are the same evidence twice.
    """
    calibration, check = scores.take(is_calibrating), scores.take(~is_calibrating)
    threshold = threshold_of(calibration, alpha, reading)
    is_new = ~np.isin(check.destination, calibration.destination)
    return {
        **threshold_json(threshold),
        "n_hosts_calibrating": len(np.unique(calibration.host)),
        "n_hosts_checking": len(np.unique(check.host)),
        "false_alarms": false_alarms(check, threshold.threshold),
        "false_alarms_at_new_destinations": false_alarms(check.take(is_new), threshold.threshold)["destinations"],
    }


def check_random_halves(
    scores: PairScores, alpha: float, reading: Reading, rng: np.random.Generator, n_splits: int
) -> dict[str, Any]:
    """Repeat the check over random halves of the hosts and return the spread of threshold and false-alarm rate."""
    hosts = np.unique(scores.host)
    thresholds, rates = [], []
    for _ in range(n_splits):
        calibrating = rng.permutation(hosts)[: (len(hosts) + 1) // 2]
        checked = check_transfer(scores, np.isin(scores.host, calibrating), alpha, reading)
        thresholds.append(np.inf if checked["threshold"] is None else checked["threshold"])
        rates.append(checked["false_alarms"]["destinations"]["rate"] or 0.0)
    finite = [value for value in thresholds if np.isfinite(value)]
    return {
        "n_splits": n_splits,
        "n_insufficient": n_splits - len(finite),
        "threshold_min_median_max": [float(np.quantile(finite, q)) for q in (0.0, 0.5, 1.0)] if finite else None,
        "false_alarm_rate_mean": float(np.mean(rates)),
        "false_alarm_rate_max": float(np.max(rates)),
        "share_of_splits_above_alpha": float(np.mean(np.array(rates) > alpha)),
    }


def threshold_json(threshold: ConformalThreshold) -> dict[str, Any]:
    """Return a threshold, JSON-ready: null when it is infinite."""
    return {
        "threshold": float(threshold.threshold) if np.isfinite(threshold.threshold) else None,
        "status": threshold.status,
        "rank": threshold.rank,
        "n": threshold.n,
        "alpha": threshold.alpha,
    }


def calibration_of(threshold: ConformalThreshold, n_destinations: int, options: BeaconOptions) -> BeaconCalibration:
    """Return what ``models/beacon-calibration.json`` and the bundle carry: the threshold and what it rests on."""
    is_sufficient = bool(np.isfinite(threshold.threshold))
    return BeaconCalibration(
        threshold=float(threshold.threshold) if is_sufficient else None,
        alpha=threshold.alpha,
        n_destinations=n_destinations,
        insufficient_calibration=not is_sufficient,
        options=options,
    )
