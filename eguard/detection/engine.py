"""The detection engine of one host: every event in, candidates, features, scores and alerts out; then it learns.

Two paths, on purpose. Every event passes indicators, rules, prefilter, windows, drift and counting, in array operations
on slots. Full feature rows are computed for candidates alone: events on which something fired, and a uniform random
sample that never alerts by itself. The live agent, the replay and the server's re-scoring all run this class.

Nothing that is decided about an event depends on later events, and how the stream is cut into batches changes nothing.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from eguard.baseline.profile import ProfileTable
from eguard.baseline.slots import KeyColumns
from eguard.detection.alert import Alert, BeaconEvidence
from eguard.detection.alert_builder import AlertBuilder, Scores, confidence_of
from eguard.detection.candidates import Candidates, gather, recall_matches
from eguard.detection.confidence import Confidence
from eguard.detection.context import AlertContext
from eguard.detection.destinations import ContactFindings, DestinationHistory
from eguard.detection.engine_options import EngineOptions
from eguard.detection.feature_inputs import FeatureInputs
from eguard.detection.features import contract_sha256, extract_features
from eguard.detection.gate import ConformalGate
from eguard.detection.killchain import MatchHistory
from eguard.detection.layer_stage import LayerStage, LocalStage, StageOutput
from eguard.detection.layers import DetectionContent, LayerHits
from eguard.detection.model import Model
from eguard.detection.process_tree import ProcessTree
from eguard.detection.reservoir import UniformReservoir
from eguard.detection.tree_tally import TreeTally
from eguard.detection.window_batch import ClosedWindow
from eguard.detection.window_test import WindowLevel
from eguard.detection.windows import WindowBank
from eguard.errors import ModelError
from eguard.events import EventBatch

#: Says in `Engine.swap` that a part stays as it is; None takes a part away.
KEEP: Final = "keep"
Keep = Literal["keep"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Everything that a bundle replaces, in one reference, so that a batch never sees half of an update."""

    content: DetectionContent
    model: Model | None
    gate: ConformalGate | None

    def __post_init__(self) -> None:
        if self.model is not None and self.model.contract_sha256 != contract_sha256():
            raise ModelError(
                f"the model was trained for feature contract {self.model.contract_sha256[:16]}…",
                remedy="Retrain the model with this version, or install the version it was trained with.",
            )
        if self.gate is not None and (self.model is None or self.gate.model_digest != self.model.digest):
            raise ModelError(
                "the calibration belongs to another model (uncalibrated)",
                remedy="Calibrate the model that is loaded: dvc repro calibrate.",
            )


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """What a batch of n events gave: k candidates with their rows, the alerts, the windows that closed.

    `features` has shape (k, 43); `scores` and `p_values` have shape (k,), or are None without a model or a gate.
    `slots`, shape (n,), are those of the events' process keys; `alert_rows` says which candidate each alert is of.
    """

    candidates: Candidates
    inputs: FeatureInputs
    features: NDArray[np.float64]
    scores: NDArray[np.float64] | None
    p_values: NDArray[np.float64] | None
    alerts: list[Alert]
    closed_windows: list[ClosedWindow]
    hits: LayerHits
    contacts: ContactFindings
    slots: NDArray[np.intp]
    alert_rows: NDArray[np.intp]

    @property
    def beacon_alarms(self) -> list[tuple[int, BeaconEvidence]]:
        """Positions at which evidence of a beacon first exceeded the threshold, confirmed or advisory."""
        return [(position, self.contacts.beacons[position]) for position in self.contacts.raised]

    @property
    def drift_alarms(self) -> list[ClosedWindow]:
        """Windows whose key raised a drift or rate alarm as they closed."""
        return [window for window in self.closed_windows if window.drift_alarm or window.rate_alarm]


