"""Settings of evidence packs and of the readiness gate."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from eguard.settings.loading import load
from eguard.settings.values import FolderPath


class EvidenceSettings(BaseSettings):
    """Where the key that signs evidence and the records of drills are kept."""

    model_config = SettingsConfigDict(env_prefix="EGUARD_", frozen=True)

    evidence_path: FolderPath = Field(
        Path("/var/lib/eguard-evidence"),
        description="Folder of the key that signs evidence, of trusted public keys and of the records of drills.",
    )


def load_evidence_settings() -> EvidenceSettings:
    """Read them from the environment.

    Raises
    ------
    ConfigError
        A variable holds a value that cannot be read.
    """
    return load(EvidenceSettings)
