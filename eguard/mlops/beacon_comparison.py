"""One table: the composite beside plain mutual information and a RITA-style score, at the same false-alarm rate.

Every method scores the same pairs. Each gets the threshold that the benign half of the hosts sets for it, its false
alarms are counted on the other half, and its detections on the labelled channels. Mutual information stands there
twice more with the threshold that the operations manual fixes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.estimators.beacon import BeaconOptions, destination_rarity
from eguard.mlops.beacon_calibration import (
    DESTINATION,
    SCORED_PAIR,
    PairScores,
    false_alarms,
    pair_scores,
    threshold_json,
    threshold_of,
)
from eguard.mlops.beacon_channels import FoundChannel
from eguard.mlops.beacon_pairs import BeaconPairs
from eguard.mlops.beacon_peers import PLAIN_INFORMATION_BITS, plain_information_bits, rita_scores
from eguard.mlops.beacon_scores import PARTS, score_pairs

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Readings that every table has.
TABLE_READINGS: Final = (DESTINATION, SCORED_PAIR)


@dataclass(frozen=True, slots=True)
class LabelledData:
    """The benign network and the labelled channels, under one roof.

    Parameters
    ----------
    benign : BeaconPairs
        Pairs of the network without command and control.
    is_calibrating : ndarray of bool, shape (n_benign,)
        Which of them set thresholds.
    captures : mapping of str to BeaconPairs
        Pairs of each group that holds a channel.
    channels : sequence of FoundChannel
        Channels with observations enough to be scored.
    """

    benign: BeaconPairs
    is_calibrating: Mask
    captures: Mapping[str, BeaconPairs]
    channels: Sequence[FoundChannel]

    def channel_names(self) -> list[str]:
        """Return the capture of each channel."""
        return [found.channel.capture for found in self.channels]

    def channel_values(self, by_group: Mapping[str, Floats]) -> Floats:
        """Pick each channel's value from values of all pairs of its group."""
        return np.array([by_group[found.channel.group][found.row] for found in self.channels], np.float64)


@dataclass(frozen=True, slots=True)
class MethodScores:
    """One method's scores: of the benign pairs and of the labelled channels."""

    benign: PairScores
    channels: Floats


def composite_scores(data: LabelledData, options: BeaconOptions, *, with_rarity: bool = True) -> MethodScores:
    """Return the composite under given settings; a channel's rarity is taken as 1, its capture has no fleet."""
    scored = score_pairs(data.benign, options, has_fleet=True)
    score = scored.score if with_rarity else scored.regularity.regularity
    by_group = {
        name: score_pairs(pairs.take(_rows_of(data, name)), options, has_fleet=False).regularity.regularity
        for name, pairs in sorted(data.captures.items())
    }
    spread = {name: _spread(data, name, values) for name, values in by_group.items()}
    return MethodScores(pair_scores(data.benign, score, scored.regularity.is_scored), data.channel_values(spread))


def peer_scores(data: LabelledData, options: BeaconOptions) -> dict[str, MethodScores]:
    """Return the scores of the other methods, by name."""
    least, most = options.min_observations, options.max_observations
    is_scored = data.benign.n_observations >= least
    n_hosts = len(np.unique(data.benign.host))
    rarity = np.asarray(destination_rarity(data.benign.hosts_by_destination()[data.benign.destination], n_hosts))
    rita = rita_scores(data.benign, min_observations=least).score
    rita_channels = data.channel_values(
        {
            name: _spread(data, name, _rita_of_rows(data, name, pairs, least))
            for name, pairs in sorted(data.captures.items())
        }
    )
    methods = {
        "rita_style": MethodScores(pair_scores(data.benign, rita, is_scored), rita_channels),
        "rita_style_times_rarity": MethodScores(pair_scores(data.benign, rita * rarity, is_scored), rita_channels),
    }
    for name, swapped in (("plain_information", False), ("plain_information_of_answers", True)):
        bits = {
            group: _spread(data, group, _information(pairs.take(_rows_of(data, group)), least, most, swapped=swapped))
            for group, pairs in sorted(data.captures.items())
        }
        own = _information(data.benign, least, most, swapped=swapped)
        methods[name] = MethodScores(pair_scores(data.benign, own, is_scored), data.channel_values(bits))
    return methods