class Engine:
    """Detection on one host.

    Parameters
    ----------
    host_id : str
        The endpoint.
    content : DetectionContent, optional
        Indicators, rules, prefilter and the fleet's tables.
    options : EngineOptions, optional
        Sizes and thresholds.
    model, gate : Model, ConformalGate, optional
        Classifier, and its conformal thresholds.
    profiles : ProfileTable, optional
        A baseline to go on with, such as that of a store; an empty one by default.

    Attributes
    ----------
    profiles : ProfileTable
        What the host has learned; uploads and seeds go through it.
    windows : WindowBank
        Layer 3.
    stage : LayerStage
        What runs the layers and windows over every event: this process, unless shards are put in its place before the
        first batch.
    is_learning : bool or None
        Whether alerts ask for no response because the baseline is being learned; None decides by the host's age.
    tree : ProcessTree
        Processes of the host.
    tree_tally : TreeTally
        How many trees were seen, and how many stood out by their shape.

    Raises
    ------
    ModelError
        Model, gate and feature contract do not belong together.

    Examples
    --------
    >>> engine = Engine("host-1", options=EngineOptions(reservoir_events=2))
    >>> output = engine.process(EventBatch(time_unix=[0.0, 1.0], event_class=[0, 3], comm=["sh", "sh"]))
    >>> len(output.candidates), output.features.shape, output.alerts
    (2, (2, 43), [])
    """

    def __init__(
        self,
        host_id: str,
        content: DetectionContent | None = None,
        options: EngineOptions | None = None,
        *,
        model: Model | None = None,
        gate: ConformalGate | None = None,
        profiles: ProfileTable | None = None,
    ) -> None:
        options = options or EngineOptions()
        self.host_id = host_id
        self.profiles = ProfileTable(options.max_profiles) if profiles is None else profiles
        self.windows = WindowBank(self.profiles.capacity, options.windows)
        self.tree = ProcessTree(options.max_processes)
        self.tree_tally = TreeTally()
        self.reservoir = UniformReservoir(options.reservoir_events, _host_rng(options.seed, host_id))
        self.destinations = DestinationHistory(options.beacon_allow_list)
        self._options = options
        self._loaded = Loaded(content or DetectionContent(), model, gate)
        self.stage: LayerStage = LocalStage(self._loaded.content, self.windows, self.profiles)
        self.is_learning: bool | None = None
        self._context = AlertContext(self._loaded.content.fleet)
        self._history = MatchHistory()
        self._alerts = AlertBuilder(host_id)
        self._started_unix = math.inf

    @property
    def loaded(self) -> Loaded:
        """Content, model and gate in use."""
        return self._loaded

    def swap(
        self,
        content: DetectionContent | Keep = KEEP,
        model: Model | Keep | None = KEEP,
        gate: ConformalGate | Keep | None = KEEP,
    ) -> None:
        """Put new content, model or gate in the place of the old ones, between two batches.

        Baselines, windows, process tree and context stay. A new model without a gate leaves none: a threshold means
        nothing on another model's scale.

        Raises
        ------
        ModelError
            The parts do not belong together; the old ones stay.
        """
        old = self._loaded
        if gate == KEEP:
            gate = old.gate if model == KEEP or model is old.model else None
        loaded = Loaded(
            old.content if content == KEEP else content,
            old.model if model == KEEP else model,
            gate,
        )
        self._context.fleet = loaded.content.fleet
        if loaded.content is not old.content:
            self.stage.swap(loaded.content)
        self._loaded = loaded

    def restart(self) -> None:
        """Forget processes: the machine was started anew. What was learned stays."""
        self.tree.reset()

    def adopt(self, profiles: ProfileTable) -> None:
        """Go on with another baseline; windows that are open are forgotten, since their keys may live elsewhere now.

        The stage becomes a local one.
        """
        self.stage.close()
        self.profiles = profiles
        self.windows = WindowBank(profiles.capacity, self._options.windows)
        self.stage = LocalStage(self._loaded.content, self.windows, profiles)

    def forget_times(self) -> None:
        """Forget what is remembered by its time, because the clock was set.

        Contacts, matches and alerts of the last hour would lie in the future, or ten years back, and stay there. What
        was learned and the processes that run do not depend on the clock.
        """
        self.destinations = DestinationHistory(self._options.beacon_allow_list)
        self._context = AlertContext(self._loaded.content.fleet)
        self._history = MatchHistory()
        self.tree_tally.forget_times()
        self.stage.forget_times()

    def settle(self, before_unix: float) -> list[int]:
        """Learn the events of open windows older than `before_unix`; see `WindowBank.settle`."""
        return self.stage.settle(before_unix)

    def process(self, batch: EventBatch) -> EngineOutput:
        """Score a batch of this host's events in order of delivery, then learn it.

        Returns
        -------
        EngineOutput
            Candidates in the order of their events.
        """
        loaded = self._loaded
        if len(batch):
            self._started_unix = min(self._started_unix, float(batch.time_unix[0]))
        slots = self._slots(batch)
        stage = self.stage.run(batch, slots)
        candidates, findings = self._candidates(batch, stage, loaded)
        context = self._context.update_keys(candidates.batch.time_unix, candidates.keys, candidates.detectors)
        inputs = candidates.feature_inputs(context, loaded.content.fleet)
        scored = _score(inputs, loaded)
        if len(batch):
            tree = candidates.tree
            self.tree_tally.count(float(batch.time_unix[-1]), tree.started_roots, tree.root, scored)
        confidence = confidence_of(candidates, scored.decision)
        alerts = self._alerts.build(
            candidates,
            scored,
            confidence,
            content=loaded.content,
            is_learning=self._is_learning(candidates.batch.time_unix),
            baseline_version=self.profiles.seeds.generation,
        )
        return EngineOutput(
            candidates=candidates,
            inputs=inputs,
            features=scored.features,
            scores=scored.scores,
            p_values=scored.decision.p_values if scored.decision else None,
            alerts=alerts,
            closed_windows=stage.windows.closed,
            hits=stage.hits,
            contacts=findings,
            slots=slots,
            alert_rows=np.flatnonzero(confidence > Confidence.NONE),
        )

    def _slots(self, batch: EventBatch) -> NDArray[np.intp]:
        """Return the slots of a batch's process keys; windows of keys that had to make room are cleared."""
        slots = self.profiles.slots_for(KeyColumns(batch.comm, batch.parent_comm), batch.time_unix)
        if self.profiles.evicted:
            self.stage.forget(np.array([slot for _, slot in self.profiles.evicted], dtype=np.intp))
        return slots

    def _is_learning(self, times: NDArray[np.float64]) -> NDArray[np.bool_]:
        if self.is_learning is not None:
            return np.full(len(times), self.is_learning)
        return times - self._started_unix < self._options.learning_seconds

    def _candidates(self, batch: EventBatch, stage: StageOutput, loaded: Loaded) -> tuple[Candidates, ContactFindings]:
        hits, windows = stage.hits, stage.windows
        is_fired = hits.has_indicator | hits.has_rule | (hits.signature_count > 0) | hits.is_alert
        for window in windows.closed:
            is_away = window.score.level >= WindowLevel.MEDIUM
            is_fired[window.index] |= is_away or window.drift_alarm or window.rate_alarm
        is_reservoir = np.zeros(len(batch), dtype=np.bool_)
        is_reservoir[self.reservoir.offer(len(batch))] = True
        calibration = loaded.gate.beacon if loaded.gate is not None else loaded.content.beacon
        findings = self.destinations.observe(batch, is_fired | is_reservoir, calibration, loaded.content.fleet)
        is_fired[findings.confirmed] = True
        positions = np.flatnonzero(is_fired | is_reservoir)
        candidates = gather(batch, positions, hits=hits, windows=windows, findings=findings, content=loaded.content)
        candidates.is_fired, candidates.is_reservoir = is_fired[positions], is_reservoir[positions]
        candidates.tree = self.tree.observe(batch, positions)
        recall_matches(candidates, self._history, loaded.content)
        places = zip(windows.slots[positions].tolist(), windows.serials[positions].tolist(), strict=True)
        candidates.window_ids = [self.windows.window_id(*place) if place[0] >= 0 else "" for place in places]
        return candidates, findings


def _score(inputs: FeatureInputs, loaded: Loaded) -> Scores:
    model = loaded.model
    if model is None:
        return Scores(extract_features(inputs))
    features = extract_features(inputs, model.tables)
    scores = model.score(features)
    decision = loaded.gate.judge(scores, inputs.event_class) if loaded.gate is not None else None
    return Scores(features, model, scores, decision)


def _host_rng(seed: int, host_id: str) -> np.random.Generator:
    """Return the host's own random stream, the same in every run."""
    digest = hashlib.blake2b(
        host_id.encode(errors="surrogatepass"), digest_size=8, key=seed.to_bytes(8, "big")
    ).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))
