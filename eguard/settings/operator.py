"""Settings of the commands that talk to a running server."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from eguard.settings.loading import load
from eguard.settings.values import OptionalPath


class OperatorSettings(BaseSettings):
    """Where the server's administration is reached, and with which token.

    The authority of the server's certificate is `EGUARD_TLS_CA`.
    """

    model_config = SettingsConfigDict(env_prefix="EGUARD_", frozen=True)

    api: str = Field("https://127.0.0.1:8444", description="Address of the server's administration, https://NAME:PORT.")
    api_token: SecretStr = Field(SecretStr(""), description="Access token of the administration.")
    api_token_file: OptionalPath = Field(
        None, description="File with the access token, if EGUARD_API_TOKEN is not set; mode 0600."
    )


def load_operator_settings() -> OperatorSettings:
    """Read them from the environment.

    Raises
    ------
    ConfigError
        A variable holds a value that cannot be read.
    """
    return load(OperatorSettings)
