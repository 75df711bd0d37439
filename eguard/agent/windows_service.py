"""The agent as a Windows service: the thin class that pywin32 wants, and its installation.

All decisions are made by `ServiceController`, which is tested everywhere. The service manager restarts an agent that
failed; `install` tells it so, with growing delays.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import platform
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TextIO, cast

from eguard.agent.service_control import AgentRun, ServiceController, ServiceExit, ServiceState, ServiceStatus
from eguard.errors import ConfigError, EguardError, MissingExtraError
from eguard.logs import configure_logging
from eguard.settings import load_agent_settings

SERVICE_NAME: Final = "eGuardAgent"
DISPLAY_NAME: Final = "eGuard agent"
CLASS_NAME: Final = "eguard.agent.windows_service.EGuardAgent"
DESCRIPTION: Final = "Watches this computer's processes and connections, learns what is usual, and says what is not."
#: Delays before the manager starts a failed agent again: after the first failure, the second, and every later one.
RESTART_SECONDS: Final = (5, 30, 300)
#: After so long without a failure the first delay holds again.
RESET_SECONDS: Final = 86_400

_FAILURE_ACTIONS_FLAG: Final = 4  # SERVICE_CONFIG_FAILURE_ACTIONS_FLAG
_RESTART: Final = 1  # SC_ACTION_RESTART


class LineStream(io.TextIOBase):
    """A text stream that hands whole lines to a function. A service has no standard error; its log is Windows'."""

    def __init__(self, log: Callable[[str], object]) -> None:
        super().__init__()
        self._log = log
        self._rest = ""

    def write(self, text: str) -> int:
        """Take text; see `io.TextIOBase.write`."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line:
                self._log(line)
        return len(text)


def run_from_settings(stop: threading.Event) -> None:
    """Run the agent with the settings of the environment (``EGUARD_*``)."""
    # Loaded here, so that what is wrong with it is told as the reason why the agent failed.
    service = importlib.import_module("eguard.agent.service")
    service.run_agent(load_agent_settings(), stop=stop)


def service_class(run: AgentRun = run_from_settings) -> type[Any]:
    """Return the class that pywin32 runs as the service.

    Raises
    ------
    ConfigError
        This is not Windows.
    MissingExtraError
        pywin32 is not installed.
    """
    service_util, manager, service = _pywin32()

    class EGuardAgent(service_util.ServiceFramework):  # type: ignore[misc, name-defined]
        """Hands pywin32's calls to a `ServiceController`."""

        _svc_name_ = SERVICE_NAME
        _svc_display_name_ = DISPLAY_NAME
        _svc_description_ = DESCRIPTION

        def __init__(self, arguments: Sequence[str]) -> None:
            super().__init__(arguments)
            self._controller = ServiceController(run, self._set_status)

        def SvcRun(self) -> None:  # noqa: N802 - pywin32's name
            """Serve; pywin32 reports the end, with an error if this raises."""
            configure_logging(json_lines=True, stream=cast("TextIO", LineStream(manager.LogInfoMsg)))
            reason = self._controller.serve()
            if reason is not ServiceExit.ASKED:
                manager.LogErrorMsg(f"{SERVICE_NAME}: {reason.name.lower().replace('_', ' ')}")
                raise SystemExit(int(reason))

        def ServiceCtrlHandlerEx(self, control: int, event_type: int, data: object) -> int:  # noqa: ARG002, N802
            """Answer the service manager."""
            return self._controller.control(control)

        def _set_status(self, status: ServiceStatus) -> None:
            if status.state is ServiceState.STOPPED:
                return
            service.SetServiceStatus(
                self.ssh,
                (
                    service.SERVICE_WIN32_OWN_PROCESS,
                    int(status.state),
                    status.controls_accepted,
                    status.win32_exit_code,
                    int(status.exit_code),
                    status.check_point,
                    status.wait_hint_milliseconds,
                ),
            )

    return EGuardAgent


def restart_actions() -> dict[str, Any]:
    """Return the recovery options as ``ChangeServiceConfig2`` takes them: restart, after growing delays."""
    return {
        "ResetPeriod": RESET_SECONDS,
        "RebootMsg": "",
        "Command": "",
        "Actions": [(_RESTART, 1000 * seconds) for seconds in RESTART_SECONDS],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, remove, start or stop the service: ``python -m eguard.agent.windows_service install``.

    Returns
    -------
    int
        The exit code: 0, or that of Windows.

    Raises
    ------
    ConfigError
        This is not Windows, or the word is not one of those.
    MissingExtraError
        pywin32 is not installed.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != 1 or words[0] not in ("install", "remove", "start", "stop"):
        raise ConfigError(
            f"not understood: {' '.join(words) or 'nothing was asked for'}",
            remedy="Say one of: python -m eguard.agent.windows_service install | remove | start | stop",
        )
    service_util, _, service = _pywin32()
    before = ["--startup", "auto"] if words == ["install"] else []
    answer = service_util.HandleCommandLine(
        service_class(),
        serviceClassString=CLASS_NAME,
        argv=["eguard-service", *before, *words],
        customOptionHandler=lambda _: _set_recovery(service),
    )
    return int(answer or 0)


def _set_recovery(service: Any) -> None:
    """Tell the service manager to restart an agent that crashed or ended with an error."""
    manager = service.OpenSCManager(None, None, service.SC_MANAGER_ALL_ACCESS)
    try:
        handle = service.OpenService(manager, SERVICE_NAME, service.SERVICE_ALL_ACCESS)
        try:
            service.ChangeServiceConfig2(handle, service.SERVICE_CONFIG_FAILURE_ACTIONS, restart_actions())
            # Without this flag an end with an error code is no failure to the manager.
            service.ChangeServiceConfig2(handle, _FAILURE_ACTIONS_FLAG, True)  # noqa: FBT003 - pywin32's form
        finally:
            service.CloseServiceHandle(handle)
    finally:
        service.CloseServiceHandle(manager)


def _pywin32() -> tuple[Any, Any, Any]:
    """Return win32serviceutil, servicemanager and win32service."""
    if platform.system() != "Windows":
        raise ConfigError(
            f"a Windows service cannot be had on {platform.system()}",
            remedy="On Linux use the systemd unit, or run the agent in the foreground: eguard agent run",
        )
    if importlib.util.find_spec("win32serviceutil") is None:
        raise MissingExtraError(
            "the service needs pywin32, which is not installed", remedy="pip install 'eguard[agent,windows]'"
        )
    names = ("win32serviceutil", "servicemanager", "win32service")
    util, manager, service = (importlib.import_module(name) for name in names)
    return util, manager, service


if platform.system() == "Windows" and importlib.util.find_spec("win32serviceutil") is not None:
    EGuardAgent = service_class()  # the name by which the service host finds it

if __name__ == "__main__":
    try:
        sys.exit(main())
    except EguardError as error:
        sys.exit(f"error: {error.message}\nremedy: {error.remedy}")
