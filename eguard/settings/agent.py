"""Settings of the agent."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from eguard.settings.loading import load, read_config_file
from eguard.settings.values import FolderPath, NameList, Number, OptionalPath, Switch, WholeNumber

SensorName = Literal["auto", "ebpf", "proc_connector", "psutil"]
_SNAPSHOT_NAME: Final = "baselines.bin"
_GIBIBYTE: Final = 1 << 30


class AgentSettings(BaseSettings):
    """What an operator sets for the agent of one machine."""

    model_config = SettingsConfigDict(env_prefix="EGUARD_", frozen=True)

    agent_id: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=128,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Name of this endpoint in the fleet.",
        json_schema_extra={"default_text": "the machine's host name"},
    )
    server: str = Field("", description="Address of the server, https://NAME:PORT; empty: the agent works alone.")
    tls_cert: OptionalPath = Field(
        None,
        description="File of this agent's certificate, PEM, with its intermediates.",
        json_schema_extra={"default_text": "what the enrolment wrote: tls/agent.pem in the state folder"},
    )
    tls_key: OptionalPath = Field(
        None,
        description="File of the certificate's private key, PEM, mode 0600.",
        json_schema_extra={"default_text": "what the enrolment wrote: tls/agent.pem in the state folder"},
    )
    tls_ca: OptionalPath = Field(
        None,
        description="File of the authority that signed the server's certificate, PEM.",
        json_schema_extra={"default_text": "what the enrolment wrote: tls/ca.pem in the state folder"},
    )

    state_path: FolderPath = Field(Path("/var/lib/eguard"), description="Folder of everything that the agent keeps.")
    baseline_path: OptionalPath = Field(
        None,
        description="File baselines.bin of the baseline store, or its folder.",
        json_schema_extra={"default_text": "baseline/baselines.bin in the state folder"},
    )

    baseline_upload_enabled: Switch = Field(
        default=True, description="Upload what was learned. `false` here is final: no policy switches it on."
    )
    fleet_seed_enabled: Switch = Field(
        default=True,
        description="Take the fleet's profiles as priors. `false` here is final: no policy switches it on.",
    )
    baseline_upload_canary_percent: Number = Field(
        100.0, ge=0, le=100, description="Share of agents that upload, in percent. 0 here is final."
    )
    fleet_seed_canary_percent: Number = Field(
        100.0, ge=0, le=100, description="Share of agents that take seeds, in percent. 0 here is final."
    )
    baseline_upload_max_bytes: WholeNumber = Field(1_000_000, ge=1, description="Largest upload body, in bytes.")

    learning_seconds: Number = Field(604_800.0, gt=0, description="Seconds of learning before the baseline is used.")
    stale_seconds: Number = Field(
        2_592_000.0, gt=0, description="Seconds without an event after which the baseline is stale."
    )
    settle_seconds: Number = Field(
        300.0, gt=0, description="Seconds after which the events of a window that is still open are learned."
    )
    held_seconds: Number = Field(
        86_400.0, gt=0, description="Seconds that a suspicious window waits for a verdict before it is forgotten."
    )
    max_profiles: WholeNumber = Field(
        4096, ge=1, le=65_536, description="Most process keys with a baseline; the least recently seen is evicted."
    )

    detection_shards: WholeNumber = Field(
        1, ge=1, le=64, description="Processes that detect, each for its own process keys."
    )
    sensor: SensorName = Field("auto", description="What watches the machine; auto takes the best that works.")
    require_ebpf: Switch = Field(default=False, description="Refuse to start with a lesser sensor than ebpf.")
    beacon_allow_list: NameList = Field(
        (), description="Addresses and registered domains that are never judged as beacons; commas between them."
    )
    alert_buffer_max_bytes: WholeNumber = Field(
        100_000_000, ge=262_144, description="Largest size of the offline alert buffer, in bytes; the oldest go first."
    )

    bundle_repository: str = Field(
        "", description="Folder or file:// address of the repository of signed bundles; empty: none."
    )
    bundle_root: OptionalPath = Field(
        None, description="File of the trusted root metadata that this machine got when it was enrolled."
    )
    bundle_check_seconds: Number = Field(150.0, gt=0, description="Seconds between two looks for a new bundle.")
    allow_unpromoted: Switch = Field(
        default=False, description="Use the classifier of a bundle that missed a quality gate, too."
    )
    max_load_memory_bytes: WholeNumber = Field(
        _GIBIBYTE, ge=1, description="Most memory for trying out a new bundle, in bytes."
    )
    max_load_seconds: Number = Field(60.0, gt=0, description="Most seconds for trying out a new bundle.")

    heartbeat_seconds: Number = Field(30.0, gt=0, description="Seconds between two heartbeats to the server.")
    policy_wait_seconds: Number = Field(
        55.0, ge=0, le=60, description="Seconds that the server may withhold its answer until there is a new policy."
    )
    baseline_upload_seconds: Number = Field(
        900.0, gt=0, description="Seconds between two uploads of what was learned; many changes go at once."
    )
    fleet_seed_seconds: Number = Field(900.0, gt=0, description="Seconds between two looks for the fleet's profiles.")
    inventory_seconds: Number = Field(
        3600.0, gt=0, description="Seconds between two reports of what machine this is; a change goes within a minute."
    )
    telemetry_seconds: Number = Field(5.0, gt=0, description="Seconds between two looks for alerts that wait.")
    calibration_events: WholeNumber = Field(
        16, ge=0, le=100, description="Scored events of each sample that thresholds are calibrated on; 0 draws none."
    )
    calibration_seconds: Number = Field(
        3600.0, gt=0, description="Seconds of events that one such sample is drawn from, and between two uploads."
    )
    do_not_collect: NameList = Field(
        (),
        description="Patterns of programs whose command lines stay on this machine, such as vault, */gpg or "
        "/opt/payroll/*; commas between them.",
    )

    @property
    def tls_folder(self) -> Path:
        """Return the folder of what this agent got when it was enrolled."""
        return self.state_path / "tls"

    @property
    def baseline_folder(self) -> Path:
        """Return the folder of the baseline store, whether `baseline_path` names it, its file or nothing."""
        if self.baseline_path is None:
            return self.state_path / "baseline"
        return self.baseline_path.parent if self.baseline_path.name == _SNAPSHOT_NAME else self.baseline_path


def load_agent_settings(config: Path | None = None) -> AgentSettings:
    """Read the agent's settings: defaults, then the TOML file, then the environment.

    Parameters
    ----------
    config : Path, optional
        The TOML file; the one that EGUARD_CONFIG names by default.

    Raises
    ------
    ConfigError
        The file cannot be read, has an unknown key, or a value cannot be read or is out of range.
    """
    return load(AgentSettings, read_config_file(AgentSettings, config))
