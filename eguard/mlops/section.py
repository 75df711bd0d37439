"""One section of `params.yaml`, without the modules of all other stages: a stage starts in the time that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eguard.errors import ConfigError
from eguard.settings import MlopsSettings

Section = TypeVar("Section", bound=BaseModel)

#: Settings of the environment (operations manual 5.2) by the section that they override.
OVERRIDES: Final = {
    "corpus": ("sample_count", "external_sample_cap"),
    "train": ("resource_profile", "max_samples", "cv_folds", "l2_grid_points"),
    "offline_eval": ("fail_on_threshold", "fail_on_regression"),
}


class BaseParams(BaseModel):
    """What every stage shares."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=20260301, ge=0, description="Seed of every random number in the pipeline.")


class ReportParams(BaseModel):
    """What the report stage executes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    notebooks: tuple[str, ...] = Field(description="Notebooks to execute, in the order of the report.")
    title: str = Field(default="eGuard evidence report", description="Title of the PDF.")


def read_document(path: Path) -> dict[str, Any]:
    """Read a parameter file as it is.

    Raises
    ------
    ConfigError
        The file is missing or not a YAML mapping.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", remedy="Restore it: git checkout params.yaml") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} holds no sections", remedy="Restore it: git checkout params.yaml")
    return document


def validated(path: Path, model: type[Section], values: Any, *, prefix: str = "") -> Section:
    """Return values as a model.

    Raises
    ------
    ConfigError
        A key is unknown, missing or out of range; the message names it.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(filter(None, [prefix, *map(str, first["loc"])]))
        raise ConfigError(
            f"{path}: {key}: {first['msg']}",
            remedy=f"Correct {key} in {path}; docs/reference/params.md lists every key.",
            key=key,
        ) from error


def load_section(path: Path, name: str, model: type[Section], settings: MlopsSettings) -> tuple[BaseParams, Section]:
    """Read what one stage needs of a parameter file, with the machine's environment over it.

    Parameters
    ----------
    path : Path
        The parameter file.
    name : str
        Section of the stage.
    model : type
        What the section has to be.
    settings : MlopsSettings
        The environment.

    Raises
    ------
    ConfigError
        The file cannot be read, or a key of the section is unknown, missing or out of range.
    """
    document = read_document(path)
    base = validated(path, BaseParams, document.get("base", {}), prefix="base")
    section = validated(path, model, document.get(name, {}), prefix=name)
    return base, overridden(name, section, settings)


def overridden(name: str, section: Section, settings: MlopsSettings) -> Section:
    """Return a section with the settings over it that are given."""
    given = {key: getattr(settings, key) for key in OVERRIDES.get(name, ())}
    return section.model_copy(update={key: value for key, value in given.items() if value is not None})
