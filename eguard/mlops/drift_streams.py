"""All series of all networks side by side, so that one pass of a detector serves every network, host and stream.

A *stream* is what an alert engine would have delivered under a supposition: everything; everything but the scan floods;
nothing of the attack at all, which is attack-free from end to end; and for each step of the attack nothing but it, the
only way to see what a quiet step does beside a loud one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.engine_options import WindowOptions
from eguard.mlops.drift_alerts import FLOOD_STEPS, HOUR_SECONDS, NetworkAlerts
from eguard.mlops.drift_counts import DAY_HOURS, Divergence, Reference, divergences, fold, step_counts, with_network
from eguard.mlops.drift_detectors import Detector, Settings
from eguard.mlops.drift_windows import WindowSeries, window_series

ALL: Final = "all"
NO_FLOODS: Final = "no_floods"
ATTACKS_REMOVED: Final = "attacks_removed"
STREAMS: Final = (ALL, NO_FLOODS, ATTACKS_REMOVED)


@dataclass(frozen=True, slots=True)
class SeriesKey:
    """Which series: `host` is "" for the network; `stream` is one of `STREAMS` or the name of the only step left."""

    network: str
    stream: str
    host: str


@dataclass(frozen=True, slots=True)
class SeriesOptions:
    """How series are made of alerts.

    Attributes
    ----------
    reference_hours : int
        First hours of a network, whole days: the pinned reference.
    min_events : int
        Fewest alerts of a period that is compared, and of its reference.
    same_hour_width : int
        Hours on either side of the same hour of the day.
    window_events : int
        Alerts of a window.
    """

    reference_hours: int = DAY_HOURS
    min_events: int = 10
    same_hour_width: int = 1
    window_events: int = 128


@dataclass(frozen=True, slots=True)
class SeriesBank:
    """Series of one period length, padded with NaN to the longest.

    Attributes
    ----------
    keys : tuple of SeriesKey
        One a series.
    start_unix, end_unix : ndarray of shape (n_series,)
        Of each series' network.
    period_hours : int
        Length of a period.
    divergence : mapping
        By reference, rows in the order of `keys`.
    windows : WindowSeries or None
        Windows of the same series; None for days.
    window_events : int
        Alerts of a window.
    """

    keys: tuple[SeriesKey, ...]
    start_unix: NDArray[np.float64]
    end_unix: NDArray[np.float64]
    period_hours: int
    divergence: Mapping[Reference, Divergence]
    windows: WindowSeries | None
    window_events: int

    def alarms(self, detector: Detector, settings: Settings) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
        """Return the times of alarm of each series, and when each was first able to alarm (infinity: never)."""
        if not self.keys:
            return [], np.zeros(0)
        if detector.raise_alarms is None or detector.reference is None:
            return self._window_alarms("rate" in detector.name, settings)
        alarms, armed = detector.raise_alarms(self.divergence[detector.reference], settings)
        seconds = self.period_hours * HOUR_SECONDS
        times = [
            start + (np.flatnonzero(row) + 1) * seconds for start, row in zip(self.start_unix, alarms, strict=True)
        ]
        first = np.where(armed.any(axis=1), self.start_unix + armed.argmax(axis=1) * seconds, np.inf)
        return times, first

    def _window_alarms(
        self, of_rate: bool, settings: Settings
    ) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
        if self.windows is None:
            return [np.zeros(0)] * len(self.keys), np.full(len(self.keys), np.inf)
        options = WindowOptions(
            window_events=self.window_events,
            drift_delta=settings["delta"],
            drift_threshold=settings["threshold"],
            drift_burn_in=int(settings["burn_in"]),
        )
        raised = self.windows.alarms(options, of_rate=of_rate)
        series, closed = self.windows.series[raised], self.windows.closed_unix[raised]
        times = np.split(closed, np.searchsorted(series, np.arange(1, len(self.keys))))
        return times, self.windows.armed_unix(options)


def streams_of(network: NetworkAlerts) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the streams of a network: name, and which of its steps are in it."""
    ordinary = np.array([step == "" for step in network.steps])
    yield ALL, np.ones(len(network.steps), dtype=np.bool_)
    yield NO_FLOODS, network.steps_except(FLOOD_STEPS)
    yield ATTACKS_REMOVED, ordinary
    for i, step in enumerate(network.steps):
        if step:
            yield step, ordinary | (np.arange(len(network.steps)) == i)


