"""Settings of the server's side."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from eguard.settings.loading import load
from eguard.settings.values import FolderPath, Number, OptionalPath, Switch, WholeNumber

DATABASE_NAME: Final = "fleet.sqlite"


class ServerSettings(BaseSettings):
    """Where the fleet's data are kept, where the server listens, and what it allows."""

    model_config = SettingsConfigDict(env_prefix="EGUARD_", frozen=True)

    server_state_path: FolderPath = Field(
        Path("/var/lib/eguard-server"), description="Folder of the server's keys, certificates and embedded database."
    )
    database_url: str = Field(
        "",
        description="URL of the fleet database, such as mysql://eguard:PASSWORD@db.example/eguard.",
        json_schema_extra={"is_url": True, "default_text": f"SQLite, {DATABASE_NAME} in the server's state folder"},
    )
    agent_listen: str = Field("127.0.0.1:8443", description="ADDRESS:PORT of the agents' listener; port 0: any free.")
    admin_listen: str = Field(
        "127.0.0.1:8444", description="ADDRESS:PORT of the administration listener; port 0: any free."
    )
    pki_passphrase: SecretStr = Field(
        SecretStr(""), description="Passphrase of the certificate authority's key; empty: the key is not encrypted."
    )
    served_repository: OptionalPath = Field(
        None,
        description="Folder of the bundle repository that agents are served.",
        json_schema_extra={"default_text": "bundle-repository in the server's state folder, if there is one"},
    )

    upload_max_bytes: WholeNumber = Field(
        1_000_000, ge=1, description="Largest upload body that the server takes, in bytes after decompression."
    )
    request_seconds: Number = Field(15.0, gt=0, description="Seconds within which a request has to arrive.")
    max_connections: WholeNumber = Field(12_000, ge=1, description="Connections that each listener holds at once.")

    aggregation_min_agents: WholeNumber = Field(3, ge=1, description="Fewest agents behind a published key.")
    aggregation_max_colluders: WholeNumber = Field(
        1, ge=0, description="Agents that may lie together; a key needs twice as many honest ones and one."
    )
    aggregation_min_agent_age_seconds: Number = Field(
        86_400.0,
        ge=0,
        description="Seconds of heartbeats before an agent's profiles are votes: it enrolled that long ago, and its "
        "heartbeats fell into as many different hours; 0 asks for neither.",
    )
    aggregation_max_token_share: Number = Field(
        0.1,
        gt=0,
        le=1,
        description="Largest share of a process key's votes from agents enrolled with one token, and always one vote; "
        "1 lets all of them count. Agents with an operator's certificate are not limited.",
    )

    aggregation_engine: Literal["local", "dask"] = Field(
        "local", description="Where votes are aggregated: on this machine, or on a Dask cluster."
    )
    aggregation_workers: WholeNumber = Field(
        1, ge=1, description="Processes that aggregate on this machine; 1 works in the server's own."
    )
    dask_address: str = Field("", description="Address of the Dask scheduler, such as tls://dask.example:8786.")
    dask_tls_ca: OptionalPath = Field(None, description="PEM file of the Dask cluster's certificate authority.")
    dask_tls_cert: OptionalPath = Field(None, description="PEM file of the certificate shown to the Dask scheduler.")
    dask_tls_key: OptionalPath = Field(None, description="PEM file of that certificate's key.")

    retention_events_days: WholeNumber = Field(30, ge=1, description="Days that events are kept.")
    retention_alerts_days: WholeNumber = Field(180, ge=1, description="Days that alerts are kept.")
    retention_health_days: WholeNumber = Field(400, ge=1, description="Days that the fleet's health is kept.")
    retention_audit_days: WholeNumber = Field(400, ge=1, description="Days that the audit log is kept.")
    retention_calibration_days: WholeNumber = Field(30, ge=1, description="Days that calibration samples are kept.")

    notify_webhook_url: SecretStr = Field(
        SecretStr(""), description="https URL that messages to operators are posted to; empty: none."
    )
    notify_webhook_secret: SecretStr = Field(
        SecretStr(""), description="Secret that the webhook's messages are signed with; empty: they are not signed."
    )
    notify_webhook_allow_http: Switch = Field(
        default=False,
        description="Whether the webhook may be http beyond this machine: whoever listens reads along.",
    )
    notify_syslog: str = Field(
        "", description="Syslog receiver of messages to operators: udp, tcp or tls://HOST:PORT; empty: none."
    )
    notify_ca: OptionalPath = Field(
        None,
        description="Authority of the webhook's and of the syslog receiver's certificate, PEM.",
        json_schema_extra={"default_text": "the system's"},
    )

    @field_validator("agent_listen", "admin_listen")
    @classmethod
    def _has_a_port(cls, value: str) -> str:
        split_listen(value)
        return value

    @property
    def fleet_url(self) -> str:
        """Return the database's URL, the embedded one's where none is set."""
        return self.database_url or f"sqlite:///{self.server_state_path / DATABASE_NAME}"

    @property
    def repository(self) -> Path:
        """Return the folder of the bundle repository, which need not exist."""
        return self.served_repository or self.server_state_path / "bundle-repository"


def split_listen(text: str) -> tuple[str, int]:
    """Return host and port of ADDRESS:PORT; ValueError if it is none.

    Examples
    --------
    >>> split_listen("127.0.0.1:8443"), split_listen("[::1]:0")
    (('127.0.0.1', 8443), ('::1', 0))
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("write it as ADDRESS:PORT, such as 0.0.0.0:8443 or [::]:8443")
    return host, int(port)


def load_server_settings() -> ServerSettings:
    """Read the server's settings from the environment.

    Raises
    ------
    ConfigError
        A variable holds a value that cannot be read or is out of range.
    """
    return load(ServerSettings)
