"""The pages that are written from the settings' classes: the reference, and the example for a service's environment."""

from __future__ import annotations

import textwrap
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from eguard.settings import SETTINGS_CLASSES, AgentSettings

_WIDTH: Final = 100
_HEADING: Final = {
    "AgentSettings": "Agent",
    "ServerSettings": "Server",
    "OperatorSettings": "Administration",
    "MlopsSettings": "Pipeline",
    "NightlySettings": "Nightly run",
    "EvidenceSettings": "Evidence and readiness",
}


def settings_markdown() -> str:
    """Return the reference page of the settings: variable, meaning, values and default of each."""
    lines = [
        "# Settings",
        "",
        "Defaults are beaten by the TOML file that `EGUARD_CONFIG` names, and that by the environment. In the file a",
        "key is the variable in lower case without `EGUARD_`. An unknown key is an error, and only the agent's",
        "settings can stand there. Switches are `1`, `true`, `yes`, `on` and `0`, `false`, `no`, `off`, in either",
        "case; any other word stops the start with the variable's name. `eguard config show` prints what is in effect",
        "and where it came from. `deploy/eguard.env.example` has the agent's list as a file for systemd's",
        "`EnvironmentFile`.",
        "",
    ]
    for model in SETTINGS_CLASSES:
        lines += [f"## {_HEADING[model.__name__]}", "", (model.__doc__ or "").strip(), ""]
        lines += ["| variable | meaning | values | default |", "|---|---|---|---|"]
        lines += [
            f"| `{variable}` | {meaning} | {values} | {f'`{default}`' if is_literal else default} |"
            for variable, meaning, values, default, is_literal in map(_row_of(model), model.model_fields.items())
        ]
        lines.append("")
    return "\n".join(lines)


def environment_example() -> str:
    """Return the example file: every setting of the agent, commented out, with its default."""
    lines = [
        "# Settings of the eGuard agent, for systemd's EnvironmentFile. A line without # is in effect.",
        "# docs/reference/settings.md explains them; `eguard config show` prints what is in effect.",
        "",
        "# TOML file with the same settings; the environment beats it.",
        "#EGUARD_CONFIG=/etc/eguard/agent.toml",
        "",
    ]
    row_of = _row_of(AgentSettings)
    for item in AgentSettings.model_fields.items():
        variable, meaning, values, default, is_literal = row_of(item)
        text = f"{meaning} Values: {values.replace('`', '')}." if values else meaning
        if not is_literal and default:
            text += f" Default: {default}."
        lines += [f"# {line}" for line in textwrap.wrap(text, _WIDTH)]
        lines += [f"#{variable}={default if is_literal else ''}", ""]
    return "\n".join(lines[:-1]) + "\n"


def _row_of(model: type[BaseSettings]) -> Any:
    prefix = model.model_config.get("env_prefix", "")

    def row(item: tuple[str, FieldInfo]) -> tuple[str, str, str, str, bool]:
        key, field = item
        default, is_literal = _default(field)
        meaning = (field.description or "").replace("|", "\\|")
        return f"{prefix}{key}".upper(), meaning, _values(field), default, is_literal

    return row


def _default(field: FieldInfo) -> tuple[str, bool]:
    """Return the default, and whether it is a value (else words about it, or nothing)."""
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "default_text" in extra:
        return str(extra["default_text"]), False
    value = field.get_default()
    if isinstance(value, SecretStr):
        return "", False
    if value in (None, "", ()):
        return "", False
    if isinstance(value, bool):
        return str(value).lower(), True
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value), True


def _values(field: FieldInfo) -> str:
    """Return the words or the range that a setting takes."""
    choices = [each for each in (field.annotation, *get_args(field.annotation)) if get_origin(each) is Literal]
    if choices:
        return ", ".join(f"`{word}`" for word in get_args(choices[0]))
    low = high = ""
    for limit in field.metadata:
        if (least := getattr(limit, "ge", None)) is not None:
            low = f"at least {least}"
        if (above := getattr(limit, "gt", None)) is not None:
            low = f"above {above}"
        if (most := getattr(limit, "le", None)) is not None:
            high = f"at most {most}"
    if "bool" in str(field.annotation):
        return "`true`, `false`"
    return ", ".join(filter(None, (low, high)))
