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
    from eguard.operations.policy_look import PolicyLook
    from eguard.operations.server_questions import ServerQuestions
    from eguard.operations.status_look import StatusLook
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
    enrolment_error : EguardError, optional
        Why the enrolment cannot be used; known once `settings` was asked for.
    is_enrolment_closed : bool
        Whether this user may not look at it.
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
        self.enrolment_error: EguardError | None = None
        self.is_enrolment_closed = False
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
    def written_settings(self) -> AgentSettings:
        """Return the agent's settings as environment and file have them, without the enrolment."""
        assert self._settings is not None
        return self._settings

    @cached_property
    def settings(self) -> AgentSettings:
        """Return the settings that the agent works with: those of its enrolment in the place of what is not set.

        Only checks that need them ask, and only where they could be read.
        """
        from eguard.agent.control.credentials import TlsFiles  # noqa: PLC0415 - needs more than the base package
        from eguard.agent.control.enrolment_files import with_enrolment  # noqa: PLC0415 - as above

        settings = self.written_settings
        try:
            settings = with_enrolment(settings)
            files = TlsFiles.of(settings)
            named = {"tls_cert": files.certificate, "tls_ca": files.authority}
            if settings.tls_key is None and files.key.exists() and b"PRIVATE KEY" in files.key.read_bytes():
                named["tls_key"] = files.key
            return settings.model_copy(update={name: path for name, path in named.items() if path.exists()})
        except PermissionError:
            self.is_enrolment_closed = True
        except EguardError as error:
            self.enrolment_error = error
        return settings

    @property
    def alone(self) -> str:
        """Return why there is no server to look at."""
        if self.settings.server or not self.is_enrolment_closed:
            return "EGUARD_SERVER is not set and this machine is not enrolled: this agent works alone"
        return f"{self.settings.tls_folder} is closed to this user. Run it as the agent's user: sudo eguard doctor"

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
    def status(self) -> StatusLook:
        """Read what an agent wrote of itself last."""
        from eguard.operations.status_look import look_at_status  # noqa: PLC0415 - as above

        return look_at_status(self.settings.state_path, self.clock.now())

    @cached_property
    def policy(self) -> PolicyLook:
        """Read and verify the kept policy, and ask the server for its own."""
        from eguard.operations.policy_look import look_at_policy  # noqa: PLC0415 - as above

        return look_at_policy(self)

    @cached_property
    def questions(self) -> ServerQuestions:
        """Return who asks the server as the agent would."""
        from eguard.operations.server_questions import ServerQuestions  # noqa: PLC0415 - as above

        return ServerQuestions(self.settings)

    @property
    def may_ask(self) -> bool:
        """Whether nothing that was found speaks against asking the server as the agent."""
        way = ("server_name", "server_connect", "server_tls", "server_identity")
        return bool(self.settings.server) and all(self.passed(name) for name in way)

    @cached_property
    def bundle(self) -> BundleLook:
        """Fetch and verify the bundle once."""
        from eguard.operations.bundle_look import look_at_bundle  # noqa: PLC0415 - tuf is no part of the base package

        return look_at_bundle(self)


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