def hourly_bank(
    networks: Sequence[NetworkAlerts],
    options: SeriesOptions,
    *,
    streams: Sequence[str] | None = None,
    windows: bool = True,
) -> SeriesBank:
    """Return every network's and host's hours and windows; single steps have series for networks alone.

    Parameters
    ----------
    networks : sequence of NetworkAlerts
        Networks.
    options : SeriesOptions
        How series are made.
    streams : sequence of str, optional
        Streams wanted; all if not given.
    windows : bool
        Whether windows of alerts are wanted too.
    """
    return _bank(networks, options, 1, streams=streams, windows=windows)


def daily_bank(networks: Sequence[NetworkAlerts], options: SeriesOptions) -> SeriesBank:
    """Return every network's and host's days; a day begins at the full hour of the network's first alert."""
    return _bank(networks, options, DAY_HOURS, streams=STREAMS, windows=False)


def _bank(
    networks: Sequence[NetworkAlerts],
    options: SeriesOptions,
    hours: int,
    *,
    streams: Sequence[str] | None,
    windows: bool,
) -> SeriesBank:
    keys: list[SeriesKey] = []
    spans: list[tuple[float, float]] = []
    found: list[Mapping[Reference, Divergence]] = []
    closed: list[WindowSeries] = []
    for network in networks:
        counts = step_counts(network)
        for stream, steps in streams_of(network):
            if streams is not None and stream not in streams:
                continue
            hosts = network.hosts if stream in STREAMS else ()
            series = with_network(fold(counts[steps].sum(axis=0), hours))[: len(hosts) + 1]
            keys += [SeriesKey(network.name, stream, host) for host in ("", *hosts)]
            spans += [(network.start_unix, network.end_unix)] * len(series)
            found.append(
                divergences(
                    series,
                    options.reference_hours // hours,
                    min_events=options.min_events,
                    same_hour_width=options.same_hour_width if hours == 1 else None,
                )
            )
            if windows:
                closed.append(
                    window_series(network, steps, options.reference_hours, options.window_events, hosts=bool(hosts))
                )
    start, end = (
        (np.array(times, dtype=np.float64) for times in zip(*spans, strict=True)) if spans else (np.zeros(0),) * 2
    )
    return SeriesBank(
        tuple(keys), start, end, hours, _stacked(found), _joined(closed) if windows else None, options.window_events
    )


def _stacked(parts: Sequence[Mapping[Reference, Divergence]]) -> dict[Reference, Divergence]:
    periods = max((part["pinned"].js_nats.shape[1] for part in parts), default=0)

    def pad(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.pad(values, ((0, 0), (0, periods - values.shape[1])), constant_values=np.nan)

    return {
        name: Divergence(
            np.concatenate([pad(part[name].js_nats) for part in parts]),
            np.concatenate([pad(part[name].bias_nats) for part in parts]),
        )
        for name in (parts[0] if parts else ())
    }


def _joined(parts: Sequence[WindowSeries]) -> WindowSeries:
    before = np.cumsum([0, *(part.n_series for part in parts)])
    none = np.zeros(0)
    return WindowSeries(
        np.concatenate([none.astype(np.intp), *(part.series + n for part, n in zip(parts, before, strict=False))]),
        np.concatenate([none, *(part.kl_bits for part in parts)]),
        np.concatenate([none, *(part.duration_seconds for part in parts)]),
        np.concatenate([none, *(part.closed_unix for part in parts)]),
        int(before[-1]),
    )
