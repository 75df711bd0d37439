"""Every setting with its value and where that came from."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from eguard.settings.agent import AgentSettings
from eguard.settings.evidence import EvidenceSettings
from eguard.settings.loading import CONFIG_VARIABLE, ConfigFile, from_environment, load, read_config_file, variable_name
from eguard.settings.mlops import MlopsSettings, NightlySettings
from eguard.settings.operator import OperatorSettings
from eguard.settings.server import ServerSettings

Origin = Literal["default", "file", "environment"]
#: Classes of settings. Only the agent's can also come from a file.
SETTINGS_CLASSES: Final[tuple[type[BaseSettings], ...]] = (
    AgentSettings,
    ServerSettings,
    OperatorSettings,
    MlopsSettings,
    NightlySettings,
    EvidenceSettings,
)
#: Variables that are read elsewhere: the file's own, and the signing keys' folder of `eguard bundle`.
_OTHER_VARIABLES: Final = frozenset({CONFIG_VARIABLE, "EGUARD_KEYS"})
_REDACTED: Final = "[redacted]"


@dataclass(frozen=True, slots=True)
class SettingValue:
    """One setting as it is in effect.

    Parameters
    ----------
    variable : str
        Environment variable.
    key : str
        Key in the TOML file; empty where a file cannot give it.
    value : Any
        Plain value: text, number, boolean, list or None. Passwords are redacted.
    origin : str
        ``default``, ``file`` or ``environment``.
    description : str
        What it does, with its unit.
    """

    variable: str
    key: str
    value: Any
    origin: Origin
    description: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def explain_settings(config: Path | None = None) -> list[SettingValue]:
    """Return every setting of the agent, the server and the pipeline as it is in effect here.

    Raises
    ------
    ConfigError
        As for `load_agent_settings`.
    """
    found: list[SettingValue] = []
    for model in SETTINGS_CLASSES:
        file = read_config_file(model, config) if model is AgentSettings else ConfigFile()
        loaded = load(model, file)
        environment = from_environment(model)
        for key, field in model.model_fields.items():
            origin: Origin = "environment" if key in environment else "file" if key in file.values else "default"
            value = plain_value(getattr(loaded, key), field)
            in_file = key if model is AgentSettings else ""
            found.append(SettingValue(variable_name(model, key), in_file, value, origin, field.description or ""))
    return found


def unknown_variables() -> list[str]:
    """Return variables of the environment that begin like a setting's and are none: misspelt, or of another version."""
    known = {variable_name(model, key) for model in SETTINGS_CLASSES for key in model.model_fields} | _OTHER_VARIABLES
    return sorted(name for name in os.environ if name.upper().startswith("EGUARD_") and name.upper() not in known)


def plain_value(value: Any, field: FieldInfo) -> Any:
    """Return a setting's value for printing: paths as text, tuples as lists, passwords redacted."""
    extra = field.json_schema_extra
    if isinstance(extra, dict) and extra.get("is_url"):
        return redact_password(value)
    if isinstance(value, SecretStr):
        return _REDACTED if value.get_secret_value() else ""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def redact_password(url: str) -> str:
    """Return an address without its password.

    Examples
    --------
    >>> redact_password("mysql://eguard:secret@db.example:3306/fleet")
    'mysql://eguard:[redacted]@db.example:3306/fleet'
    """
    # Greedy up to the last @: a password that was not quoted may hold any character.
    without = re.sub(r"(//[^:/@?#]*:).*@", rf"\1{_REDACTED}@", url)
    return re.sub(r"([?&](?:password|passwd|pwd|token)=)[^&]*", rf"\1{_REDACTED}", without)
