"""From settings to an agent at work, and everything given back at its end.

Opening a sensor takes seconds, and so does reading a bundle: the two go on side by side. Events that happen meanwhile
wait in the sensor, so the first batch already meets the rules.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog

from eguard.agent.buffer import AlertBuffer
from eguard.agent.bundle_watch import BundleWatch
from eguard.agent.bundles import BundleKeeper
from eguard.agent.calibration import FILE_NAME as CALIBRATION_NAME
from eguard.agent.calibration import CalibrationKeeper
from eguard.agent.candidate_part import Part, part_of, take_no_part
from eguard.agent.control.bundle_fetcher import ControlFetcher
from eguard.agent.control.enrolment_files import BUNDLE_ROOT_NAME, with_enrolment
from eguard.agent.control.loop import ControlPlane
from eguard.agent.isolation import HostIsolation, Nft, RequestFile
from eguard.agent.learning import BaselineKeeper
from eguard.agent.outlets import AlertOutlet
from eguard.agent.recording import Recording
from eguard.agent.runtime import AgentRuntime
from eguard.agent.sensing import Sensing
from eguard.agent.shards.stage import make_stage
from eguard.agent.status_file import STATUS_NAME, StatusFile
from eguard.agent.verdicts import FOLDER_NAME as VERDICTS_NAME
from eguard.agent.verdicts import VerdictBox
from eguard.bundle.candidate import CandidateListing
from eguard.clock import Clock, SystemClock
from eguard.detection.alert import Alert
from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions, WindowOptions
from eguard.errors import BundleError, ConfigError
from eguard.sensor import open_sensor
from eguard.sensor.protocol import Sensor
from eguard.settings import AgentSettings

ALERTS_NAME: Final = "alerts.db"
ISOLATION_NAME: Final = "nac"
BUNDLE_STATE_NAME: Final = "bundle"
#: Where a bundle repository is looked for when none is set: what a package installs, then what `make demo` built.
DEFAULT_REPOSITORIES: Final = (Path("/usr/share/eguard/bundle-repository"), Path("bundles/repository"))
ISOLATION_SECONDS: Final = 60.0
VERDICT_SECONDS: Final = 5.0
#: How long the first events wait for a first bundle that has to be tried out.
FIRST_BUNDLE_SECONDS: Final = 90.0
_FOLDER_MODE: Final = 0o700

_log = structlog.get_logger("eguard.agent")


@dataclass(frozen=True, slots=True)
class Source:
    """Where events come from.

    Parameters
    ----------
    name : str
        A live sensor, ``auto`` for the best that works, or ``replay``.
    file : Path, optional
        The recording to replay.
    host : str
        Which host of the recording; its first if empty.
    """

    name: str = "auto"
    file: Path | None = None
    host: str = ""

    @property
    def is_replay(self) -> bool:
        """Whether a recording is replayed."""
        return self.name == "replay"


def run_agent(
    settings: AgentSettings,
    source: Source | None = None,
    *,
    stop: threading.Event,
    duration_seconds: float | None = None,
    linger_seconds: float = 0.0,
    show: Callable[[Alert], None] = lambda _: None,
    started: Callable[[AgentRuntime], None] = lambda _: None,
) -> dict[str, Any]:
    """Run an agent until `stop` is set, the time is over or the recording ends.

    Parameters
    ----------
    settings : AgentSettings
        How this agent is set up.
    source : Source, optional
        Where events come from; the sensor of the settings by default.
    stop : Event
        Set it to end the agent; it writes down what it learned and returns.
    duration_seconds : float, optional
        How long to work, on the time of the events.
    linger_seconds : float
        How long to stay after the end of a recording, to talk with the server.
    show : callable
        Called with each alert.
    started : callable
        Called once everything is open, before the first event.

    Returns
    -------
    dict
        How things stood at the end, as `eguard agent status` shows it.

    Raises
    ------
    ConfigError
        The state folder cannot be used, the settings contradict one another, or there is a server and no usable
        certificate.
    BaselineStoreError
        The baseline store cannot be opened.
    SensorUnavailableError
        No sensor works.
    CorruptFileError
        The recording is damaged; what comes before the damage was processed and is kept.
    """
    source = source or Source(settings.sensor)
    _prepare_folder(settings.state_path)
    settings = with_enrolment(settings)
    with ExitStack() as opened:
        control = _control_plane(settings, source)
        if control is not None:
            opened.callback(control.client.abort)
        watch = _bundle_watch(settings, control)
        if watch is not None:
            watch.start()
            opened.callback(watch.stop)
        sensor, clock = _open_source(settings, source)
        opened.callback(sensor.close)
        baseline = BaselineKeeper(settings, clock)
        opened.callback(baseline.close)
        outlet = AlertOutlet(AlertBuffer(settings.state_path / ALERTS_NAME, settings.alert_buffer_max_bytes), show)
        opened.callback(outlet.close)
        status = StatusFile(settings.state_path / STATUS_NAME, settings.agent_id)
        options = _engine_options(settings, baseline)
        engine = Engine(sensor.host_id or settings.agent_id, options=options, profiles=baseline.table)
        opened.callback(_close_stage, engine)
        runtime = AgentRuntime(
            engine,
            Sensing(sensor, clock, None if source.is_replay else lambda: _open_live(settings, source)),
            baseline,
            outlet,
            clock,
            bundles=watch,
            settle_seconds=settings.settle_seconds,
            allow_unpromoted=settings.allow_unpromoted,
            make_stage=lambda engine: make_stage(engine, options, settings.detection_shards),
            publish=status.publish,
            exchange=control.exchange if control is not None else None,
            calibration=CalibrationKeeper(
                settings.state_path / CALIBRATION_NAME,
                settings.calibration_events,
                np.random.default_rng(),
                f"{settings.agent_id}\x1f{baseline.store.incarnation}",
            ),
            calibration_seconds=settings.calibration_seconds,
        )
        opened.callback(runtime.sensing.close)
        box = VerdictBox(settings.state_path / VERDICTS_NAME)
        runtime.timers.every("verdicts", VERDICT_SECONDS, lambda: baseline.apply_verdicts(box))
        runtime.timers.run_now("verdicts")
        if not source.is_replay:
            _keep_isolation(runtime, settings.state_path / ISOLATION_NAME)
        if watch is not None:
            watch.wait_first(FIRST_BUNDLE_SECONDS)
            runtime.take_bundle()
        if control is not None:
            control.start(runtime)
            opened.callback(control.stop)
            status.control = control.describe
        status.publish(runtime)
        started(runtime)
        try:
            runtime.run(stop, duration_seconds)
            if runtime.is_done:
                _log.info("recording has ended", events=int(runtime.totals.events.sum()))
                runtime.linger(stop, linger_seconds)
        finally:
            summary = status.finish(runtime)
    if isinstance(sensor, Recording):
        summary["recording"] = {"host": sensor.host_id, "other_hosts": dict(sorted(sensor.other_hosts.items()))}
    return summary


def _prepare_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the state folder {folder} cannot be made: {error.strerror or error}",
            remedy="Run it with sudo, or name a folder of your own: EGUARD_STATE_PATH=~/.local/state/eguard",
        ) from error


def _open_source(settings: AgentSettings, source: Source) -> tuple[Sensor, Clock]:
    if not source.is_replay:
        return _open_live(settings, source), SystemClock()
    recording = Recording(open_sensor("replay", replay_path=source.file), source.host)
    return recording, recording.clock


def _open_live(settings: AgentSettings, source: Source) -> Sensor:
    return open_sensor(source.name, host_id=settings.agent_id, require_ebpf=settings.require_ebpf)


def _close_stage(engine: Engine) -> None:
    """Close the stage that the engine has by then: a store opened anew brings another."""
    engine.stage.close()


def _engine_options(settings: AgentSettings, baseline: BaselineKeeper) -> EngineOptions:
    return EngineOptions(
        max_profiles=settings.max_profiles,
        beacon_allow_list=settings.beacon_allow_list,
        windows=WindowOptions(
            relearns_after_drift=True,
            # Windows that wait for a verdict outlive a restart; those of this life must not be taken for them.
            session=f"{baseline.store.incarnation[:8]}.{baseline.store.operation}.",
        ),
    )


def _control_plane(settings: AgentSettings, source: Source) -> ControlPlane | None:
    if not settings.server:
        return None
    isolation = None if source.is_replay else HostIsolation(Nft(), RequestFile(settings.state_path / ISOLATION_NAME))
    return ControlPlane(settings, isolation)


def _bundle_watch(settings: AgentSettings, control: ControlPlane | None) -> BundleWatch | None:
    fetcher = _server_fetcher(settings, control)
    repository = (
        settings.bundle_repository
        or (fetcher.address if fetcher is not None else "")
        or next((str(path) for path in DEFAULT_REPOSITORIES if (path / "metadata").is_dir()), "")
    )
    if not repository:
        _log.warning(
            "no bundle repository",
            reason="EGUARD_BUNDLE_REPOSITORY is not set, and no repository was found where one is looked for",
            remedy="Without a bundle there are no rules, indicators or beacon threshold. Build one: make demo",
        )
        return None
    root_file = settings.bundle_root or (_enrolled_root(settings) if fetcher is not None else None)
    root = root_file.read_bytes() if root_file is not None else None
    try:
        keeper = BundleKeeper(
            settings.state_path / BUNDLE_STATE_NAME,
            repository,
            root,
            max_load_memory_bytes=settings.max_load_memory_bytes,
            max_load_seconds=settings.max_load_seconds,
            fetcher=fetcher,
            choose=take_no_part if control is None else partial(_part, control),
        )
    except BundleError as error:
        _log.error("bundles cannot be used", reason=error.message, remedy=error.remedy)
        return None
    return BundleWatch(keeper, settings.bundle_check_seconds)


def _part(control: ControlPlane, listing: CandidateListing) -> Part:
    return part_of(control.policies.controls, listing)


def _server_fetcher(settings: AgentSettings, control: ControlPlane | None) -> ControlFetcher | None:
    """Return what reads the server's repository, where no other is set and there is a root to trust."""
    if control is None or settings.bundle_repository:
        return None
    has_root = settings.bundle_root is not None or _enrolled_root(settings).exists()
    return ControlFetcher(control.client) if has_root else None


def _enrolled_root(settings: AgentSettings) -> Path:
    return settings.tls_folder / BUNDLE_ROOT_NAME


def _keep_isolation(runtime: AgentRuntime, folder: Path) -> None:
    """Bring a requested isolation back, now and whenever somebody removed its rules."""
    request = RequestFile(folder)
    isolation = HostIsolation(Nft(), request)

    def restore() -> None:
        if request.path.exists():
            isolation.restore()

    runtime.timers.every("isolation", ISOLATION_SECONDS, restore)
    runtime.timers.run_now("isolation")
