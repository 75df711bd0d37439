"""How far each hour or day of a network, and of each of its hosts, is from a reference: Jensen-Shannon over rules.

Counting is one pass over the alerts; a stream without some steps of the attack, and days, are then sums of the counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from eguard.estimators import jensen_shannon_nats
from eguard.mlops.drift_alerts import HOUR_SECONDS, N_CLASSES, NetworkAlerts

Counts = NDArray[np.int64]
Reference = Literal["previous", "pinned", "same_hour"]
REFERENCES: Final[tuple[Reference, ...]] = ("previous", "pinned", "same_hour")
DAY_HOURS: Final = 24


@dataclass(frozen=True, slots=True)
class Divergence:
    """Divergences of many series, period by period, from one kind of reference.

    Attributes
    ----------
    js_nats, bias_nats : ndarray of shape (n_series, n_periods)
        The divergence, and the value expected of two samples of one distribution. NaN where a period or its reference
        has too few events, and while the reference is being taken.
    """

    js_nats: NDArray[np.float64]
    bias_nats: NDArray[np.float64]

    @property
    def excess_nats(self) -> NDArray[np.float64]:
        """Divergence beyond its bias; negative where there is less than chance brings."""
        return self.js_nats - self.bias_nats

    def __len__(self) -> int:
        return len(self.js_nats)


def step_counts(network: NetworkAlerts) -> Counts:
    """Return alerts by step, host, hour and class of rule, shape (n_steps, n_hosts, n_hours, 64)."""
    hour = ((network.time_unix - network.start_unix) // HOUR_SECONDS).astype(np.int64)
    shape = (len(network.steps), len(network.hosts), network.n_hours, N_CLASSES)
    cell = ((network.step.astype(np.int64) * shape[1] + network.host) * shape[2] + hour) * shape[3]
    counts: Counts = np.bincount(cell + network.rule_class, minlength=int(np.prod(shape))).reshape(shape)
    return counts


def with_network(host_counts: Counts) -> Counts:
    """Put the sum over hosts before them: series 0 is the network.

    Examples
    --------
    >>> with_network(np.array([[[1, 0]], [[2, 5]]])).tolist()
    [[[3, 5]], [[1, 0]], [[2, 5]]]
    """
    return np.concatenate([host_counts.sum(axis=0, keepdims=True), host_counts])


def fold(counts: Counts, hours: int) -> Counts:
    """Return counts by periods of `hours` hours; a last period that is not full is dropped."""
    whole = counts.shape[-2] // hours
    folded: Counts = counts[..., : whole * hours, :].reshape(*counts.shape[:-2], whole, hours, -1).sum(axis=-2)
    return folded


def divergences(
    counts: Counts, reference_periods: int, *, min_events: int, same_hour_width: int | None
) -> Mapping[Reference, Divergence]:
    """Return the divergence of every series and period from each kind of reference.

    Parameters
    ----------
    counts : ndarray of int, shape (n_series, n_periods, n_classes)
        Events of each series; period 0 starts at a full hour.
    reference_periods : int
        Periods at the start that are pinned as the reference; they are not compared with themselves.
    min_events : int
        A period with fewer events has no value, and is nobody's reference.
    same_hour_width : int or None
        ``same_hour`` compares an hour of the day with that hour of the pinned days, and as many hours on either side.
        None for periods that are no hours: there is no such reference then.
    """
    pinned = counts[:, :reference_periods].sum(axis=1, keepdims=True)
    found: dict[Reference, Divergence] = {
        "previous": _divergence(counts, _previous(counts, min_events), 1, min_events),
        "pinned": _divergence(counts, np.broadcast_to(pinned, counts.shape), reference_periods, min_events),
    }
    if same_hour_width is not None:
        same = _same_hour(counts, reference_periods, same_hour_width)
        found["same_hour"] = _divergence(counts, same, reference_periods, min_events)
    return found


def _previous(counts: Counts, min_events: int) -> Counts:
    """Return for each period the last one before it that has enough events; zeros if there is none."""
    usable = counts.sum(axis=-1) >= min_events
    position = np.where(usable, np.arange(counts.shape[1]), -1)
    last = np.maximum.accumulate(position, axis=1)
    before = np.concatenate([np.full((len(counts), 1), -1), last[:, :-1]], axis=1)
    taken = np.take_along_axis(counts, np.maximum(before, 0)[:, :, np.newaxis], axis=1)
    return np.where(before[:, :, np.newaxis] >= 0, taken, 0)


def _same_hour(counts: Counts, reference_hours: int, width: int) -> Counts:
    by_hour = np.zeros((len(counts), DAY_HOURS, counts.shape[2]), dtype=np.int64)
    for hour in range(min(reference_hours, counts.shape[1])):
        by_hour[:, hour % DAY_HOURS] += counts[:, hour]
    near = np.sum([np.roll(by_hour, shift, axis=1) for shift in range(-width, width + 1)], axis=0)
    return np.asarray(near[:, np.arange(counts.shape[1]) % DAY_HOURS], dtype=np.int64)


def _divergence(counts: Counts, reference: Counts, first: int, min_events: int) -> Divergence:
    n, m = counts.sum(axis=-1), reference.sum(axis=-1)
    usable = (n >= min_events) & (m >= min_events)
    usable[:, :first] = False
    js = np.full(n.shape, np.nan)
    bias = np.full(n.shape, np.nan)
    if usable.any():
        p, q = counts[usable], reference[usable]
        sizes = n[usable], m[usable]
        js[usable] = jensen_shannon_nats(p / sizes[0][:, np.newaxis], q / sizes[1][:, np.newaxis])
        occurring = np.count_nonzero(p + q, axis=-1)
        # `jensen_shannon_bias_nats` for as many numbers of classes as there are rows.
        bias[usable] = (occurring - 1) / 8.0 * (1.0 / sizes[0] + 1.0 / sizes[1])
    return Divergence(js, bias)
