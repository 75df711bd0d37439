"""Timers that are no command and control, explained by name; and unlabelled traffic, of which nothing is claimed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.mlops.beacon_intervals import rate
from eguard.mlops.beacon_pairs import BeaconPairs
from eguard.mlops.beacon_scores import ScoredPairs
from eguard.mlops.beacon_services import explain, service_of

_HOUR_SECONDS: Final = 3_600.0
#: Timer part from which on a benign pair is listed as one.
_TIMER: Final = 0.9
#: What a caller of a server must show to be listed: connections that carry payload both ways, in so many hours.
_MIN_SHARE_BOTH_WAYS: Final = 0.5
_MIN_HOURS_ACTIVE: Final = 6
_MIN_SHARE_ACTIVE: Final = 0.25


def benign_timers(scored: ScoredPairs, thresholds: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the destinations that a timer calls, or whose score passes a threshold, most regular first.

    Parameters
    ----------
    scored : ScoredPairs
        Pairs of one site.
    thresholds : mapping of str to float
        Of the composite, by reading.

    Returns
    -------
    list of dict
        One entry a destination: what explains it, its period, the hosts that call it, how regular and how rare it is,
        and under which readings the composite alarms.
    """
    regularity, score = scored.regularity.regularity, scored.score
    n_hosts = len(np.unique(scored.pairs.host))
    is_regular = scored.regularity.is_scored & (scored.regularity.timer >= _TIMER)
    is_regular |= score > min(thresholds.values())
    entries = []
    for code in np.unique(scored.pairs.destination[is_regular]).tolist():
        rows = np.flatnonzero(is_regular & (scored.pairs.destination == code))
        best = rows[np.argmax(regularity[rows])]
        periods = scored.regularity.period_seconds[rows]
        name = scored.pairs.destinations[code]
        entries.append(
            {
                "destination": name,
                "explanation": explain(name, int(scored.n_hosts_contacting[best]), n_hosts),
                "period_seconds": float(np.median(periods)),
                "timer": float(scored.regularity.timer[best]),
                "n_hosts_regular": len(rows),
                "n_hosts_contacting": int(scored.n_hosts_contacting[best]),
                "rarity": float(scored.rarity[best]),
                "regularity": float(regularity[best]),
                "score": float(score[rows].max()),
                "alarms": sorted(name for name, level in thresholds.items() if (score[rows] > level).any()),
            }
        )
    return sorted(entries, key=lambda entry: (-entry["regularity"], entry["destination"]))


def callers_of_scored_pairs(scored: ScoredPairs) -> dict[str, int]:
    """Return how many scored pairs have a destination that 1, 2, ... hosts call: what rarity has to work with."""
    callers, counts = np.unique(scored.n_hosts_contacting[scored.regularity.is_scored], return_counts=True)
    return {str(number): int(count) for number, count in zip(callers.tolist(), counts.tolist(), strict=True)}


def without_a_fleet(scored: ScoredPairs, is_checking: NDArray[np.bool_], threshold: float) -> dict[str, Any]:
    """Return how many benign pairs would alarm if nobody knew how common their destinations are.

    That is the rate to expect of benign destinations that one host alone calls twenty times or more: the benign network
    has hardly any, so its false-alarm rate says nothing of them.
    """
    regularity = scored.regularity.regularity[is_checking]
    is_scored = scored.regularity.is_scored[is_checking]
    flagged = np.unique(scored.pairs.destination[is_checking][regularity > threshold])
    return {
        "scored_pairs": rate(int((regularity > threshold).sum()), int(is_scored.sum())),
        "destinations": rate(len(flagged), len(np.unique(scored.pairs.destination[is_checking]))),
    }


def unlabelled_pairs(
    scored: ScoredPairs, thresholds: Mapping[str, float], labelled_rows: set[int], sensor_host: str
) -> dict[str, Any]:
    """Count the unlabelled pairs of a capture that pass a threshold. They are no false alarms: nobody knows.

    Parameters
    ----------
    scored : ScoredPairs
        Pairs of the capture.
    thresholds : mapping of str to float
        Of the composite, by reading.
    labelled_rows : set of int
        Rows of the labelled channels, which are left out of the counts and ranked among the others.
    sensor_host : str
        Address at which the capture was taken: its own calls are outbound, all others inbound. Empty if the capture
        shows hosts of a site, all of whose calls are outbound.
    """
    pairs, score = scored.pairs, scored.score
    is_outbound = np.array([not sensor_host or pairs.hosts[code] == sensor_host for code in pairs.host], bool)
    is_other = np.ones(len(pairs), bool)
    is_other[sorted(labelled_rows)] = False
    is_conversing = conversing(pairs)
    counts: dict[str, Any] = {}
    for name, rows in (("outbound", is_outbound), ("inbound", ~is_outbound)):
        chosen = rows & is_other & scored.regularity.is_scored
        counts[name] = {"pairs": int((rows & is_other).sum()), "scored": int(chosen.sum())}
        for reading, threshold in sorted(thresholds.items()):
            passing = chosen & (score > threshold)
            counts[name][reading] = {
                "above_threshold": int(passing.sum()),
                "above_threshold_and_conversing": int((passing & is_conversing).sum()),
                "by_service": _by_service(pairs, passing),
            }
    return counts | {
        "labelled": [
            {
                "destination": pairs.names(row)[1],
                "direction": "outbound" if is_outbound[row] else "inbound",
                "rank_among_scored": int((score[scored.regularity.is_scored] > score[row]).sum()) + 1,
                "rank_among_conversing": int((score[is_conversing] > score[row]).sum()) + 1,
                "n_scored": int(scored.regularity.is_scored.sum()),
                "n_conversing": int((is_conversing & scored.regularity.is_scored).sum()),
                "is_conversing": bool(is_conversing[row]),
            }
            for row in sorted(labelled_rows)
            if scored.regularity.is_scored[row]
        ]
    }


def conversing(pairs: BeaconPairs) -> NDArray[np.bool_]:
    """Return which pairs exchange payload in half of their connections, and in six of the capture's last 24 hours.

    Of a capture of less than a day it is a quarter of its hours.

    Scanners and password guessers fail it; a server that looks at who calls *in* needs such a filter.
    """
    if not pairs.times_seconds.size:
        return np.zeros(len(pairs), bool)
    row = np.repeat(np.arange(len(pairs)), pairs.n_observations)
    both_ways = np.bincount(row, (pairs.sent_bytes > 0.0) & (pairs.received_bytes > 0.0), minlength=len(pairs))
    hours_ago = (pairs.times_seconds.max() - pairs.times_seconds) // _HOUR_SECONDS
    recent = hours_ago < 24
    active = np.unique(np.stack([row[recent], hours_ago[recent].astype(np.intp)]), axis=1)
    n_hours = np.bincount(active[0], minlength=len(pairs))
    is_conversing: NDArray[np.bool_] = (both_ways >= _MIN_SHARE_BOTH_WAYS * pairs.n_observations) & (
        n_hours >= min(_MIN_HOURS_ACTIVE, _MIN_SHARE_ACTIVE * (hours_ago.max() + 1))
    )
    return is_conversing


def _by_service(pairs: BeaconPairs, rows: NDArray[np.bool_]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for code in pairs.destination[rows].tolist():
        name = service_of(pairs.destinations[code]) or "not known"
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
