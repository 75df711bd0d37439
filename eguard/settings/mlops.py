"""Settings of the pipeline and of the nightly run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from eguard.settings.loading import load
from eguard.settings.values import FolderPath, Number, OptionalPath, OptionalSwitch, WholeNumber

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


class NightlySettings(BaseSettings):
    """What the nightly run takes from the database, and where it works (operations manual 5.2)."""

    model_config = SettingsConfigDict(env_prefix="EGUARD_ML_", frozen=True)

    agent_repo_path: OptionalPath = Field(
        None,
        description="Pipeline workspace whose scripts, parameters and shipped data are used.",
        json_schema_extra={"default_text": "the installed ones"},
    )
    output_root: FolderPath = Field(
        Path("/usr/local/eg/var/mlops/signature-ml-feedback"),
        description="Folder of runs, `latest-report.json` and `latest`.",
    )
    lookback_hours: Number = Field(720.0, gt=0, description="Window of events taken, in hours before now.")
    query_limit: WholeNumber = Field(500_000, ge=1, description="Most events read, the newest first.")
    min_feedback_rows: WholeNumber = Field(30, ge=1, description="Adjudicated events below which a run is skipped.")


def load_mlops_settings() -> MlopsSettings:
    """Read the pipeline's settings from the environment.

    Raises
    ------
    ConfigError
        A variable holds a value that cannot be read or is out of range.
    """
    return load(MlopsSettings)


def load_nightly_settings() -> NightlySettings:
    """Read the nightly run's settings from the environment.

    Raises
    ------
    ConfigError
        A variable holds a value that cannot be read or is out of range.
    """
    return load(NightlySettings)
