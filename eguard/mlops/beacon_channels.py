"""The labelled channels: which pairs of the captures are command and control, and what the score makes of each."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from eguard.errors import ConfigError
from eguard.estimators.beacon import BeaconOptions, beacon_regularity
from eguard.mlops.beacon_pairs import BeaconPairs
from eguard.mlops.beacon_scores import ScoredPairs, lost_points, verdict

#: A running score is looked at once it exists and after every so many more observations.
_LOOK_EVERY_OBSERVATIONS: Final = 8


class BeaconChannel(BaseModel):
    """One pair that a capture's author labelled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    capture: str = Field(description="name of the capture in reports; what is left out in turn")
    group: str = Field(description="group of the events table that holds it")
    host: str = Field(description="source host")
    destination: str = Field(description="address:port or server name")
    label: str = Field(default="c2", description="c2, or attack for other hostile traffic")
    note: str = Field(default="", description="what the source says of it")


#: Channels whose labels stand in the SOURCE.md of their data; those of apt29-day1 are read from its labels.csv.
SHIPPED_CHANNELS: Final[tuple[BeaconChannel, ...]] = (
    BeaconChannel(
        capture="rita-3days",
        group="rita-3days",
        host="73.54.23.243",
        destination="64.225.56.201:80",
        note="HTTP every 200 to 350 s; inbound at the sensor, scored at its source",
    ),
    BeaconChannel(
        capture="slips",
        group="c2-slips",
        host="",
        destination="141.193.213.21:443",
        note="curl in a loop, a stand-in for command and control",
    ),
    BeaconChannel(
        capture="remcos",
        group="c2-remcos",
        host="",
        destination="66.63.168.35:5888",
        note="RemcosRAT; the server refuses nearly every connect",
    ),
    BeaconChannel(
        capture="caldera",
        group="c2-caldera",
        host="172.18.0.3",
        destination="172.18.0.2:7010",
        note="messages inside one TCP connection",
    ),
    BeaconChannel(
        capture="asyncrat",
        group="c2-asyncrat",
        host="192.168.100.124",
        destination="181.131.218.39:4041",
        note="messages inside one TCP connection",
    ),
)
_APT29_LABELS: Final = Path("net-apt29-day1") / "labels.csv"
_APT29_COLUMNS: Final = ("case", "id_orig_h", "id_resp_h", "id_resp_p", "label", "note")


@dataclass(frozen=True, slots=True)
class FoundChannel:
    """A labelled channel and its row among the pairs of its group; None if the capture does not hold it."""

    channel: BeaconChannel
    row: int | None


def read_apt29_channels(raw: Path) -> tuple[BeaconChannel, ...]:
    """Return the channels that the labels file of the APT29 capture names.

    Raises
    ------
    ConfigError
        The file is missing or lacks a column.
    """
    path = raw / _APT29_LABELS
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return tuple(
            BeaconChannel(
                capture=f"apt29-{row['case'].lower()}",
                group=f"apt29-{row['case'].lower()}",
                host=row["id_orig_h"],
                destination=f"{row['id_resp_h']}:{row['id_resp_p']}",
                label=row["label"],
                note=row["note"],
            )
            for row in rows
        )
    except (OSError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"cannot read the labels in {path}: {error!r}", remedy="Restore data/raw/net-apt29-day1.", path=str(path)
        ) from error


def locate(channels: Sequence[BeaconChannel], pairs: BeaconPairs) -> list[FoundChannel]:
    """Find channels among the pairs of their group. A channel without a host is the busiest pair of its destination."""
    found = []
    for channel in channels:
        row = pairs.find(channel.host, channel.destination) if channel.host else _busiest(pairs, channel.destination)
        found.append(FoundChannel(channel, row))
    return found


def _busiest(pairs: BeaconPairs, destination: str) -> int | None:
    if destination not in pairs.destinations:
        return None
    rows = np.flatnonzero(pairs.destination == pairs.destinations.index(destination))
    return int(rows[np.argmax(pairs.n_observations[rows])]) if rows.size else None


def judge(found: FoundChannel, scored: ScoredPairs, thresholds: Mapping[str, float | None]) -> dict[str, Any]:
    """Return what the score makes of a labelled channel: parts, verdict, reason and how soon it was found.

    Parameters
    ----------
    found : FoundChannel
        The channel.
    scored : ScoredPairs
        The pairs of its group, rarity included.
    thresholds : mapping of str to float or None
        Scores above one are beacons, by reading of the false-alarm rate; None where calibration did not suffice.
    """
    channel = found.channel.model_dump()
    if found.row is None:
        absent = {"verdict": "absent", "reason": "the capture does not hold this pair", "is_found": False}
        return channel | {"n_observations": 0, "by_reading": dict.fromkeys(sorted(thresholds), absent)}
    is_scored = bool(scored.regularity.is_scored[found.row])
    by_reading = {}
    for reading, threshold in sorted(thresholds.items()):
        word, reason = verdict(scored, found.row, threshold)
        by_reading[reading] = {
            "threshold": threshold,
            "verdict": word,
            "reason": reason,
            "is_found": word == "beacon",
            "first_found": first_found(scored, found.row, threshold),
        }
    return (
        channel
        | scored.describe(found.row)
        | {
            "by_reading": by_reading,
            "lost_points": lost_points(scored, found.row) if is_scored else None,
        }
    )


def first_found(scored: ScoredPairs, row: int, threshold: float | None) -> dict[str, float] | None:
    """Return after how many observations and seconds a running agent first sees the score above the threshold.

    The score is looked at from the smallest number of observations on, every eight more, on the last of them that a
    ring holds; None if it is never above.
    """
    pairs, options = scored.pairs, scored.options
    start, stop = int(pairs.offsets[row]), int(pairs.offsets[row + 1])
    ends = np.arange(start + options.min_observations, stop + 1, _LOOK_EVERY_OBSERVATIONS)
    if threshold is None or not ends.size:
        return None
    regularity = prefix_regularity(pairs, start, ends, options)
    above = np.flatnonzero(regularity * scored.rarity[row] > threshold)
    if not above.size:
        return None
    end = int(ends[above[0]])
    seconds = float(pairs.times_seconds[end - 1] - pairs.times_seconds[start])
    return {"n_observations": end - start, "seconds": seconds}


def prefix_regularity(
    pairs: BeaconPairs, start: int, ends: np.ndarray[Any, np.dtype[np.int64]], options: BeaconOptions
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the regularity of one pair's observations from `start` up to each of `ends`."""
    begins = np.maximum(start, ends - options.max_observations)
    lengths = ends - begins
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    position = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - begins, lengths)
    return beacon_regularity(pairs.times_seconds[position], pairs.sent_bytes[position], offsets, options).regularity
