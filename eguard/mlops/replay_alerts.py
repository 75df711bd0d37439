"""Alert-only sources in replay: networks of hosts of which nothing is known but other engines' alerts.

There are no processes, so there are no process baselines. Each host has its alert context, each network its
co-occurrence, its drift alarms and its nightly tables, and the drift series are over the distribution of rules. An
alert's features are those that an engine would give it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.candidates import DEFAULT_SEVERITY
from eguard.detection.context import AlertContext, ContextColumns
from eguard.detection.cooccurrence import FleetCooccurrence
from eguard.detection.features import N_FEATURES, FeatureInputs, extract_features
from eguard.detection.fitted_tables import FittedTables
from eguard.detection.fleet_context import FleetContext
from eguard.detection.fleet_shares import FleetShares
from eguard.detection.rule_drift import RuleDrift
from eguard.events import EventBatch
from eguard.mlops.drift_series import DriftPoint, rule_series
from eguard.mlops.feature_table import FLOOD_STEPS, ScoredRows
from eguard.mlops.simulated_days import DAY_SECONDS

#: Alerts whose features are extracted at once.
BLOCK_ALERTS: Final = 1 << 16


class NetworkReplay:
    """The alerts of one network, in time order.

    Parameters
    ----------
    network : str
        Its name.
    tables : FittedTables, optional
        A model's tables for features 7 and 41; without them those are 0.

    Attributes
    ----------
    drift : RuleDrift
        Drift of the network's rules; counts its alarms.
    """

    def __init__(self, network: str, tables: FittedTables | None = None) -> None:
        self.network = network
        self._tables = tables
        self._contexts: dict[str, AlertContext] = {}
        self._cooccurrence = FleetCooccurrence()
        self.drift = RuleDrift()
        self._shares = FleetShares()
        self._fleet = FleetContext()

    def run(self, alerts: EventBatch) -> tuple[ScoredRows, list[DriftPoint]]:
        """Return one row an alert, in the order of `alerts`, and the drift series.

        Parameters
        ----------
        alerts : EventBatch
            All alerts of the network in time order.
        """
        parts: list[tuple[NDArray[np.intp], ContextColumns]] = []
        days = np.floor_divide(alerts.time_unix, DAY_SECONDS)
        bounds = np.append(np.flatnonzero(np.diff(days, prepend=np.nan) != 0.0), len(alerts)).tolist()
        for start, stop in pairwise(bounds):
            parts += [(rows + start, values) for rows, values in self._replay_day(alerts.slice(start, stop))]
            self._fleet = self._shares.nightly((float(days[start]) + 1.0) * DAY_SECONDS)
        others = self._cooccurrence.update(alerts.host_id, alerts.rule_id, alerts.time_unix)
        drift_alarms = self.drift.update(alerts.rule_id, alerts.time_unix)
        return self._rows(alerts, _gathered(parts), others, drift_alarms), rule_series(alerts, self.network)

    def _replay_day(self, alerts: EventBatch) -> Iterator[tuple[NDArray[np.intp], ContextColumns]]:
        """Give each host its alerts of one day, under the tables of the night before; yield positions and context."""
        hosts = np.array(alerts.host_id, dtype=np.str_)
        for host in np.unique(hosts).tolist():
            rows = np.flatnonzero(hosts == host)
            known = self._contexts.setdefault(host, AlertContext())
            known.fleet = self._fleet
            chosen = rows.tolist()
            keys, detectors = ([column[index] for index in chosen] for column in (alerts.rule_id, alerts.detector))
            yield rows, known.update_keys(alerts.time_unix[rows], keys, detectors)
        self._shares.observe(alerts.host_id, alerts.rule_id, alerts.time_unix)

    def _features(
        self, alerts: EventBatch, context: ContextColumns, others: NDArray[np.int64], drift_alarms: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the feature rows, extracted block by block so that the columns in between stay small."""
        rows = np.empty((len(alerts), N_FEATURES))
        for start in range(0, len(alerts), BLOCK_ALERTS):
            block = slice(start, min(start + BLOCK_ALERTS, len(alerts)))
            inputs = FeatureInputs.from_batch(alerts.slice(block.start, block.stop))
            inputs.layers_fired = np.ones(len(inputs))  # the alert itself
            inputs.cooccurring_hosts = others[block]
            inputs.behavioural_alarms_1h = drift_alarms[block]
            parts = {column.name: getattr(context, column.name)[block] for column in fields(context)}
            inputs.set_context(ContextColumns(**parts))
            rows[block] = extract_features(inputs, self._tables)
        return rows

    def _rows(
        self, alerts: EventBatch, context: ContextColumns, others: NDArray[np.int64], drift_alarms: NDArray[np.int64]
    ) -> ScoredRows:
        is_attack = np.array([bool(step) for step in alerts.label], dtype=np.bool_)
        return ScoredRows(
            source="ait",
            observed_at_unix=alerts.time_unix,
            host_id=alerts.host_id,
            network=[self.network] * len(alerts),
            rule_id=alerts.rule_id,
            event_class=alerts.event_class,
            attack_step=alerts.label,
            is_reservoir=np.zeros(len(alerts), dtype=np.bool_),
            label=is_attack.astype(np.int8),
            label_source=["ait_labels"] * len(alerts),
            severity=np.full(len(alerts), DEFAULT_SEVERITY),
            features=self._features(alerts, context, others, drift_alarms),
        )


def _gathered(parts: list[tuple[NDArray[np.intp], ContextColumns]]) -> ContextColumns:
    """Return the context of all alerts in their order, from that of parts at given positions."""
    positions = np.concatenate([rows for rows, _ in parts]) if parts else np.empty(0, np.intp)
    order = np.argsort(positions)
    names = [column.name for column in fields(ContextColumns)]
    empty = [np.empty(0)] if not parts else []
    return ContextColumns(
        **{name: np.concatenate([getattr(values, name) for _, values in parts] + empty)[order] for name in names}
    )


def summarise(rows: ScoredRows) -> dict[str, Any]:
    """Return the counts of one network."""
    is_flood = np.array([step in FLOOD_STEPS for step in rows.attack_step], dtype=np.bool_)
    return {
        "alerts": len(rows),
        "hosts": len(set(rows.host_id)),
        "rules": len(set(rows.rule_id)),
        "attacks": int(np.count_nonzero(rows.label == 1)),
        "attacks_without_floods": int(np.count_nonzero((rows.label == 1) & ~is_flood)),
        "first_unix": float(rows.observed_at_unix.min()) if len(rows) else None,
        "last_unix": float(rows.observed_at_unix.max()) if len(rows) else None,
    }
