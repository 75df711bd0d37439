"""What a Windows service says to the service manager, and when; nothing here is Windows' own.

The manager believes a service that tells each change of state, and in a pending state counts check points no later than
it announced. `ServiceController` does that around an agent in a thread; `eguard.agent.windows_service` hands it calls.

References
----------
Microsoft, "Service State Transitions" and "SERVICE_STATUS structure (winsvc.h)", Windows API documentation.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum, unique
from typing import Final

import structlog

from eguard.errors import EguardError

#: The most an agent may take to write down what it learned and end.
STOP_SECONDS: Final = 5.0
#: How often a stop in progress is reported, and how much longer than that the manager is told to wait.
CHECK_SECONDS: Final = 1.0
HINT_FACTOR: Final = 3
ERROR_SERVICE_SPECIFIC: Final = 1066
ERROR_CALL_NOT_IMPLEMENTED: Final = 120

AgentRun = Callable[[threading.Event], None]
_log = structlog.get_logger("eguard.agent")


@unique
class ServiceState(IntEnum):
    """States of a service, under the manager's numbers."""

    STOPPED = 1
    START_PENDING = 2
    STOP_PENDING = 3
    RUNNING = 4


@unique
class ServiceControl(IntEnum):
    """What the manager may ask, under its numbers."""

    STOP = 1
    INTERROGATE = 4
    SHUTDOWN = 5


@unique
class ServiceExit(IntEnum):
    """Why a service is stopped: the service-specific exit code. All but the first make the manager restart it."""

    ASKED = 0
    FAILED = 1
    ENDED_UNASKED = 2
    DID_NOT_STOP = 3


#: SERVICE_ACCEPT_STOP and SERVICE_ACCEPT_SHUTDOWN.
ACCEPTED_WHILE_RUNNING: Final = 0x1 | 0x4


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What a service tells the manager: its state, and in a pending one how far it is and how long to wait for more."""

    state: ServiceState
    controls_accepted: int = 0
    exit_code: ServiceExit = ServiceExit.ASKED
    check_point: int = 0
    wait_hint_milliseconds: int = 0

    @property
    def win32_exit_code(self) -> int:
        """The general exit code: that there is a service-specific one, or 0."""
        return ERROR_SERVICE_SPECIFIC if self.exit_code else 0


class ServiceController:
    """Runs an agent in a thread and keeps the service manager told.

    Parameters
    ----------
    run : callable
        The agent: works until the event it is given is set, then returns.
    report : callable
        Takes each `ServiceStatus`; it is called by one thread at a time.
    stop_seconds : float
        How long the agent may take to end once it was asked to.
    check_seconds : float
        Time between two reports of a stop in progress.

    Examples
    --------
    >>> controller = ServiceController(lambda stop: None, lambda status: print(status.state.name))
    >>> controller.control(ServiceControl.INTERROGATE)
    STOPPED
    0
    """

    def __init__(
        self,
        run: AgentRun,
        report: Callable[[ServiceStatus], None],
        *,
        stop_seconds: float = STOP_SECONDS,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._run = run
        self._report = report
        self._stop_seconds = stop_seconds
        self._check_seconds = check_seconds
        self._lock = threading.Lock()
        self._status = ServiceStatus(ServiceState.STOPPED)
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._something_happened = threading.Event()
        self._failure: BaseException | None = None

    def serve(self) -> ServiceExit:
        """Run the agent to its end, whatever that is, and return why it ended. For one call."""
        self._tell(ServiceState.START_PENDING)
        # A daemon, lest an agent that does not stop keeps the process alive for ever.
        threading.Thread(target=self._work, name="eguard-agent", daemon=True).start()
        self._tell(ServiceState.RUNNING)
        self._something_happened.wait()
        deadline = time.monotonic() + self._stop_seconds
        while not self._ended.wait(min(self._check_seconds, max(deadline - time.monotonic(), 0.0))):
            if time.monotonic() >= deadline:
                break
            self._tell(ServiceState.STOP_PENDING)
        reason = self._reason()
        self._tell(ServiceState.STOPPED, reason)
        return reason

    def control(self, code: int) -> int:
        """Answer the manager and return 0, or `ERROR_CALL_NOT_IMPLEMENTED`. May be called by any thread."""
        if code == ServiceControl.INTERROGATE:
            with self._lock:
                self._report(self._status)
            return 0
        if code not in (ServiceControl.STOP, ServiceControl.SHUTDOWN):
            return ERROR_CALL_NOT_IMPLEMENTED
        _log.info("service is asked to stop", control=ServiceControl(code).name.lower())
        self._tell(ServiceState.STOP_PENDING)
        self._stop.set()
        self._something_happened.set()
        return 0

    def _work(self) -> None:
        try:
            self._run(self._stop)
        except BaseException as error:  # noqa: BLE001 - whatever ends the agent is what the manager has to be told
            self._failure = error
        finally:
            self._ended.set()
            self._something_happened.set()

    def _reason(self) -> ServiceExit:
        """Return why the agent ended, and log it with the cause."""
        failure = self._failure
        if not self._ended.is_set():
            _log.error("agent did not stop", waited_seconds=self._stop_seconds)
            return ServiceExit.DID_NOT_STOP
        if failure is not None:
            remedy = failure.remedy if isinstance(failure, EguardError) else ""
            _log.error("agent failed", reason=str(failure) or repr(failure), remedy=remedy, exc_info=failure)
            return ServiceExit.FAILED
        if not self._stop.is_set():
            _log.error("agent ended unasked")
            return ServiceExit.ENDED_UNASKED
        _log.info("service stopped")
        return ServiceExit.ASKED

    def _tell(self, state: ServiceState, reason: ServiceExit = ServiceExit.ASKED) -> None:
        """Report a state; a pending one with the next check point. One that came too late is not reported."""
        with self._lock:
            before = self._status
            is_late = state is ServiceState.RUNNING and before.state is not ServiceState.START_PENDING
            is_over = state is ServiceState.STOP_PENDING and before.state is ServiceState.STOPPED
            if is_late or is_over:
                return
            status = ServiceStatus(state, exit_code=reason)
            if state is ServiceState.RUNNING:
                status = replace(status, controls_accepted=ACCEPTED_WHILE_RUNNING)
            elif state is not ServiceState.STOPPED:
                status = replace(
                    status,
                    check_point=before.check_point + 1 if before.state is state else 1,
                    wait_hint_milliseconds=round(1000 * HINT_FACTOR * self._check_seconds),
                )
            self._status = status
            self._report(status)
