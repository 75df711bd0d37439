"""The control plane of one agent: every duty, the threads they run on, and how they stand.

Three threads. One waits for policies, most of its life inside a request. One does what is small and urgent: heartbeat,
commands, inventory, renewal. One carries the bulk: alerts, baselines, seeds. A slow upload so delays no heartbeat, and
nothing here delays an event.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from eguard.agent.control.calibration import CalibrationUploader
from eguard.agent.control.client import ControlClient
from eguard.agent.control.commands import CommandRunner, Isolation
from eguard.agent.control.credentials import TlsFiles
from eguard.agent.control.desk import RuntimeDesk
from eguard.agent.control.duties import DutyThread
from eguard.agent.control.enrol import Renewal
from eguard.agent.control.enrolment_files import read_enrolment
from eguard.agent.control.exchange import Exchange
from eguard.agent.control.heartbeats import Heartbeats
from eguard.agent.control.inventories import LOOK_SECONDS, Inventories
from eguard.agent.control.kept_policy import enrolment_name
from eguard.agent.control.policies import PolicyKeeper
from eguard.agent.control.policy_poll import PolicyPoll
from eguard.agent.control.redaction import AlertRedactor
from eguard.agent.control.seeds import SeedFetcher
from eguard.agent.control.telemetry import TelemetryUploader
from eguard.agent.control.uploads import BaselineUploader
from eguard.policy import StartupControls
from eguard.settings import AgentSettings

if TYPE_CHECKING:
    from eguard.agent.runtime import AgentRuntime

FOLDER_NAME: Final = "control"
#: The policy duty's interval: the pause after a refusal, or between requests that the server may not withhold.
POLICY_SECONDS: Final = 30.0
COMMAND_SECONDS: Final = 300.0
RENEWAL_SECONDS: Final = 3600.0
#: A machine that is on for minutes at a time renews, too.
RENEWAL_FIRST_SECONDS: Final = 30.0
BACKLOG_LOOK_SECONDS: Final = 5.0
#: The first heartbeat, policy and alerts come within this time of the start, spread over it.
SOON_SECONDS: Final = 1.0
#: A policy reaches all agents at once; what follows from it is spread over this time.
MAX_SPREAD_SECONDS: Final = 60.0
#: How long the end of the agent waits for what is under way.
STOP_SECONDS: Final = 2.0


class _Described(Protocol):
    def describe(self) -> dict[str, Any]: ...


_log = structlog.get_logger("eguard.agent")


class ControlPlane:
    """The agent's side of the control plane.

    Parameters
    ----------
    settings : AgentSettings
        With a server (`eguard.agent.control.enrolment_files.with_enrolment`).
    isolation : Isolation or None
        What carries commands out; None in a replay.

    Attributes
    ----------
    client : ControlClient
        The channel; bundles come over it, too.
    exchange : Exchange
        To be served by the runtime's thread.
    policies : PolicyKeeper
        The policy in force.

    Raises
    ------
    ConfigError
        The server's address is not https, or certificates are missing or cannot be used.
    """

    def __init__(self, settings: AgentSettings, isolation: Isolation | None = None) -> None:
        self._settings = settings
        self._isolation = isolation
        self._files = TlsFiles.of(settings)
        self.client = ControlClient(settings.server, self._files)
        self.exchange = Exchange()
        enrolment = read_enrolment(settings.tls_folder)
        self.policies = PolicyKeeper(
            self._folder,
            settings.agent_id,
            StartupControls.from_settings(settings),
            enrolment.policy_keys if enrolment is not None else (),
            enrolment=enrolment_name(enrolment, settings.server),
        )
        self._policy_thread = DutyThread("control-policy", settings.agent_id)
        self._urgent = DutyThread("control-urgent", settings.agent_id)
        self._bulk = DutyThread("control-bulk", settings.agent_id)
        self._threads = (self._policy_thread, self._urgent, self._bulk)
        self._described: dict[str, _Described] = {}
        self._is_started = False

    @property
    def _folder(self) -> Path:
        return self._settings.state_path / FOLDER_NAME

    def start(self, runtime: AgentRuntime) -> None:
        """Begin; from now on the runtime's thread has to serve `exchange`."""
        desk = RuntimeDesk(runtime, self.exchange)
        self._add_policy(desk)
        self._add_urgent(desk)
        self._add_bulk(desk)
        for thread in self._threads:
            thread.start()
        self._is_started = True
        _log.info("control plane started", server=self._settings.server, agent_id=self._settings.agent_id)

    def stop(self) -> None:
        """End: requests under way are cut off, and what was not answered for is sent again after the next start."""
        for thread in self._threads:
            thread.stop()
        self.exchange.close()
        self.client.abort()
        until = time.monotonic() + STOP_SECONDS
        if self._is_started and all(thread.join(max(0.0, until - time.monotonic())) for thread in self._threads):
            self.client.close()

    def describe(self) -> dict[str, Any]:
        """Return how the control plane stands, as plain values for the status."""
        duties = {name: duty for thread in self._threads for name, duty in thread.describe().items()}
        return {
            "server": self._settings.server,
            "connected": self.client.is_connected,
            "working": all(thread.is_working for thread in self._threads),
            "policy": self.policies.describe(),
            "duties": duties,
            **{name: part.describe() for name, part in self._described.items()},
        }

    def _add_policy(self, desk: RuntimeDesk) -> None:
        poll = PolicyPoll(
            self.client,
            self.policies,
            desk,
            wait_seconds=self._settings.policy_wait_seconds,
            changed=self._policy_changed,
        )
        self._policy_thread.every("policy", POLICY_SECONDS, poll.poll, first_seconds=SOON_SECONDS)

    def _add_urgent(self, desk: RuntimeDesk) -> None:
        settings = self._settings
        beats = Heartbeats(
            self.client,
            desk,
            self.policies,
            agent_id=settings.agent_id,
            policy_moved=lambda: self._policy_thread.wake("policy", even_failing=True),
            commands_wait=lambda: self._urgent.wake("commands"),
        )
        commands = CommandRunner(
            self._folder, self.client, self._isolation, lambda: beats.server_ahead_seconds
        )  # fmt: skip
        inventories = Inventories(
            self.client,
            agent_id=settings.agent_id,
            sensor_name=desk.sensor_name,
            interval_seconds=settings.inventory_seconds,
        )
        renewal = Renewal(settings.tls_folder, self.client, self._files)
        urgent = self._urgent
        urgent.every("heartbeat", settings.heartbeat_seconds, beats.beat, first_seconds=SOON_SECONDS)
        urgent.every("commands", COMMAND_SECONDS, commands.run, first_seconds=3.0 * SOON_SECONDS)
        look = min(LOOK_SECONDS, settings.inventory_seconds)
        urgent.every("inventory", look, inventories.report, first_seconds=3.0 * SOON_SECONDS)
        urgent.every("certificate renewal", RENEWAL_SECONDS, renewal.look, first_seconds=RENEWAL_FIRST_SECONDS)
        self._described |= {"heartbeat": beats, "certificate": renewal}

    def _add_bulk(self, desk: RuntimeDesk) -> None:
        settings, bulk = self._settings, self._bulk
        uploads = BaselineUploader(
            self.client,
            desk,
            self.policies,
            agent_id=settings.agent_id,
            max_bytes=settings.baseline_upload_max_bytes,
            is_stopping=lambda: bulk.is_stopping,
        )
        seeds = SeedFetcher(self.client, desk, self.policies, agent_id=settings.agent_id)
        telemetry = TelemetryUploader(
            self.client,
            desk,
            AlertRedactor(settings.do_not_collect),
            agent_id=settings.agent_id,
            is_stopping=lambda: bulk.is_stopping,
        )

        calibration = CalibrationUploader(
            self.client, desk, agent_id=settings.agent_id, is_stopping=lambda: bulk.is_stopping
        )

        def look_for_backlog() -> None:
            if uploads.is_backlog():
                bulk.wake("baseline upload")

        bulk.every("telemetry", settings.telemetry_seconds, telemetry.drain)
        bulk.every("baseline upload", settings.baseline_upload_seconds, uploads.upload)
        bulk.every("baseline backlog", BACKLOG_LOOK_SECONDS, look_for_backlog)
        bulk.every("fleet seeds", settings.fleet_seed_seconds, seeds.fetch)
        if settings.calibration_events:
            bulk.every("calibration", settings.calibration_seconds, calibration.upload)
        self._described |= {"uploads": uploads, "seeds": seeds, "telemetry": telemetry, "calibration": calibration}

    def _policy_changed(self) -> None:
        """Look for seeds soon after what is allowed changed; not the whole fleet in the same second."""
        if self.policies.may_seed:
            within = min(MAX_SPREAD_SECONDS, 0.1 * self._settings.fleet_seed_seconds)
            self._bulk.wake("fleet seeds", within_seconds=within)
