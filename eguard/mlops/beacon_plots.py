"""Points for the plots of the beacon evaluation: plain JSON, one row a point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.mlops.beacon_comparison import LabelledData
from eguard.mlops.beacon_scores import ScoredPairs

#: Places after the point: a plot shows no more, and the file stays small.
_PLACES: Final = 4


def channel_intervals(data: LabelledData, max_observations: int) -> list[dict[str, Any]]:
    """Return the last observations of each labelled channel: seconds since the first, interval before it, bytes."""
    points: list[dict[str, Any]] = []
    for found in data.channels:
        assert found.row is not None
        pairs = data.captures[found.channel.group]
        stop = int(pairs.offsets[found.row + 1])
        start = max(int(pairs.offsets[found.row]), stop - max_observations)
        times, sizes = pairs.times_seconds[start:stop], pairs.sent_bytes[start:stop]
        points.extend(
            {
                "capture": found.channel.capture,
                "seconds": round(float(times[index] - times[0]), _PLACES),
                "interval_seconds": round(float(times[index] - times[index - 1]), _PLACES),
                "sent_bytes": int(sizes[index]),
            }
            for index in range(1, len(times))
        )
    return points


def score_points(
    benign: ScoredPairs, is_checking: NDArray[np.bool_], data: LabelledData, scored: Mapping[str, ScoredPairs]
) -> list[dict[str, Any]]:
    """Return the score of every scored benign pair and labelled channel, with regularity and rarity."""
    points = [
        {
            "kind": "benign, checking half" if is_checking[row] else "benign, calibrating half",
            "name": benign.pairs.names(row)[1],
            "regularity": round(float(benign.regularity.regularity[row]), _PLACES),
            "rarity": round(float(benign.rarity[row]), _PLACES),
            "score": round(float(benign.score[row]), _PLACES),
        }
        for row in np.flatnonzero(benign.regularity.is_scored).tolist()
    ]
    for found in data.channels:
        assert found.row is not None
        own = scored[found.channel.group]
        points.append(
            {
                "kind": "command and control",
                "name": found.channel.capture,
                "regularity": round(float(own.regularity.regularity[found.row]), _PLACES),
                "rarity": round(float(own.rarity[found.row]), _PLACES),
                "score": round(float(own.score[found.row]), _PLACES),
            }
        )
    return points
