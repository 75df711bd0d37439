"""Settings of the pipeline."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from eguard.settings.loading import load
from eguard.settings.values import OptionalSwitch

ResourceProfileName = Literal["auto", "tiny", "modest", "balanced", "high"]


class MlopsSettings(BaseSettings):
    """Knobs of the pipeline that an operator sets per machine (operations manual 5.2). None: `params.yaml` decides."""

    model_config = SettingsConfigDict(env_prefix="EGUARD_ML_", frozen=True)

    sample_count: int | None = Field(None, ge=1, description="Corpus rows wanted.")
    external_sample_cap: int | None = Field(None, ge=0, description="Most rows from shipped data mixed in.")
    resource_profile: ResourceProfileName | None = Field(None, description="Size of training for this machine.")
    max_samples: int | None = Field(None, ge=100, description="Most rows to train on.")
    cv_folds: int | None = Field(None, ge=5, le=50, description="Cross-validation folds.")
    l2_grid_points: int | None = Field(None, ge=1, le=50, description="Points of the L2 grid.")
    fail_on_threshold: OptionalSwitch = Field(None, description="Offline evaluation fails below its thresholds.")
    fail_on_regression: OptionalSwitch = Field(
        None, description="Offline evaluation fails on a drop from the last model."
    )


def load_mlops_settings() -> MlopsSettings:
    """Read the pipeline's settings from the environment.

    Raises
    ------
    ConfigError
        A variable holds a value that cannot be read or is out of range.
    """
    return load(MlopsSettings)
