"""Settings from the environment: the only module that reads it.

Each class is built once, at an entry point, and handed down. A value that cannot be read is a `ConfigError` that names
the variable.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from eguard.errors import ConfigError

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
    fail_on_threshold: bool | None = Field(None, description="Offline evaluation fails below its thresholds.")
    fail_on_regression: bool | None = Field(None, description="Offline evaluation fails on a drop from the last model.")


def load_mlops_settings() -> MlopsSettings:
    """Read the pipeline's settings from the environment.

    Raises
    ------
    ConfigError
        A variable holds a value that cannot be read or is out of range.
    """
    try:
        return MlopsSettings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = f"EGUARD_ML_{str(first['loc'][0]).upper()}"
        raise ConfigError(
            f"{variable}={first['input']!r}: {first['msg']}",
            remedy=f"Correct or unset {variable}.",
            variable=variable,
        ) from error
