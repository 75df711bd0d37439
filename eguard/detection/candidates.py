"""What the stateful parts of an engine say of the events that are looked at closely."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eguard.detection.alert import BeaconEvidence
from eguard.detection.container import container_risk
from eguard.detection.context import ContextColumns
from eguard.detection.destinations import ContactFindings
from eguard.detection.drift import recent_alarm_count
from eguard.detection.feature_inputs import FeatureInputs
from eguard.detection.fleet_context import FleetContext
from eguard.detection.killchain import MatchHistory
from eguard.detection.layers import DetectionContent, LayerHits
from eguard.detection.process_tree import TreeColumns
from eguard.detection.window_batch import BatchWindows, ClosedWindow
from eguard.detection.window_test import WindowLevel
from eguard.events import EventBatch, EventClass

#: Distinct tactics in one tree that make a kill chain.
KILL_CHAIN_TACTICS = 3
#: Severity of an event to which no rule gives one.
DEFAULT_SEVERITY = 0.5

_ALERT = int(EventClass.ALERT)
_NO_LEVEL = WindowLevel.NONE
_NO_FEATURES = (0.0, 0.0)


@dataclass(slots=True)
class Candidates:
    """Candidate events of a batch: columns of shape (n,), or lists of n.

    `batch` holds the events themselves, `positions` where they stood in the batch they came from. `is_fired` says that
    some layer fired; the others are in the random sample only. `keys` are the rule that leads, or else
    ``comm:event_type``. `windows` are the latest closed windows of the process keys, `contacts` the information and
    periodicity of the destinations, `beacons` the evidence that stands against them. `window_ids` name the windows that
    the events fall into themselves, open ones included.
    """

    batch: EventBatch
    positions: NDArray[np.intp]
    is_fired: NDArray[np.bool_]
    is_reservoir: NDArray[np.bool_]
    has_indicator: NDArray[np.bool_]
    has_rule: NDArray[np.bool_]
    signature_count: NDArray[np.int64]
    rules: list[tuple[int, ...]]
    keys: list[str]
    detectors: list[str]
    severity: NDArray[np.float64]
    windows: list[ClosedWindow | None]
    level: NDArray[np.int8]
    alarm_count: NDArray[np.int64]
    tree: TreeColumns
    match_count: NDArray[np.int64]
    tactics: list[tuple[str, ...]]
    contacts: list[tuple[float, float]]
    beacons: list[BeaconEvidence | None]
    window_ids: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def has_kill_chain(self) -> NDArray[np.bool_]:
        """Whether a rule matched in a tree that shows enough distinct tactics by then, shape (n,)."""
        return self.has_rule & (np.array(list(map(len, self.tactics)), np.int64) >= KILL_CHAIN_TACTICS)

    @property
    def has_beacon(self) -> NDArray[np.bool_]:
        """Whether the destination is a confirmed beacon by then, shape (n,)."""
        return np.array([found is not None and found.is_confirmed for found in self.beacons], dtype=np.bool_)

    def feature_inputs(self, context: ContextColumns, fleet: FleetContext) -> FeatureInputs:
        """Return the columns that the feature extractor starts from."""
        inputs = FeatureInputs.from_batch(self.batch)
        is_high, is_medium = self.level == WindowLevel.HIGH, self.level >= WindowLevel.MEDIUM
        is_alert = self.batch.event_class == _ALERT
        fired = [self.has_indicator, self.has_rule, self.has_kill_chain, is_medium, self.alarm_count > 0]
        fired += [self.signature_count > 0, is_alert]
        inputs.rule_id = self.keys
        inputs.ioc_hit = self.has_indicator
        inputs.rule_matches_60s = self.match_count
        inputs.anomaly_high, inputs.anomaly_medium = is_high, is_medium
        inputs.tactics_1h = np.array(list(map(len, self.tactics)), dtype=np.int64)
        inputs.string_signature_hits = self.signature_count
        inputs.prefilter_hit = self.signature_count > 0
        inputs.layers_fired = np.sum(fired, axis=0)
        inputs.behavioural_alarms_1h = self.alarm_count
        inputs.tree_depth, inputs.siblings_alive = self.tree.depth, self.tree.breadth
        inputs.child_entropy, inputs.spawned_60s = self.tree.child_entropy, self.tree.spawn_count
        inputs.parent_child_rarity = _where_parent(self.batch, fleet)
        inputs.port_rarity = fleet.port_rarity(self.batch.destination_port)
        inputs.container_risk = np.array(
            list(map(container_risk, self.batch.comm, self.tree.ancestors, self.batch.command_line)), dtype=np.float64
        )
        information, periodicity = np.array(self.contacts, dtype=np.float64).reshape(-1, 2).T
        inputs.beacon_mi_bits, inputs.beacon_periodicity = information, periodicity
        inputs.set_context(context)
        return inputs


def gather(
    batch: EventBatch,
    positions: NDArray[np.intp],
    *,
    hits: LayerHits,
    windows: BatchWindows,
    findings: ContactFindings,
    content: DetectionContent,
) -> Candidates:
    """Collect what the cheap layers, the windows and the destinations say of the events at `positions`.

    The process tree and the match history are asked afterwards (`Engine`), because they are updated event by event.
    """
    chosen = batch.take(positions)
    indices = positions.tolist()
    rules = [hits.rules_at(index) for index in indices]
    latest = [windows.latest(index) for index in indices]
    is_alert = hits.is_alert[positions]
    times = chosen.time_unix.tolist()
    candidates = Candidates(
        batch=chosen,
        positions=positions,
        is_fired=np.ones(len(positions), dtype=np.bool_),
        is_reservoir=np.zeros(len(positions), dtype=np.bool_),
        has_indicator=hits.has_indicator[positions],
        has_rule=hits.has_rule[positions],
        signature_count=hits.signature_count[positions],
        rules=rules,
        keys=[],
        detectors=[],
        severity=np.full(len(positions), DEFAULT_SEVERITY),
        windows=latest,
        level=np.array([window.score.level if window else _NO_LEVEL for window in latest], dtype=np.int8),
        alarm_count=np.array(
            [
                recent_alarm_count(window.recent_alarms, now) if window and window.recent_alarms else 0
                for window, now in zip(latest, times, strict=True)
            ],
            dtype=np.int64,
        ),
        tree=TreeColumns.empty(),
        match_count=np.zeros(len(positions), dtype=np.int64),
        tactics=[()] * len(positions),
        contacts=[findings.features.get(index, _NO_FEATURES) for index in indices],
        beacons=[findings.beacons.get(index) for index in indices],
    )
    _name(candidates, content, is_alert)
    return candidates


def recall_matches(candidates: Candidates, history: MatchHistory, content: DetectionContent) -> None:
    """Record the rule matches of the candidates one by one, and note what each could know of the earlier ones."""
    columns = (candidates.rules, candidates.tree.process, candidates.tree.root, candidates.batch.time_unix.tolist())
    for row, (matched, process, root, now) in enumerate(zip(*columns, strict=True)):
        if matched:
            history.record(process, root, now, len(matched), content.tactics(matched))
        if len(history):
            candidates.match_count[row] = history.temporal_count(process, now)
            candidates.tactics[row] = history.tactics(root, now)


def _name(candidates: Candidates, content: DetectionContent, is_alert: NDArray[np.bool_]) -> None:
    """Give each candidate its key, its detector and its severity; later assignments go before earlier ones."""
    batch = candidates.batch
    keys = [f"{comm}:{event_type}" for comm, event_type in zip(batch.comm, batch.event_type, strict=True)]
    detectors = [""] * len(keys)
    for row in np.flatnonzero(candidates.has_beacon).tolist():
        keys[row], detectors[row] = f"beacon:{batch.comm[row]}", "eguard.beacons"
    is_unusual = (candidates.level >= WindowLevel.MEDIUM) | (candidates.alarm_count > 0)
    for row in np.flatnonzero(is_unusual).tolist():
        detectors[row] = "eguard.windows"
    for row in np.flatnonzero(candidates.signature_count).tolist():
        detectors[row] = "eguard.prefilter"
    for row, matched in enumerate(candidates.rules):
        leading = content.leading_rule(matched) if matched else None
        if leading is not None:
            keys[row], detectors[row] = leading.id, "eguard.rules"
            candidates.severity[row] = leading.severity_fraction
    for row in np.flatnonzero(is_alert).tolist():
        keys[row], detectors[row] = batch.rule_id[row] or keys[row], batch.detector[row]
    for row in np.flatnonzero(candidates.has_indicator).tolist():
        detectors[row] = "eguard.indicators"
        candidates.severity[row] = 1.0
    candidates.keys, candidates.detectors = keys, detectors


def _where_parent(batch: EventBatch, fleet: FleetContext) -> NDArray[np.float64]:
    """Return the rarity of (parent, child), 0 where the parent is not known."""
    rarity = fleet.parent_child_rarity(batch.parent_comm, batch.comm)
    has_parent = np.array([bool(parent) for parent in batch.parent_comm], dtype=np.bool_)
    return np.where(has_parent, rarity, 0.0)
