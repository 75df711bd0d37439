"""The loop of an agent: events in, alerts out, what was learned on the disk, and duties that come round.

One thread runs it. A batch is scored against the baseline as it was, its alerts are kept and shown, and only then is it
learned and written down; so a crash at any moment loses at most a second of learning and no alert that was kept. A new
bundle takes effect between two batches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from eguard.agent.bundle_status import NewBundle
from eguard.agent.bundle_watch import BundleWatch
from eguard.agent.calibration import CalibrationKeeper
from eguard.agent.clock_watch import ClockWatch
from eguard.agent.control.exchange import Exchange
from eguard.agent.learning import BaselineKeeper
from eguard.agent.memory import give_back_memory
from eguard.agent.outlets import AlertOutlet
from eguard.agent.sensing import Sensing
from eguard.agent.shadow import ShadowScorer
from eguard.agent.timers import Timers
from eguard.baseline.profile import ProfileTable
from eguard.clock import Clock, SystemClock
from eguard.detection.content import LoadedContent
from eguard.detection.engine import Engine
from eguard.detection.layer_stage import LayerStage
from eguard.detection.recalibration import recalibrate
from eguard.events import N_EVENT_CLASSES, EventBatch

#: Longest wait for an event. Whatever is due is at most this late.
POLL_SECONDS: Final = 0.25
LINGER_POLL_SECONDS: Final = 0.02
SETTLE_SECONDS: Final = 60.0
STATUS_SECONDS: Final = 10.0
#: At the end the last events are learned too, those included whose clock is a little ahead.
_NOT_YET_SECONDS: Final = 1.0

_log = structlog.get_logger("eguard.agent")


@dataclass(slots=True)
class Totals:
    """What an agent has seen and done since it started.

    `events` counts by event class; its last entry is telemetry of no class.
    """

    events: NDArray[np.int64] = field(default_factory=lambda: np.zeros(N_EVENT_CLASSES + 1, np.int64))
    batches: int = 0
    windows_closed: int = 0
    windows_held: int = 0
    drift_alarms: int = 0
    keys_relearned: int = 0
    bundles_loaded: int = 0
    clock_steps: int = 0


class AgentRuntime:
    """One agent at work.

    Parameters
    ----------
    engine : Engine
        Detection, on the profiles of `baseline`.
    sensing : Sensing
        Where events come from.
    baseline : BaselineKeeper
        Where what was learned goes.
    outlet : AlertOutlet
        Where alerts go.
    clock : Clock
        Of the machine, or of what is replayed.
    bundles : BundleWatch, optional
        Where new bundles come from.
    settle_seconds : float
        Age at which events of open windows are learned.
    allow_unpromoted : bool
        Whether the classifier of a bundle that missed a quality gate is used.
    make_stage : callable, optional
        Makes the stage of the engine: shards. It is called again when the profiles become others.
    publish : callable, optional
        Called every ten seconds with this runtime, to tell the outside how it stands.
    exchange : Exchange, optional
        Work that the control plane's threads want done between two batches.
    calibration : CalibrationKeeper, optional
        Where a sample of scored events goes, and what the thresholds of a model that is loaded are set anew from.
    calibration_seconds : float
        How long one sample is drawn from.
    """

    def __init__(
        self,
        engine: Engine,
        sensing: Sensing,
        baseline: BaselineKeeper,
        outlet: AlertOutlet,
        clock: Clock,
        *,
        bundles: BundleWatch | None = None,
        settle_seconds: float = 300.0,
        allow_unpromoted: bool = False,
        make_stage: Callable[[Engine], LayerStage] | None = None,
        publish: Callable[[AgentRuntime], object] = lambda _: None,
        exchange: Exchange | None = None,
        calibration: CalibrationKeeper | None = None,
        calibration_seconds: float = 3600.0,
    ) -> None:
        self.engine = engine
        self.sensing = sensing
        self.baseline = baseline
        self.outlet = outlet
        self.bundles = bundles
        self.totals = Totals()
        self.bundle: NewBundle | None = None
        self.shadow: ShadowScorer | None = None
        self.calibration = calibration
        self._clock = clock
        self._watch = ClockWatch(clock)
        self._settle_seconds = settle_seconds
        self._allow_unpromoted = allow_unpromoted
        self._make_stage = make_stage
        self._exchange = exchange or Exchange()
        if make_stage is not None:
            engine.stage = make_stage(engine)
        self.timers = Timers(clock)
        self.timers.every("settle", SETTLE_SECONDS, self._settle)
        self.timers.every("baseline status", STATUS_SECONDS, self._check_status)
        if calibration is not None:
            self.timers.every("calibration sample", calibration_seconds, self._close_sample)
        # The outside looks at the machine's time, whatever time the events are on.
        self._publishing = Timers(SystemClock())
        self._publishing.every("publish status", STATUS_SECONDS, lambda: publish(self))
        self._check_status()

    @property
    def is_done(self) -> bool:
        """Whether no event will ever come again."""
        return self.sensing.is_exhausted

    def now(self) -> float:
        """Return the time that events are on, in seconds since the epoch."""
        return self._clock.now()

    def run(self, stop: threading.Event, duration_seconds: float | None = None) -> None:
        """Work until `stop` is set, the time is over or the replayed file ends; then write down what waits."""
        until = None if duration_seconds is None else self._clock.monotonic() + duration_seconds
        try:
            while not stop.is_set() and not self.is_done:
                left = POLL_SECONDS if until is None else min(POLL_SECONDS, until - self._clock.monotonic())
                if left <= 0.0:
                    break
                self.step(left)
        finally:
            self.finish()

    def step(self, timeout_seconds: float = POLL_SECONDS) -> None:
        """Take in one batch, waiting up to `timeout_seconds` for it, and do what is due."""
        batch = self.sensing.poll(timeout_seconds)
        self._check_clock()
        self.take_bundle()
        if len(batch):
            self._process(batch)
        self._exchange.serve()
        self.baseline.tick()
        if self.baseline.reopened():
            self._adopt(self.baseline.table)
        self.timers.run_due()
        self._publishing.run_due()

    def linger(self, stop: threading.Event, seconds: float) -> None:
        """Stay for what the control plane wants, after the last event, until `stop` is set or the time is over."""
        machine = SystemClock()
        until = machine.monotonic() + seconds
        while not stop.is_set() and (left := until - machine.monotonic()) > 0.0:
            self.take_bundle()
            self._exchange.serve()
            self.baseline.tick()
            self._publishing.run_due()
            stop.wait(min(LINGER_POLL_SECONDS, left))

    def use(self, bundle: NewBundle) -> None:
        """Put a bundle's content, and its classifier if it may be used, in the place of the present ones."""
        content = self._recalibrated(bundle.content)
        is_usable = bundle.manifest.promoted or self._allow_unpromoted
        self.engine.swap(
            content.detection, content.model if is_usable else None, content.gate if is_usable else None
        )  # fmt: skip
        self.bundle = bundle
        self.totals.bundles_loaded += 1
        give_back_memory()
        _log.info(
            "loaded bundle",
            digest=bundle.digest,
            model_version=content.model_version,
            promoted=bundle.manifest.promoted,
            classifier=is_usable,
            rules=len(content.detection.rules),
            indicators=len(content.detection.indicators),
        )
        if not is_usable:
            _log.warning(
                "bundle's classifier is not used",
                reason="the model missed a quality gate",
                remedy="Rules, indicators and beacons work. EGUARD_ALLOW_UNPROMOTED=true uses the classifier too.",
            )

    def finish(self) -> None:
        """Learn what open windows hold and write it down. The agent can go on afterwards."""
        self._learn_open_windows(self._clock.now() + _NOT_YET_SECONDS)
        self.baseline.tick()

    def _process(self, batch: EventBatch) -> None:
        self.engine.is_learning = self.baseline.is_learning
        output = self.engine.process(batch)
        if self.shadow is not None:
            self.shadow.observe(output, self.engine.loaded)
        if self.calibration is not None:
            self.calibration.observe(output, self.engine.loaded)
        self.outlet.give(output.alerts)
        self.baseline.learned(output)
        totals = self.totals
        totals.batches += 1
        np.add.at(totals.events, batch.event_class, 1)
        totals.windows_closed += len(output.closed_windows)
        for window in output.closed_windows:
            totals.windows_held += window.is_held
            totals.drift_alarms += window.drift_alarm
            totals.keys_relearned += bool(window.archived)

    def _adopt(self, profiles: ProfileTable) -> None:
        """Go on with the profiles of a store that was opened again."""
        # Windows held before wait in that store; the numbers of new ones go on, or they would be taken for them.
        serials = self.engine.windows.serials.copy()
        self.engine.adopt(profiles)
        self.engine.windows.serials[:] = serials
        if self._make_stage is not None:
            self.engine.stage = self._make_stage(self.engine)

    def _recalibrated(self, content: LoadedContent) -> LoadedContent:
        """Score what this host has kept with the model that comes, and set its thresholds anew from that."""
        if self.calibration is None or not len(self.calibration):
            return content
        gate = recalibrate(content.gate, content.model, self.calibration.rows())
        own = sorted(name for name, group in gate.groups.items() if group is not content.gate.groups.get(name))
        _log.info("recalibrated", model_version=content.model_version, events=len(self.calibration), groups=own)
        return replace(content, gate=gate)

    def _close_sample(self) -> None:
        """Keep this hour's sample, and let the next one begin with a random sample of all events, too."""
        assert self.calibration is not None
        self.calibration.close_sample()
        self.engine.reservoir.reset()

    def _settle(self) -> None:
        self._learn_open_windows(self._clock.now() - self._settle_seconds)

    def _learn_open_windows(self, before_unix: float) -> None:
        self.baseline.settled(self.engine.settle(before_unix))

    def _check_status(self) -> None:
        self.baseline.check_status()

    def _check_clock(self) -> None:
        step = self._watch.step()
        if step:
            self.totals.clock_steps += 1
            _log.warning("clock was set", step_seconds=step)
            self.engine.forget_times()
            self.baseline.shift_times(step)

    def take_bundle(self) -> None:
        """Use the newest bundle that was found since the last call, and score with the candidate that is wanted."""
        if self.bundles is None:
            return
        bundle = self.bundles.take()
        if bundle is not None:
            self.use(bundle)
        wanted = self.bundles.shadow
        if (None if wanted is None else wanted.digest) != (None if self.shadow is None else self.shadow.digest):
            self.shadow = (
                None if wanted is None else ShadowScorer(replace(wanted, content=self._recalibrated(wanted.content)))
            )
            give_back_memory()
            _log.info("shadow scoring", digest="" if wanted is None else wanted.digest, is_on=wanted is not None)
