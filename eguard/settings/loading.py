"""How settings are read: a TOML file below, the environment above, and one error that names what is wrong."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from eguard.errors import ConfigError

CONFIG_VARIABLE: Final = "EGUARD_CONFIG"
_MAX_FILE_BYTES: Final = 1_000_000

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """Keys and values of a TOML file; without a path there is none."""

    path: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def load(model: type[SettingsT], file: ConfigFile | None = None) -> SettingsT:
    """Build a settings class: defaults, then the file, then the environment.

    Raises
    ------
    ConfigError
        A value cannot be read or is out of range; the error names its variable, or its key and file.
    """
    source = file or ConfigFile()
    named = set(from_environment(model))
    below = {key: value for key, value in source.values.items() if key not in named}
    try:
        return model(**below)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        message = str(first["msg"]).removeprefix("Value error, ")
        if key in below:
            raise ConfigError(
                f"{key} = {first['input']!r} in {source.path}: {message}",
                remedy=f"Correct or remove {key} in {source.path}.",
                key=key,
                path=str(source.path),
            ) from error
        variable = variable_name(model, key)
        raise ConfigError(
            f"{variable}={first['input']!r}: {message}",
            remedy=f"Correct or unset {variable}.",
            variable=variable,
        ) from error


def read_config_file(model: type[BaseSettings], path: Path | None = None) -> ConfigFile:
    """Read the TOML file of a settings class: `path`, else the one that EGUARD_CONFIG names, else none.

    Raises
    ------
    ConfigError
        The file cannot be read, is not TOML, or has a key that is no setting.
    """
    if path is None:
        name = os.environ.get(CONFIG_VARIABLE, "")
        if not name:
            return ConfigFile()
        path = Path(name)
    values = _parse(path)
    unknown = sorted(set(values) - set(model.model_fields))
    if unknown:
        raise ConfigError(
            f"{path} has the unknown key {unknown[0]!r}",
            remedy="Remove or correct it; `eguard config show` lists the settings, in lower case without EGUARD_.",
            key=unknown[0],
            path=str(path),
        )
    return ConfigFile(path, values)


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"the configuration file {path} cannot be read: {error.strerror}",
            remedy=f"Correct or unset {CONFIG_VARIABLE}, or let this user read the file.",
            path=str(path),
        ) from error
    if len(raw) > _MAX_FILE_BYTES:
        raise ConfigError(f"the configuration file {path} is larger than 1 MB", remedy="Name the right file.")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    # Nesting beyond the interpreter's depth is as malformed as a missing quote.
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            f"the configuration file {path} is not TOML: {error}",
            remedy='Write one `key = value` a line, with text in double quotes: server = "https://eguard.example:8443"',
            path=str(path),
        ) from error


def variable_name(model: type[BaseSettings], key: str) -> str:
    """Return the environment variable of a setting."""
    return f"{model.model_config.get('env_prefix', '')}{key}".upper()


def from_environment(model: type[BaseSettings]) -> tuple[str, ...]:
    """Return the settings that the environment gives, in either case, as they are read."""
    present = {name.upper() for name in os.environ}
    return tuple(key for key in model.model_fields if variable_name(model, key) in present)
