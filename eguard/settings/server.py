"""Settings of the server's side."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from eguard.settings.loading import load


class ServerSettings(BaseSettings):
    """Where the fleet's data are kept."""

    model_config = SettingsConfigDict(env_prefix="EGUARD_", frozen=True)

    database_url: str = Field(
        "",
        description="URL of the fleet database, such as sqlite:////var/lib/eguard/fleet.sqlite; empty: none.",
        json_schema_extra={"is_url": True},
    )


def load_server_settings() -> ServerSettings:
    """Read the server's settings from the environment.

    Raises
    ------
    ConfigError
        A variable holds a value that cannot be read or is out of range.
    """
    return load(ServerSettings)
