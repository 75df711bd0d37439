"""How often synthetic beacons are found, against how often benign destinations alarm at the same threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.estimators.beacon import BeaconOptions, beacon_regularity, destination_rarity
from eguard.mlops.beacon_calibration import DESTINATION, PairScores, false_alarms, pair_scores, threshold_of
from eguard.mlops.beacon_intervals import rate
from eguard.mlops.beacon_peers import rita_parts
from eguard.mlops.beacon_scores import ScoredPairs, score_pairs
from eguard.mlops.beacon_synthetic import (
    DAY_SECONDS,
    SweepParams,
    SyntheticChannels,
    background_of,
    make_channels,
    make_controls,
    tile_days,
)

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Points of a curve that a report keeps.
_CURVE_POINTS: Final = 60
_HOUR_SECONDS: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class SweepResult:
    """Report of a sweep, and the points of its curves for plots."""

    report: dict[str, Any]
    curves: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class BenignSide:
    """The benign network that a sweep is embedded in.

    Parameters
    ----------
    scored : ScoredPairs
        Its pairs under the fixed settings.
    rita : ndarray of float64, shape (n_pairs,)
        Their scores in the manner of RITA.
    is_calibrating : ndarray of bool, shape (n_pairs,)
        Which pairs belong to the hosts that calibrate; the others are checked, and hide the channels.
    """

    scored: ScoredPairs
    rita: Floats
    is_calibrating: Mask

    def scores(self, values: Floats) -> PairScores:
        """Return scores of the composite's kind as a threshold needs them."""
        return pair_scores(self.scored.pairs, values, self.scored.regularity.is_scored)

    def rita_scores(self, values: Floats) -> PairScores:
        """Return scores of the RITA-style kind, which has no shortest span."""
        is_scored = self.scored.pairs.n_observations >= self.scored.options.min_observations
        return pair_scores(self.scored.pairs, values, is_scored)


def run_sweep(
    params: SweepParams,
    benign: BenignSide,
    *,
    thresholds: Mapping[str, float],
    alphas: Sequence[float],
    callers: Sequence[int],
    rng: np.random.Generator,
) -> SweepResult:
    """Make channels, score them, and count detections at thresholds set on the calibrating half.

    Parameters
    ----------
    params : SweepParams
        Settings of the channels.
    benign : BenignSide
        Where thresholds, false alarms and hiding places come from.
    thresholds : mapping of str to float
        Of the composite, by reading; each has its tables.
    alphas : sequence of float
        Rates of the points of detection against false alarms.
    callers : sequence of int
        Hosts of the fleet that call the channel's destination, for the table of rarity.
    rng : numpy.random.Generator
        Draws the channels.
    """
    scored = benign.scored
    checking = score_pairs(scored.pairs.take(~benign.is_calibrating), scored.options, has_fleet=False)
    background = background_of(checking)
    channels, controls = make_channels(params, background, rng), make_controls(params, background, rng)
    regularity, control_regularity = (_regularity(made, scored.options) for made in (channels, controls))
    rita_channels = rita_of_channels(channels, scored.options.min_observations)
    by_method = {
        "composite": (benign.scores(scored.score), regularity),
        "composite_without_rarity": (benign.scores(scored.regularity.regularity), regularity),
        "rita_style": (benign.rita_scores(benign.rita), rita_channels),
        "rita_style_times_rarity": (benign.rita_scores(benign.rita * scored.rarity), rita_channels),
    }
    report = {
        "n_channels": len(channels.days),
        "settings": params.model_dump(mode="json"),
        "by_reading": {
            reading: _tables(benign, channels, regularity, threshold, callers)
            | {"without_a_timer": _table(controls, control_regularity > threshold, ("embedding", "size_noise"))}
            for reading, threshold in sorted(thresholds.items())
        },
        "operating_points": [
            {"method": name} | _operating_point(*by_method[name], benign.is_calibrating, channels, level)
            for name in sorted(by_method)
            for level in alphas
        ],
    }
    curves = [
        {"method": name, **point}
        for name in sorted(by_method)
        for point in curve(by_method[name][0].take(~benign.is_calibrating), by_method[name][1])
    ]
    return SweepResult(report, curves)


def _regularity(channels: SyntheticChannels, options: BeaconOptions) -> Floats:
    """Return the score of channels whose destination nobody else calls."""
    return beacon_regularity(channels.times_seconds, channels.sizes_bytes, channels.offsets, options).regularity


def rita_of_channels(channels: SyntheticChannels, min_observations: int) -> Floats:
    """Return the RITA-style score of each channel on the last 24 hours of its background."""
    begin = float(channels.times_seconds.min()) if channels.times_seconds.size else 0.0
    start_of_all = np.floor(begin / _HOUR_SECONDS) * _HOUR_SECONDS
    scores = np.zeros(len(channels.days))
    for index, days in enumerate(channels.days.tolist()):
        span = slice(channels.offsets[index], channels.offsets[index + 1])
        end = start_of_all + days * DAY_SECONDS + _HOUR_SECONDS
        start = end - DAY_SECONDS - _HOUR_SECONDS
        times, sizes = channels.times_seconds[span], channels.sizes_bytes[span]
        first = int(np.searchsorted(times, start))
        if len(times) - first >= min_observations:
            scores[index] = sum(rita_parts(times[first:], sizes[first:], start, end)) / 4.0
    return scores


