"""Repeated captures of one host: how far each is from the host's earlier ones.

Nobody knows when the attack in a capture began, and none is free of one, so there is neither a delay nor a false alarm
to be had from these captures. What can be had are levels: how far captures lie from the host's first ones, beside how
far the two halves of a single capture lie from one another and how far hosts do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.rule_drift import NAMED_RULES
from eguard.estimators import jensen_shannon_nats
from eguard.events import EventBatch
from eguard.mlops.drift_alerts import text_codes
from eguard.mlops.tables import read_events_table

#: Distributions that are compared: over processes with their parents, over images alone, and over kinds of events.
#: A parent is only known of processes that were started within the capture, which the second is not troubled by.
MEASURES: Final = ("process_key", "image", "event_class")
_COLUMNS: Final = ("time_unix", "event_class", "host_id", "comm", "parent_comm", "group")


@dataclass(frozen=True, slots=True)
class Capture:
    """Events of one host in one capture, in time order.

    Attributes
    ----------
    name : str
        The capture.
    start_unix : float
        Its first event on this host.
    values : mapping
        By measure, what each event counts under: one code an event, the same code for the same thing everywhere.
    """

    name: str
    start_unix: float
    values: Mapping[str, NDArray[np.int64]]

    @property
    def n_events(self) -> int:
        """Events of the host in the capture."""
        return len(self.values[MEASURES[0]])


def read_captures(path: Path, *, min_captures: int, min_events: int) -> dict[str, list[Capture]]:
    """Return the captures of each host that has `min_captures` or more with `min_events` events, in order of time.

    Raises
    ------
    ConfigError
        There is no such table of events.
    """
    return captures_of(read_events_table(path, _COLUMNS), min_captures=min_captures, min_events=min_events)


def captures_of(events: EventBatch, *, min_captures: int, min_events: int) -> dict[str, list[Capture]]:
    """Return the captures of each host, as `read_captures` does."""
    if not len(events):
        return {}
    (host, hosts), (group, groups) = text_codes(events.host_id), text_codes(events.group)
    (image, _), (parent, parents) = text_codes(events.comm), text_codes(events.parent_comm)
    values = {
        "process_key": image.astype(np.int64) * len(parents) + parent,
        "image": image.astype(np.int64),
        "event_class": events.event_class.astype(np.int64),
    }
    order = np.lexsort((events.time_unix, group, host))
    cuts = np.flatnonzero((np.diff(host[order]) != 0) | (np.diff(group[order]) != 0)) + 1
    found: dict[str, list[Capture]] = {}
    for rows in np.split(order, cuts):
        if len(rows) >= min_events:
            own = {measure: values[measure][rows] for measure in MEASURES}
            capture = Capture(groups[group[rows[0]]], float(events.time_unix[rows[0]]), own)
            found.setdefault(hosts[host[rows[0]]], []).append(capture)
    return {
        name: sorted(captures, key=lambda capture: (capture.start_unix, capture.name))
        for name, captures in sorted(found.items())
        if len(captures) >= min_captures
    }


def captures_report(
    hosts: Mapping[str, Sequence[Capture]], *, baseline_captures: int, level_nats: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what lies between captures, beside what no change explains, and a row for every later capture.

    Parameters
    ----------
    hosts : mapping
        Captures by host, in order of time.
    baseline_captures : int
        First captures of a host that are its reference.
    level_nats : float
        Excess over the bias above which the level rule would alarm.
    """
    measures, rows = {}, []
    for measure in MEASURES:
        measures[measure], own = _measure(hosts, measure, baseline_captures, level_nats)
        rows += own
    report = {
        "hosts": {host: len(captures) for host, captures in hosts.items()},
        "baseline_captures": baseline_captures,
        "level_nats": level_nats,
        "measures": measures,
    }
    return report, rows


def _measure(
    hosts: Mapping[str, Sequence[Capture]], measure: str, baseline_captures: int, level_nats: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    halves: list[float] = []
    firsts: dict[str, NDArray[np.int64]] = {}
    for host, captures in hosts.items():
        first = np.concatenate([capture.values[measure] for capture in captures[:baseline_captures]])
        firsts[host] = first
        classes = _commonest(first)
        pinned = _counts(first, classes)
        previous = _counts(captures[baseline_captures - 1].values[measure], classes)
        for capture in captures[baseline_captures:]:
            values, half = capture.values[measure], capture.n_events // 2
            current = _counts(values, classes)
            halves.append(excess_nats(_counts(values[:half], classes), _counts(values[half:], classes)))
            rows.append(
                {
                    "measure": measure,
                    "host": host,
                    "capture": capture.name,
                    "start_unix": capture.start_unix,
                    "events": capture.n_events,
                    "to_baseline_nats": excess_nats(current, pinned),
                    "to_previous_nats": excess_nats(current, previous),
                }
            )
            previous = current
    between = [_between(firsts[one], firsts[other]) for one, other in combinations(firsts, 2)]
    to_baseline = [row["to_baseline_nats"] for row in rows]
    figures = {
        "above_level": sum(value > level_nats for value in to_baseline),
        "to_baseline": _spread(to_baseline),
        "to_previous": _spread([row["to_previous_nats"] for row in rows]),
        "halves_of_a_capture": _spread(halves),
        "baselines_of_two_hosts": _spread(between),
    }
    return figures, rows


def excess_nats(current: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """Return the Jensen-Shannon divergence of two counted distributions beyond its bias, in nats.

    Examples
    --------
    >>> round(excess_nats(np.array([50, 50]), np.array([90, 10])), 6)
    0.099249
    """
    n, m = int(current.sum()), int(reference.sum())
    bias = (np.count_nonzero(current + reference) - 1) / 8.0 * (1.0 / n + 1.0 / m)
    return float(jensen_shannon_nats(current / n, reference / m) - bias)


def _commonest(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the commonest values, as many as rules have classes of their own, rising."""
    distinct, counts = np.unique(values, return_counts=True)
    return np.sort(distinct[np.lexsort((distinct, -counts))[:NAMED_RULES]])


def _counts(values: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count values by class; what has none of its own is counted last."""
    place = np.minimum(np.searchsorted(classes, values), len(classes) - 1)
    place[classes[place] != values] = len(classes)
    return np.bincount(place, minlength=len(classes) + 1)


def _between(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    classes = _commonest(np.concatenate([first, second]))
    return excess_nats(_counts(first, classes), _counts(second, classes))


def _spread(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return {"n": len(values), "quartiles_nats": [low, middle, high], "largest_nats": max(values)}