def compare(data: LabelledData, options: BeaconOptions, alpha: float) -> list[dict[str, Any]]:
    """Return the table, one row a method and reading.

    Parameters
    ----------
    data : LabelledData
        Benign pairs and labelled channels.
    options : BeaconOptions
        Settings of the composite; its bounds on observations hold for all methods.
    alpha : float
        False-alarm rate that every conformal threshold promises.
    """
    methods = {
        "composite": composite_scores(data, options),
        "composite_without_rarity": composite_scores(data, options, with_rarity=False),
        **peer_scores(data, options),
    }
    rows = []
    for name, scores in methods.items():
        for reading in TABLE_READINGS:
            threshold = threshold_of(scores.benign.take(data.is_calibrating), alpha, reading)
            row = {"method": name, "reading": reading, **threshold_json(threshold)}
            rows.append(row | outcome(data, scores, threshold.threshold))
        if name.startswith("plain_information"):
            fixed = {"method": name, "reading": "fixed", "threshold": PLAIN_INFORMATION_BITS, "status": "fixed"}
            rows.append(
                fixed | {"rank": None, "n": None, "alpha": None} | outcome(data, scores, PLAIN_INFORMATION_BITS)
            )
    return rows


def outcome(data: LabelledData, scores: MethodScores, threshold: float) -> dict[str, Any]:
    """Return what a threshold finds and what it costs."""
    names, is_found = data.channel_names(), (scores.channels > threshold).tolist()
    return {
        "found": [name for name, hit in zip(names, is_found, strict=True) if hit],
        "missed": [name for name, hit in zip(names, is_found, strict=True) if not hit],
        "channel_scores": dict(zip(names, scores.channels.tolist(), strict=True)),
        "false_alarms": false_alarms(scores.benign.take(~data.is_calibrating), threshold),
    }


def ablate(data: LabelledData, options: BeaconOptions, alpha: float, callers: Sequence[int]) -> list[dict[str, Any]]:
    """Return what is found without rarity, with less of it, and without each part of the regularity.

    Parameters
    ----------
    data, options, alpha
        As for `compare`.
    callers : sequence of int
        How many hosts of a fleet as large as the benign network's call the channel's destination.
    """
    whole = composite_scores(data, options)
    n_hosts = len(np.unique(data.benign.host))
    variants = {"without rarity": composite_scores(data, options, with_rarity=False)}
    for count in callers:
        rarity = float(destination_rarity(count, n_hosts))
        variants[f"{count} of {n_hosts} hosts call it"] = MethodScores(whole.benign, whole.channels * rarity)
    for name, _, weight in PARTS:
        variants[f"without {name}"] = composite_scores(data, without_part(options, weight))
    rows = []
    for name, scores in variants.items():
        for reading in TABLE_READINGS:
            threshold = threshold_of(scores.benign.take(data.is_calibrating), alpha, reading)
            row = {"variant": name, "reading": reading, **threshold_json(threshold)}
            rows.append(row | outcome(data, scores, threshold.threshold))
    return rows


def without_part(options: BeaconOptions, weight: str) -> BeaconOptions:
    """Return settings in which one part weighs nothing and the others keep their proportions."""
    weights: dict[str, float] = {field: getattr(options, field) for _, _, field in PARTS}
    rest = 1.0 - weights[weight]
    kept = {field: 0.0 if field == weight else value / rest for field, value in weights.items()}
    return BeaconOptions(**{**asdict(options), **kept})


def _information(pairs: BeaconPairs, least: int, most: int, *, swapped: bool) -> Floats:
    """Return plain information with the size sent, or with the size of the answer."""
    sized = replace(pairs, sent_bytes=pairs.received_bytes) if swapped else pairs
    return plain_information_bits(sized, min_observations=least, max_observations=most)


def _rita_of_rows(data: LabelledData, group: str, pairs: BeaconPairs, least: int) -> Floats:
    """Score a group's channels within the 24 hours that end with the whole capture."""
    if not len(pairs):
        return np.empty(0)
    end = float(pairs.times_seconds.max())
    return rita_scores(pairs.take(_rows_of(data, group)), min_observations=least, end_seconds=end).score


def _rows_of(data: LabelledData, group: str) -> NDArray[np.intp]:
    rows = [found.row for found in data.channels if found.channel.group == group and found.row is not None]
    return np.array(rows, np.intp)


def _spread(data: LabelledData, group: str, values: Floats) -> Floats:
    """Put the values of a group's channels at the rows of its pairs."""
    spread = np.zeros(len(data.captures[group]))
    spread[_rows_of(data, group)] = values
    return spread
