"""Drift series of a replay: divergences over time, by process key, host and network.

Process keys have one value a closed window: its KL divergence in bits from the key's baseline. Sources without process
baselines (other engines' alerts) have the Jensen-Shannon divergence in nats of the distribution over rules, hour by
hour and day by day, against the period before and against the first day. Their classes are the 63 rules that were
commonest on the first day, and `other`: what comes later must not decide how it is measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from eguard.detection.rule_drift import NAMED_RULES, commonest_rules
from eguard.estimators import jensen_shannon_bias_nats, jensen_shannon_nats
from eguard.events import EventBatch

HOUR_SECONDS: Final = 3600.0
DAY_SECONDS: Final = 86_400.0

SCHEMA: Final = pa.schema(
    [
        ("measure", pa.string()),  # js_nats or kl_bits
        ("scope", pa.string()),  # network, host or key
        ("network", pa.string()),
        ("host_id", pa.string()),
        ("process_key", pa.string()),
        ("reference", pa.string()),  # previous, pinned or baseline
        ("period_seconds", pa.float64()),  # 0 for windows, which have no fixed length
        ("time_unix", pa.float64()),  # end of the period or window
        ("value", pa.float64()),
        ("bias", pa.float64()),  # what two samples of one distribution would show; 0 for windows
        ("n_events", pa.int64()),
        ("n_reference", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class DriftPoint:
    """One value of one series; the fields are the columns of the file."""

    measure: str
    scope: str
    network: str
    host_id: str
    process_key: str
    reference: str
    period_seconds: float
    time_unix: float
    value: float
    bias: float
    n_events: int
    n_reference: int


def rule_series(alerts: EventBatch, network: str) -> list[DriftPoint]:
    """Return the series of one network and of each of its hosts.

    Parameters
    ----------
    alerts : EventBatch
        Alerts of the network in time order.
    network : str
        Its name.
    """
    if not len(alerts):
        return []
    first_day = float(alerts.time_unix[0]) + DAY_SECONDS
    classes = _rule_classes(alerts, first_day)
    hosts = np.array(alerts.host_id, dtype=np.str_)
    points = list(_series(alerts.time_unix, classes, first_day, ("network", network, "")))
    for host in np.unique(hosts).tolist():
        rows = np.flatnonzero(hosts == host)
        points += _series(alerts.time_unix[rows], classes[rows], first_day, ("host", network, host))
    return points


def write_drift_series(path: Path, points: Sequence[DriftPoint]) -> None:
    """Write the points in a fixed order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = SCHEMA.names
    ordered = sorted(tuple(getattr(point, name) for name in names) for point in points)
    columns = zip(*ordered, strict=True) if ordered else [[] for _ in names]
    table = pa.table(dict(zip(names, map(list, columns), strict=True)), schema=SCHEMA)
    pq.write_table(table, path, compression="zstd", compression_level=3)


def _rule_classes(alerts: EventBatch, first_day_ends: float) -> NDArray[np.intp]:
    """Return the class of each alert: 0 to 62 for the rules commonest on the first day, the last for all others."""
    first_day = int(np.searchsorted(alerts.time_unix, first_day_ends))
    named = commonest_rules(Counter(alerts.rule_id[:first_day]))
    return np.array([named.get(rule, NAMED_RULES) for rule in alerts.rule_id], dtype=np.intp)


def _series(
    times: NDArray[np.float64], classes: NDArray[np.intp], first_day_ends: float, where: tuple[str, str, str]
) -> Iterator[DriftPoint]:
    scope, network, host = where
    n_classes = NAMED_RULES + 1
    pinned = np.bincount(classes[times < first_day_ends], minlength=n_classes)
    for period in (HOUR_SECONDS, DAY_SECONDS):
        index = np.floor_divide(times, period).astype(np.int64)
        periods, position = np.unique(index, return_inverse=True)
        counts = np.zeros((len(periods), n_classes), dtype=np.int64)
        np.add.at(counts, (position, classes), 1)
        for row, current in enumerate(counts):
            ends = float(periods[row] + 1) * period
            references = {"previous": counts[row - 1] if row else None}
            # The first day is not compared with itself.
            references["pinned"] = pinned if ends - period >= first_day_ends and pinned.any() else None
            for name, reference in references.items():
                if reference is not None:
                    yield _point((scope, network, host, name), period, ends, current, reference)


def _point(
    where: tuple[str, str, str, str],
    period: float,
    ends: float,
    current: NDArray[np.int64],
    reference: NDArray[np.int64],
) -> DriftPoint:
    scope, network, host, name = where
    n, m = int(current.sum()), int(reference.sum())
    occurring = int(np.count_nonzero(current + reference))
    return DriftPoint(
        measure="js_nats",
        scope=scope,
        network=network,
        host_id=host,
        process_key="",
        reference=name,
        period_seconds=period,
        time_unix=ends,
        value=float(jensen_shannon_nats(current / n, reference / m)),
        bias=float(jensen_shannon_bias_nats(n, m, occurring)),
        n_events=n,
        n_reference=m,
    )
