"""Settings from the environment and from a file: the only package that reads them.

Each class is built once, at an entry point, and handed down. A value that cannot be read is a `ConfigError` that names
the variable, or the key and its file.
"""

from eguard.settings.agent import AgentSettings, SensorName, load_agent_settings
from eguard.settings.evidence import EvidenceSettings, load_evidence_settings
from eguard.settings.mlops import (
    MlopsSettings,
    NightlySettings,
    ResourceProfileName,
    load_mlops_settings,
    load_nightly_settings,
)
from eguard.settings.operator import OperatorSettings, load_operator_settings
from eguard.settings.origins import SETTINGS_CLASSES, SettingValue, explain_settings, unknown_variables
from eguard.settings.server import ServerSettings, load_server_settings

__all__ = [
    "SETTINGS_CLASSES",
    "AgentSettings",
    "EvidenceSettings",
    "MlopsSettings",
    "NightlySettings",
    "OperatorSettings",
    "ResourceProfileName",
    "SensorName",
    "ServerSettings",
    "SettingValue",
    "explain_settings",
    "load_agent_settings",
    "load_evidence_settings",
    "load_mlops_settings",
    "load_nightly_settings",
    "load_operator_settings",
    "load_server_settings",
    "unknown_variables",
]
