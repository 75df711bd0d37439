"""The composite beacon score of many pairs: regularity times rarity, with its parts and the reason for a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.estimators.beacon import BeaconOptions, BeaconScores, beacon_regularity, destination_rarity
from eguard.mlops.beacon_pairs import BeaconPairs

Floats = NDArray[np.float64]

#: Parts of the regularity: name in reports, field of `BeaconScores`, weight in `BeaconOptions`.
PARTS: Final = (
    ("timer", "timer", "weight_timer"),
    ("symmetry", "symmetry", "weight_symmetry"),
    ("size regularity", "size_regularity", "weight_size"),
    ("count regularity", "count_regularity", "weight_counts"),
)


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """Pairs with their scores, arrays of shape (n_pairs,).

    Parameters
    ----------
    pairs : BeaconPairs
        What was scored.
    regularity : BeaconScores
        Parts and their weighted sum.
    n_hosts_contacting : ndarray of int64
        Hosts of the fleet that call the pair's destination.
    rarity : ndarray of float64
        In [0, 1]; 1 where there is no fleet to compare with.
    options : BeaconOptions
        The settings.
    """

    pairs: BeaconPairs
    regularity: BeaconScores
    n_hosts_contacting: NDArray[np.int64]
    rarity: Floats
    options: BeaconOptions

    @property
    def score(self) -> Floats:
        """Composite score in [0, 1]; 0 where a pair is not scored."""
        product: Floats = self.regularity.regularity * self.rarity
        return product

    def describe(self, row: int) -> dict[str, Any]:
        """Return names, score and parts of one pair, JSON-ready."""
        host, destination = self.pairs.names(row)
        scores = self.regularity
        is_scored = bool(scores.is_scored[row])
        period = float(scores.period_seconds[row])
        return {
            "host": host,
            "destination": destination,
            "n_observations": int(self.pairs.n_observations[row]),
            "n_observations_scored": int(scores.n_observations[row]),
            "is_scored": is_scored,
            "score": float(self.score[row]),
            "regularity": float(scores.regularity[row]),
            "rarity": float(self.rarity[row]),
            "n_hosts_contacting": int(self.n_hosts_contacting[row]),
            "period_seconds": period if is_scored and math.isfinite(period) else None,
            "span_seconds": float(scores.span_seconds[row]),
            "bursts_merged": bool(scores.bursts_merged[row]),
            "parts": {name: float(getattr(scores, field)[row]) for name, field, _ in PARTS},
        }


def score_pairs(pairs: BeaconPairs, options: BeaconOptions, *, has_fleet: bool) -> ScoredPairs:
    """Score pairs of one capture or site.

    Parameters
    ----------
    pairs : BeaconPairs
        Of one group.
    options : BeaconOptions
        Settings.
    has_fleet : bool
        Whether the hosts of `pairs` are a fleet, whose contacts say how rare a destination is. Without one the rarity
        is taken as 1: an assumption, not a finding.
    """
    regularity = beacon_regularity(pairs.times_seconds, pairs.sent_bytes, pairs.offsets, options)
    contacting = pairs.hosts_by_destination()[pairs.destination]
    n_hosts = len(np.unique(pairs.host))
    rarity = np.ones(len(pairs))
    if has_fleet and len(pairs):
        rarity = np.asarray(destination_rarity(contacting, n_hosts), np.float64)
    return ScoredPairs(pairs, regularity, contacting, rarity, options)


def lost_points(scored: ScoredPairs, row: int) -> dict[str, float]:
    """Return what keeps a pair's score below 1, by part; the values sum to 1 - score for a scored pair.

    The regularity's parts count at full rarity; what rarity takes away is one entry more.
    """
    scores, options = scored.regularity, scored.options
    losses = {
        name: getattr(options, weight) * (1.0 - float(getattr(scores, field)[row])) for name, field, weight in PARTS
    }
    losses["rarity"] = float(scores.regularity[row]) * (1.0 - float(scored.rarity[row]))
    return losses


def verdict(scored: ScoredPairs, row: int, threshold: float | None) -> tuple[str, str]:
    """Return the verdict on a pair and why, from its parts.

    Parameters
    ----------
    scored : ScoredPairs
        Scores.
    row : int
        Which pair.
    threshold : float or None
        Scores above it are beacons; None when calibration did not suffice for one.

    Returns
    -------
    verdict : {"beacon", "ordinary", "too_few_observations", "span_too_short", "uncalibrated"}
        What is said of the pair.
    reason : str
        One sentence with the numbers that decide.
    """
    options, scores = scored.options, scored.regularity
    if not scores.is_scored[row]:
        n = int(scored.pairs.n_observations[row])
        if n < options.min_observations:
            return "too_few_observations", f"{n} observations, {options.min_observations} are needed"
        usable, span = int(scores.n_observations[row]), float(scores.span_seconds[row])
        if usable < options.min_observations:
            return (
                "too_few_observations",
                f"{usable} observations at distinct times, {options.min_observations} are needed",
            )
        return "span_too_short", f"the observations span {span:.0f} s, {options.min_span_seconds:.0f} s are needed"
    score = float(scored.score[row])
    ordered = sorted(lost_points(scored, row).items(), key=lambda item: (-item[1], item[0]))
    if threshold is None:
        return "uncalibrated", f"score {score:.3f}; no threshold holds the false-alarm rate on so few destinations"
    if score > threshold:
        parts = ", ".join(f"{name} {float(getattr(scores, field)[row]):.2f}" for name, field, _ in PARTS)
        return "beacon", f"score {score:.3f} is above {threshold:.3f}: {parts}, rarity {scored.rarity[row]:.2f}"
    missing, named = threshold - score, []
    for name, loss in ordered:
        named.append(f"{name} costs {loss:.3f}")
        missing -= loss
        if missing < 0.0:
            break
    return "ordinary", f"score {score:.3f} is {threshold - score:.3f} short of {threshold:.3f}: {', '.join(named)}"
