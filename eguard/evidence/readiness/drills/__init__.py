"""The drills behind the boxes, one module each, and what runs them.

Every module has ``TITLE`` and ``run(course, options)``. They are loaded when they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from eguard.errors import ConfigError, EguardError
from eguard.evidence.readiness.course import Course, DrillOptions

#: Every drill by its name, and the module that has it, in the order of the manual's boxes.
DRILLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "loop": "loop",
        "canary": "canary",
        "kill-switch": "kill_switch",
        "rollback": "rollback",
        "runbook": "runbook",
        "alerts": "alerts",
        "sensors": "sensors",
        "bundle": "bundle",
        "mtls": "mtls",
        "evidence": "archive",
    }
)


def title_of(drill: str) -> str:
    """Return what a drill does, in one line.

    Raises
    ------
    ConfigError
        There is no such drill.
    """
    return str(_module(drill).TITLE)


def run_drill(course: Course, options: DrillOptions) -> dict[str, Any]:
    """Run a course's drill and return its record, whatever came of it.

    Raises
    ------
    ConfigError
        There is no such drill.
    """
    module = _module(course.drill)
    try:
        module.run(course, options)
    except ModuleNotFoundError as error:
        return course.record(f"the package {error.name!r} is not installed")
    except (EguardError, OSError) as error:
        remedy = error.remedy if isinstance(error, EguardError) else ""
        return course.record(f"{error}. {remedy}".removesuffix(". "))
    return course.record()


def _module(drill: str) -> Any:
    if drill not in DRILLS:
        raise ConfigError(f"there is no drill {drill!r}", remedy=f"Choose from: {', '.join(DRILLS)}.")
    return import_module(f"{__name__}.{DRILLS[drill]}")