def curve(benign: PairScores, channels: Floats) -> list[dict[str, float]]:
    """Return detection rate against false-alarm rate at falling thresholds, for each destination and scored pair.

    Parameters
    ----------
    benign : PairScores
        The checking half.
    channels : ndarray of shape (n,)
        Scores of synthetic channels.
    """
    destinations, scored = benign.by_destination(), benign.score[benign.is_scored]
    levels = np.unique(np.concatenate([destinations, channels]))
    picked = levels[np.unique(np.linspace(0, len(levels) - 1, _CURVE_POINTS).astype(int))]
    # Fine where it matters: every score that a benign destination above zero has.
    points = np.unique(np.concatenate([picked, destinations[destinations > 0.0]]))[::-1]
    return [
        {
            "threshold": float(level),
            "false_alarm_rate": _share_above(destinations, level),
            "false_alarm_rate_of_scored_pairs": _share_above(scored, level),
            "detection_rate": _share_above(channels, level),
        }
        for level in points
    ]


def _share_above(scores: Floats, level: float) -> float:
    return float(np.mean(scores > level)) if scores.size else 0.0


def _tables(
    benign: BenignSide, channels: SyntheticChannels, regularity: Floats, threshold: float, callers: Sequence[int]
) -> dict[str, Any]:
    """Return every table of one threshold."""
    is_found = regularity > threshold
    return {
        "threshold": threshold if np.isfinite(threshold) else None,
        "detection": rate(int(is_found.sum()), is_found.size),
        "by_jitter_and_missed": _table(channels, is_found, ("embedding", "jitter", "missed")),
        "by_period": _table(channels, is_found, ("embedding", "period_seconds")),
        "by_size_noise": _table(channels, is_found, ("embedding", "size_noise")),
        "by_timer": _table(channels, is_found, ("embedding", "timer", "jitter")),
        "by_hosts_contacting": _by_callers(benign.scored, channels, regularity, threshold, callers),
        "false_alarms_on_repeated_days": _repeated_days(benign, threshold, sorted({1, int(channels.days.max())})),
    }


def _table(channels: SyntheticChannels, is_found: Mask, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return the detection rate of every combination of some settings."""
    columns = [channels.settings[key] for key in keys]
    rows = []
    for values in sorted(set(zip(*(column.tolist() for column in columns), strict=True))):
        chosen = np.all([column == value for column, value in zip(columns, values, strict=True)], axis=0)
        rows.append(dict(zip(keys, values, strict=True)) | rate(int(is_found[chosen].sum()), int(chosen.sum())))
    return rows


def _by_callers(
    scored: ScoredPairs, channels: SyntheticChannels, regularity: Floats, threshold: float, callers: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the detection rate when more hosts of the fleet call the channel's destination."""
    n_hosts = len(np.unique(scored.pairs.host))
    rows = []
    for count in callers:
        rarity = float(destination_rarity(count, n_hosts))
        for embedding in np.unique(channels.settings["embedding"]).tolist():
            chosen = channels.settings["embedding"] == embedding
            is_found = regularity[chosen] * rarity > threshold
            rows.append(
                {"n_hosts_contacting": count, "n_hosts": n_hosts, "rarity": rarity, "embedding": embedding}
                | rate(int(is_found.sum()), is_found.size)
            )
    return rows


def _operating_point(
    benign: PairScores,
    channel_scores: Floats,
    is_calibrating: Mask,
    channels: SyntheticChannels,
    alpha: float,
) -> dict[str, Any]:
    """Return detections and false alarms at the conformal threshold of one rate."""
    threshold = threshold_of(benign.take(is_calibrating), alpha, DESTINATION)
    is_found = channel_scores > threshold.threshold
    by_embedding = {
        embedding: rate(int(is_found[chosen].sum()), int(chosen.sum()))
        for embedding in np.unique(channels.settings["embedding"]).tolist()
        for chosen in [channels.settings["embedding"] == embedding]
    }
    return {
        "alpha": alpha,
        "threshold": float(threshold.threshold) if np.isfinite(threshold.threshold) else None,
        "detection": rate(int(is_found.sum()), is_found.size),
        "detection_by_embedding": by_embedding,
        "false_alarms": false_alarms(benign.take(~is_calibrating), threshold.threshold)["destinations"],
    }


def _repeated_days(benign: BenignSide, threshold: float, days: Sequence[int]) -> list[dict[str, Any]]:
    """Return the false alarms of the checking hosts when their day is repeated, as it is behind slow channels."""
    scored = benign.scored
    checking = scored.pairs.take(~benign.is_calibrating)
    rows = []
    for count in days:
        regularity = score_pairs(tile_days(checking, count), scored.options, has_fleet=False).regularity
        scores = pair_scores(
            checking, regularity.regularity * scored.rarity[~benign.is_calibrating], regularity.is_scored
        )
        rows.append({"days": count} | false_alarms(scores, threshold))
    return rows
