"""What the checks look at: settings, one file system, one clock, and what is read once for several of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eguard.clock import Clock, SystemClock
from eguard.errors import BaselineStoreError, EguardError
from eguard.operations.check import Finding, State, failed, warning
from eguard.settings import AgentSettings, ServerSettings

if TYPE_CHECKING:
    from eguard.baseline.recovery import Recovered
    from eguard.operations.bundle_look import BundleLook
    from eguard.sensor import Availability

OSRELEASE: Final = "proc/sys/kernel/osrelease"


class Examination:
    """One run of the doctor.

    Parameters
    ----------
    settings : AgentSettings, optional
        The agent's settings; None if they cannot be read, and `settings_error` says why.
    server_settings : ServerSettings, optional
        Where the fleet database is.
    settings_error : EguardError, optional
        Why there are no settings.
    config : Path, optional
        The TOML file that the settings came from, if not the one that EGUARD_CONFIG names.
    root : Path
        Where /proc, /sys, /lib and /run begin.
    clock : Clock, optional
        Tells the time; the machine's by default.
    skip_sensors : bool
        Do not open the sensors.

    Attributes
    ----------
    found : dict of str to Finding
        What the checks before this one found.
    """

    def __init__(
        self,
        settings: AgentSettings | None,
        server_settings: ServerSettings | None = None,
        *,
        settings_error: EguardError | None = None,
        config: Path | None = None,
        root: Path = Path("/"),
        clock: Clock | None = None,
        skip_sensors: bool = False,
    ) -> None:
        self._settings = settings
        self.server_settings = server_settings or ServerSettings()
        self.settings_error = settings_error
        self.config = config
        self.root = root
        self.clock = clock or SystemClock()
        self.skip_sensors = skip_sensors
        self.found: dict[str, Finding] = {}

    @property
    def has_settings(self) -> bool:
        """Whether the agent's settings could be read."""
        return self._settings is not None

    @property
    def settings(self) -> AgentSettings:
        """Return the agent's settings; only checks that need them ask, and only where they could be read."""
        assert self._settings is not None
        return self._settings

    @property
    def requires_ebpf(self) -> bool:
        """Whether the agent refuses to start without eBPF."""
        return self._settings is not None and (self._settings.require_ebpf or self._settings.sensor == "ebpf")

    def lacks_ebpf(self, cause: str, remedy: str) -> Finding:
        """Return what stands in the way of eBPF: failed where it is required, else a warning."""
        if self.requires_ebpf:
            return failed(cause, remedy)
        return warning(f"{cause}; without it the agent takes a lesser sensor", remedy)

    def passed(self, name: str) -> bool:
        """Return whether an earlier check found nothing that stops this one."""
        found = self.found.get(name)
        return found is None or found.state in {State.OK, State.WARNING}

    def is_fine(self, name: str) -> bool:
        """Return whether an earlier check, if it ran, found nothing to complain about."""
        found = self.found.get(name)
        return found is None or found.state in {State.OK, State.SKIPPED}

    def read_text(self, path: str) -> str:
        """Return a file below the root, empty if it cannot be read."""
        try:
            return (self.root / path).read_text("utf-8", "replace").strip()
        except OSError:
            return ""

    @cached_property
    def kernel_release(self) -> str:
        """Return the running kernel's release, empty where there is no Linux."""
        return self.read_text(OSRELEASE)

    @cached_property
    def sensors(self) -> list[Availability]:
        """Open and close every live sensor."""
        from eguard.sensor import survey  # noqa: PLC0415 - only this needs the sensors

        return survey()

    @cached_property
    def store(self) -> StoreLook:
        """Read the baseline store once."""
        return StoreLook(self.settings.baseline_folder)

    @cached_property
    def bundle(self) -> BundleLook:
        """Fetch and verify the bundle once."""
        from eguard.operations.bundle_look import look_at_bundle  # noqa: PLC0415 - tuf is no part of the base package

        return look_at_bundle(self.settings, self.clock.now())


class StoreLook:
    """The baseline store as a start of the agent would find it; nothing is changed.

    Attributes
    ----------
    exists : bool
    error : BaselineStoreError, optional
        Why it cannot be read.
    recovered : Recovered, optional
    report : dict
    """

    def __init__(self, folder: Path) -> None:
        from eguard.baseline.store_dump import read_store  # noqa: PLC0415 - numpy is not needed for the other checks

        self.folder = folder
        self.error: BaselineStoreError | None = None
        self.recovered: Recovered | None = None
        self.report: dict[str, Any] = {}
        try:
            self.exists = any(name.startswith("baselines.") for name in os.listdir(folder))  # noqa: PTH208 - names only
        except (FileNotFoundError, NotADirectoryError):
            self.exists = False
        if self.exists:
            try:
                self.recovered, self.report = read_store(folder)
            except BaselineStoreError as error:
                self.error = error


CheckFunction = Callable[[Examination], Finding]
