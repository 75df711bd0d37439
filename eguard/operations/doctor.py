"""The checks in the order in which they build on each other, and the loop that runs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from eguard.errors import ConfigError, EguardError
from eguard.operations.check import Check, Finding, failed, skipped
from eguard.operations.examination import CheckFunction, Examination

_AS_AGENT: Final = "Run it as the agent's user, usually root: sudo eguard doctor"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class CheckEntry:
    """Where a check is, and whether it needs the agent's settings. Modules are loaded when their check runs."""

    module: str
    needs_settings: bool = True

    def load(self, name: str) -> CheckFunction:
        """Return the function of the check `name`."""
        function: CheckFunction = getattr(import_module(f"eguard.operations.{self.module}"), f"check_{name}")
        return function


_MACHINE: Final = {
    "software": ("settings", "python", "packages"),
    "kernel": ("kernel", "btf", "kernel_headers", "tracefs", "bcc", "tracepoints"),
}
_AGENT: Final = (
    ("enrolment", ("enrolment",)),
    ("transport", ("transport", "tls_files", "tls_certificate", "tls_authority")),
    ("server", ("server_name", "server_connect", "server_tls")),
    ("enrolment", ("server_identity",)),
    ("control_plane", ("policy", "heartbeat", "control_plane")),
)
_EXCHANGE: Final = (
    ("exchange", ("baseline_upload", "fleet_seed")),
    ("bundles", ("bundle_signature", "bundle_expiry", "bundle_content")),
)
#: Every check by its stable name. Later ones look at what earlier ones found.
CHECKS: Final[Mapping[str, CheckEntry]] = {
    **{name: CheckEntry(module, needs_settings=False) for module, names in _MACHINE.items() for name in names},
    "privileges": CheckEntry("privileges", needs_settings=False),
    "ebpf": CheckEntry("privileges", needs_settings=False),
    "sensor": CheckEntry("privileges"),
    "nft": CheckEntry("software", needs_settings=False),
    "clock": CheckEntry("timekeeping", needs_settings=False),
    "clock_sync": CheckEntry("timekeeping", needs_settings=False),
    "state_folder": CheckEntry("state_folder"),
    "durable_writes": CheckEntry("state_folder"),
    "disk_space": CheckEntry("state_folder"),
    "baseline_store": CheckEntry("kept_data"),
    "alert_buffer": CheckEntry("kept_data"),
    **{name: CheckEntry(module) for module, names in _AGENT for name in names},
    "database": CheckEntry("database", needs_settings=False),
    "fleet_votes": CheckEntry("fleet_votes", needs_settings=False),
    "server_certificate": CheckEntry("server_side", needs_settings=False),
    **{name: CheckEntry(module) for module, names in _EXCHANGE for name in names},
}


def run_checks(examination: Examination, names: Sequence[str] = (), progress: Progress | None = None) -> list[Check]:
    """Run the checks of the given names, or all, and return what each found.

    Raises
    ------
    ConfigError
        There is no check of that name.
    """
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise ConfigError(f"there is no check {unknown[0]!r}", remedy=f"Choose from: {', '.join(CHECKS)}.")
    chosen = [name for name in CHECKS if name in names] if names else list(CHECKS)
    checks = []
    for number, name in enumerate(chosen, 1):
        if progress is not None:
            progress("checks", number - 1, len(chosen))
        finding = _run(name, CHECKS[name], examination)
        examination.found[name] = finding
        checks.append(Check(name, finding.state, finding.cause, finding.remedy))
    if progress is not None:
        progress("checks", len(chosen), len(chosen))
    return checks


def _closed(cause: str, remedy: str) -> Finding:
    return skipped(f"{cause}. {remedy}")


def is_root() -> bool:
    """Return whether this process may read everything; on other systems there is no such user."""
    return os.geteuid() == 0 if hasattr(os, "geteuid") else False


def _run(name: str, entry: CheckEntry, examination: Examination) -> Finding:
    if entry.needs_settings and not examination.has_settings:
        return skipped("the settings cannot be read; see the check settings")
    try:
        return entry.load(name)(examination)
    except ModuleNotFoundError as error:
        return skipped(f"the package {error.name!r} is not installed; see the check packages")
    except EguardError as error:
        return failed(error.message, error.remedy)
    # Whatever the system refuses, the other checks go on. What is closed to this user is open to the agent's.
    except PermissionError as error:
        finding = failed if is_root() else _closed
        return finding(f"{error.strerror}: {error.filename or ''}".rstrip(": "), _AS_AGENT)
    except OSError as error:
        return failed(
            f"{error.strerror or error}: {error.filename or ''}".rstrip(": "),
            _AS_AGENT,
        )
