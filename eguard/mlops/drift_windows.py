"""Windows of 128 alerts and what Page-Hinkley makes of them: feature 23, for many series and settings at once.

`eguard.detection.rule_drift.RuleDrift` is the streaming form for one network; a test holds the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eguard.detection.drift import MIN_DURATION_SECONDS, RATE_DEVIATION_FLOOR
from eguard.detection.engine_options import WindowOptions
from eguard.estimators import PageHinkley, kl_divergence_bits
from eguard.estimators.page_hinkley import DEVIATION_FLOOR_BITS
from eguard.mlops.drift_alerts import HOUR_SECONDS, N_CLASSES, NetworkAlerts


@dataclass(frozen=True, slots=True)
class WindowSeries:
    """Closed windows of several series, series after series and in order of time within each.

    Attributes
    ----------
    series : ndarray of int, shape (n_windows,)
        Which series a window is of: 0 the network, then its hosts.
    kl_bits : ndarray of shape (n_windows,)
        Divergence from everything that the series learned before.
    duration_seconds, closed_unix : ndarray of shape (n_windows,)
        From its first to its last alert; the time of the last.
    n_series : int
        Series, those without a window included.
    """

    series: NDArray[np.intp]
    kl_bits: NDArray[np.float64]
    duration_seconds: NDArray[np.float64]
    closed_unix: NDArray[np.float64]
    n_series: int

    def alarms(self, options: WindowOptions, *, of_rate: bool) -> NDArray[np.bool_]:
        """Return which windows alarm, on their divergence or on their rate, shape (n_windows,).

        Series differ in length by a factor of a thousand, so each runs through a detector of its own: a bank that
        advances all together would spend its time on the one or two longest.
        """
        if of_rate:
            values = np.log(options.window_events / np.maximum(self.duration_seconds, MIN_DURATION_SECONDS))
        else:
            values = self.kl_bits
        floor = RATE_DEVIATION_FLOOR if of_rate else DEVIATION_FLOOR_BITS
        alarms = np.zeros(len(values), dtype=np.bool_)
        cuts = np.flatnonzero(np.diff(self.series)) + 1
        for rows in np.split(np.arange(len(values)), cuts):
            detector = PageHinkley(
                options.drift_delta,
                options.drift_threshold,
                min_instances=options.drift_burn_in,
                standardise=True,
                deviation_floor=floor,
            )
            alarms[rows] = [detector.update(value) for value in values[rows].tolist()]
        return alarms

    def armed_unix(self, options: WindowOptions) -> NDArray[np.float64]:
        """Return when each series' burn-in ends, infinity if it never does, shape (n_series,)."""
        armed = np.full(self.n_series, np.inf)
        for series in range(self.n_series):
            closed = self.closed_unix[self.series == series]
            if closed.size >= options.drift_burn_in:
                armed[series] = closed[options.drift_burn_in - 1]
        return armed


def window_series(
    network: NetworkAlerts, steps: NDArray[np.bool_], reference_hours: int, window_events: int, *, hosts: bool = True
) -> WindowSeries:
    """Return the windows of a network and, if wanted, of each of its hosts.

    Parameters
    ----------
    network : NetworkAlerts
        Its alerts.
    steps : ndarray of bool, shape (n_steps,)
        Alerts of which steps are in the stream.
    reference_hours : int
        A series' first baseline is its first `reference_hours` hours; windows follow and are learned after their test.
    window_events : int
        Alerts of a window. The last one, if it does not fill, is dropped.
    hosts : bool
        Whether hosts have series too.
    """
    rows = np.flatnonzero(steps[network.step])
    chosen = [rows]
    if hosts:
        host = network.host[rows]
        ordered = rows[np.argsort(host, kind="stable")]
        chosen += np.split(ordered, np.searchsorted(np.sort(host), np.arange(1, len(network.hosts))))
    ends = network.start_unix + reference_hours * HOUR_SECONDS
    parts = [_windows(network.time_unix[own], network.rule_class[own], ends, window_events) for own in chosen]
    kl_bits, duration, closed = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    series = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    return WindowSeries(series, kl_bits, duration, closed, len(parts))


def _windows(
    times: NDArray[np.float64], classes: NDArray[np.int32], reference_ends: float, window_events: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    start = int(np.searchsorted(times, reference_ends))
    n_windows = (len(times) - start) // window_events
    if not n_windows:
        none = np.zeros(0)
        return none, none, none
    stop = start + n_windows * window_events
    cell = np.repeat(np.arange(n_windows), window_events) * N_CLASSES + classes[start:stop]
    counts = np.bincount(cell, minlength=n_windows * N_CLASSES).reshape(n_windows, N_CLASSES)
    learned = np.bincount(classes[:start], minlength=N_CLASSES) + np.cumsum(counts, axis=0) - counts
    opened, closed = times[start:stop:window_events], times[start + window_events - 1 : stop : window_events]
    return np.asarray(kl_divergence_bits(counts, learned)), closed - opened, closed
