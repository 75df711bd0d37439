"""Collecting the scored events of a replay: candidates of many batches, less those the reservoir let go again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eguard.detection.alert import Alert
from eguard.detection.confidence import Confidence
from eguard.detection.engine import Engine, EngineOutput
from eguard.detection.window_batch import ClosedWindow
from eguard.detection.window_test import WindowLevel
from eguard.mlops.drift_series import DriftPoint
from eguard.mlops.feature_table import UNRESOLVED, ScoredRows
from eguard.wire.process_key import encode_process_key

#: Label source of a sampled event on an endpoint that had no High alert open.
ASSUMED_BENIGN = "reservoir_assumed_benign"
_HIGH_OR_MORE = frozenset(level.name.lower() for level in Confidence if level >= Confidence.HIGH)


@dataclass(slots=True)
class _Part:
    """Candidates of one batch."""

    position: NDArray[np.int64]
    observed_at_unix: NDArray[np.float64]
    day: NDArray[np.intp]
    output: EngineOutput


@dataclass(slots=True)
class _Host:
    """What one host's engine gave. On `alert_days` it had an open High alert."""

    network: str
    parts: list[_Part] = field(default_factory=list)
    events: int = 0
    alert_days: set[int] = field(default_factory=set)


class ReplayCollector:
    """Rows and counts of one source.

    Parameters
    ----------
    source : str
        Name of the source in the feature table.
    label_source : str
        Who says so where an event carries a label of its own.
    """

    def __init__(self, source: str, label_source: str) -> None:
        self._source = source
        self._label_source = label_source
        self._hosts: dict[str, _Host] = {}
        self.alerts: list[Alert] = []
        self.drift_points: list[DriftPoint] = []
        self.levels: Counter[str] = Counter()
        self.confidences: Counter[str] = Counter()
        self.rules: Counter[int] = Counter()
        self.counts: Counter[str] = Counter()

    def add(
        self,
        engine: Engine,
        network: str,
        output: EngineOutput,
        *,
        n_events: int,
        observed_at_unix: NDArray[np.float64],
        day: int,
    ) -> None:
        """Take in what an engine made of a batch of `n_events`, recorded at `observed_at_unix`, on simulated `day`."""
        host = self._hosts.setdefault(engine.host_id, _Host(network))
        positions = output.candidates.positions
        if len(positions):
            recorded = observed_at_unix[positions]
            host.parts.append(_Part(host.events + positions, recorded, np.full(len(positions), day), output))
        host.events += n_events
        if any(alert.confidence in _HIGH_OR_MORE for alert in output.alerts):
            host.alert_days.add(day)
        for found in (output.hits.rules, output.hits.enrichment):
            for matched in found.values():
                self.rules.update(matched)
        self.alerts += output.alerts
        self.confidences.update(alert.confidence for alert in output.alerts)
        self._count(engine, network, output, n_events, observed_at_unix)

    def rows(self, reservoirs: Mapping[str, NDArray[np.int64]]) -> ScoredRows:
        """Return the rows of all hosts, in order of their names.

        Parameters
        ----------
        reservoirs : mapping
            By host, the positions of the events that are in its reservoir at the end.

        Notes
        -----
        An event with a label of its own is an attack, unless an indicator hit it: the demo's indicators are drawn
        from the same captures' labels, and a label must not come back as a feature. A sampled event is assumed benign
        unless its host had a High alert on that day. All others are unresolved: captures are labelled as a whole, not
        by event.
        """
        hosts = sorted(self._hosts.items())
        return ScoredRows.concatenate(
            self._source,
            [self._host_rows(name, host, reservoirs[name]) for name, host in hosts if host.parts],
        )

    def report(self) -> dict[str, Any]:
        """Return the counts."""
        return {
            "hosts": len(self._hosts),
            "alerts_by_confidence": dict(sorted(self.confidences.items())),
            "windows_by_level": dict(sorted(self.levels.items())),
            **{name: self.counts[name] for name in sorted(self.counts)},
        }

    def _count(
        self, engine: Engine, network: str, output: EngineOutput, n_events: int, observed_at_unix: NDArray[np.float64]
    ) -> None:
        fired = output.candidates
        self.counts.update(
            events=n_events,
            fired=int(np.count_nonzero(fired.is_fired)),
            indicator_hits=int(np.count_nonzero(fired.has_indicator)),
            rule_hits=int(np.count_nonzero(fired.has_rule)),
            prefilter_hits=int(np.count_nonzero(fired.signature_count)),
            alerts=len(output.alerts),
            windows=len(output.closed_windows),
            drift_alarms=sum(window.drift_alarm for window in output.closed_windows),
            rate_alarms=sum(window.rate_alarm for window in output.closed_windows),
            windows_held_back=sum(window.is_held for window in output.closed_windows),
            windows_uninformative=sum(window.score.is_uninformative for window in output.closed_windows),
        )
        for window in output.closed_windows:
            self.levels[WindowLevel(window.score.level).name.lower()] += 1
            if window.score.level != WindowLevel.UNTESTED:
                self.drift_points.append(_point(engine, network, window, float(observed_at_unix[window.index])))

    def _host_rows(self, name: str, host: _Host, sample: NDArray[np.int64]) -> ScoredRows:
        candidates = [part.output.candidates for part in host.parts]
        is_reservoir = np.isin(np.concatenate([part.position for part in host.parts]), sample)
        is_fired = np.concatenate([chosen.is_fired for chosen in candidates])
        kept = np.flatnonzero(is_fired | is_reservoir)
        texts = [text for chosen in candidates for text in chosen.batch.label]
        has_high_alert = np.isin(np.concatenate([part.day for part in host.parts]), sorted(host.alert_days))
        is_named = np.array([bool(text) for text in texts], dtype=np.bool_)
        is_attack = is_named & ~np.concatenate([chosen.has_indicator for chosen in candidates])
        is_benign = is_reservoir & ~has_high_alert & ~is_named
        label = np.select([is_attack, is_benign], [1, 0], default=UNRESOLVED).astype(np.int8)
        label_source = np.select([is_attack, is_benign], [self._label_source, ASSUMED_BENIGN], default="unresolved")
        keys = [key for chosen in candidates for key in chosen.keys]
        return ScoredRows(
            source=self._source,
            observed_at_unix=np.concatenate([part.observed_at_unix for part in host.parts])[kept],
            host_id=[name] * len(kept),
            network=[host.network] * len(kept),
            rule_id=[keys[index] for index in kept.tolist()],
            event_class=np.concatenate([chosen.batch.event_class for chosen in candidates])[kept],
            attack_step=[""] * len(kept),
            is_reservoir=is_reservoir[kept],
            label=label[kept],
            label_source=label_source[kept].tolist(),
            severity=np.concatenate([chosen.severity for chosen in candidates])[kept],
            features=np.concatenate([part.output.features for part in host.parts])[kept],
        )


def _point(engine: Engine, network: str, window: ClosedWindow, closed_unix: float) -> DriftPoint:
    return DriftPoint(
        measure="kl_bits",
        scope="key",
        network=network,
        host_id=engine.host_id,
        process_key=encode_process_key(*engine.profiles.index.key_of(window.slot)),
        reference="baseline",
        period_seconds=0.0,
        time_unix=closed_unix,
        value=window.score.kl_bits,
        bias=0.0,
        n_events=sum(window.counts),
        n_reference=window.score.baseline_events,
    )
