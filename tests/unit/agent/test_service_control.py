"""The service's side of the conversation, held against a manager that insists on the rules of Windows."""

import threading
import time

import pytest
import structlog

from eguard.agent.service_control import (
    ERROR_CALL_NOT_IMPLEMENTED,
    ServiceControl,
    ServiceController,
    ServiceExit,
    ServiceState,
    ServiceStatus,
)
from eguard.errors import ConfigError

START, RUNNING = ServiceState.START_PENDING, ServiceState.RUNNING
STOPPING, STOPPED = ServiceState.STOP_PENDING, ServiceState.STOPPED
ALLOWED = {
    STOPPED: {START},
    START: {START, RUNNING, STOPPING, STOPPED},
    RUNNING: {STOPPING, STOPPED},
    STOPPING: {STOPPING, STOPPED},
}
ACCEPT = {ServiceControl.STOP: 1, ServiceControl.SHUTDOWN: 4}


class Manager:
    """A service manager: knows which state may follow which, and loses patience as Windows does."""

    def __init__(self):
        self.statuses = [ServiceStatus(STOPPED)]
        self.reported = threading.Condition()
        self.deadline = None
        self.is_interrogating = False
        self.has_run = False

    def report(self, status):
        """Take a status; anything a real manager would hold against a service fails."""
        now, before = time.monotonic(), self.statuses[-1]
        if self.is_interrogating:
            assert status == before
            return
        assert status.state in ALLOWED[before.state], f"{status.state.name} after {before.state.name}"
        assert not (before.state is STOPPED and self.has_run), "a status after the end"
        assert self.deadline is None or now <= self.deadline, "the hint was not kept: taken for hung"
        if status.state in (START, STOPPING):
            assert status.wait_hint_milliseconds > 0
            assert status.check_point == (before.check_point + 1 if before.state is status.state else 1)
            assert status.controls_accepted == 0
            self.deadline = now + status.wait_hint_milliseconds / 1000
        else:
            assert (status.check_point, status.wait_hint_milliseconds) == (0, 0)
            assert status.controls_accepted == (5 if status.state is RUNNING else 0)
            self.deadline = None
        assert bool(status.win32_exit_code) == (status.exit_code != 0)
        assert status.exit_code == 0 or status.state is STOPPED
        with self.reported:
            self.has_run = True
            self.statuses.append(status)
            self.reported.notify_all()

    def wait_for(self, state):
        with self.reported:
            assert self.reported.wait_for(lambda: self.statuses[-1].state is state, 10)

    def send(self, controller, control):
        """Send a control, as the manager does only to a service that accepts it."""
        assert self.statuses[-1].controls_accepted & ACCEPT[control]
        return controller.control(control)

    def states(self):
        return [status.state for status in self.statuses[1:]]


def served(run, **times):
    """Start a controller as pywin32 would, in a thread; returns manager, controller and what waits for the answer."""
    manager, answers = Manager(), []
    controller = ServiceController(run, manager.report, **times)
    thread = threading.Thread(target=lambda: answers.append(controller.serve()))
    thread.start()

    def answer():
        thread.join(20)
        assert not thread.is_alive()
        return answers[0]

    return manager, controller, answer


def until_stopped(stop):
    stop.wait(10)


@pytest.mark.parametrize("control", [ServiceControl.STOP, ServiceControl.SHUTDOWN])
def test_a_service_starts_runs_and_stops_when_it_is_asked(control):
    manager, controller, answer = served(until_stopped)
    manager.wait_for(RUNNING)
    assert manager.send(controller, control) == 0
    assert answer() is ServiceExit.ASKED
    assert manager.states() == [START, RUNNING, STOPPING, STOPPED]
    assert manager.statuses[-1].win32_exit_code == 0


def test_a_stop_that_takes_time_is_reported_again_and_again():
    def slow(stop):
        stop.wait(10)
        time.sleep(0.3)

    manager, controller, answer = served(slow, check_seconds=0.05)
    manager.wait_for(RUNNING)
    manager.send(controller, ServiceControl.STOP)
    assert answer() is ServiceExit.ASKED
    assert manager.states()[:3] == [START, RUNNING, STOPPING]
    assert 3 <= manager.states().count(STOPPING) <= 7


def test_an_agent_that_does_not_stop_is_given_up_in_time_and_that_is_said():
    release = threading.Event()
    with structlog.testing.capture_logs() as logs:
        manager, controller, answer = served(lambda _: release.wait(30), stop_seconds=0.3, check_seconds=0.1)
        manager.wait_for(RUNNING)
        asked = time.monotonic()
        manager.send(controller, ServiceControl.STOP)
        assert answer() is ServiceExit.DID_NOT_STOP
        assert 0.25 < time.monotonic() - asked < 5.0
    release.set()
    assert manager.statuses[-1] == ServiceStatus(STOPPED, exit_code=ServiceExit.DID_NOT_STOP)
    assert manager.statuses[-1].win32_exit_code == 1066
    assert {"event": "agent did not stop", "waited_seconds": 0.3, "log_level": "error"} in logs


def test_a_crash_is_an_end_with_an_error_so_that_the_manager_restarts_and_its_cause_is_logged():
    def crash(_):
        raise ConfigError("the state folder cannot be made", remedy="Name another one.")

    with structlog.testing.capture_logs() as logs:
        manager, _, answer = served(crash)
        assert answer() is ServiceExit.FAILED
    assert manager.states()[-1] is STOPPED
    assert manager.statuses[-1].win32_exit_code == 1066
    (failed,) = [entry for entry in logs if entry["event"] == "agent failed"]
    assert (failed["reason"], failed["remedy"]) == ("the state folder cannot be made", "Name another one.")


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(3), MemoryError()])
def test_whatever_is_raised_reaches_the_manager(error):
    def crash(_):
        raise error

    with structlog.testing.capture_logs() as logs:
        assert served(crash)[2]() is ServiceExit.FAILED
    assert logs[-1]["reason"]


def test_a_crash_while_stopping_is_a_failure_too():
    def crash_late(stop):
        stop.wait(10)
        raise OSError(28, "no space left")

    with structlog.testing.capture_logs():
        manager, controller, answer = served(crash_late)
        manager.wait_for(RUNNING)
        manager.send(controller, ServiceControl.STOP)
        assert answer() is ServiceExit.FAILED


def test_an_agent_that_ends_by_itself_is_started_again():
    with structlog.testing.capture_logs() as logs:
        manager, _, answer = served(lambda _: None)
        assert answer() is ServiceExit.ENDED_UNASKED
    assert manager.statuses[-1].win32_exit_code == 1066
    assert logs[-1]["event"] == "agent ended unasked"


def test_an_interrogation_is_answered_with_the_present_status_in_every_state():
    manager, controller, answer = served(until_stopped)
    manager.wait_for(RUNNING)
    for _ in range(3):
        manager.is_interrogating = True
        assert controller.control(ServiceControl.INTERROGATE) == 0
        manager.is_interrogating = False
    manager.send(controller, ServiceControl.STOP)
    answer()
    manager.is_interrogating = True
    assert controller.control(ServiceControl.INTERROGATE) == 0


def test_controls_that_are_not_known_are_refused():
    controller = ServiceController(until_stopped, Manager().report)
    assert controller.control(2) == controller.control(128) == ERROR_CALL_NOT_IMPLEMENTED


def test_a_stop_that_comes_twice_or_too_late_breaks_no_rule():
    manager, controller, answer = served(until_stopped)
    manager.wait_for(RUNNING)
    assert controller.control(ServiceControl.STOP) == 0
    assert controller.control(ServiceControl.SHUTDOWN) == 0
    assert answer() is ServiceExit.ASKED
    assert controller.control(ServiceControl.STOP) == 0
    assert manager.states()[-1] is STOPPED


def test_stops_from_many_threads_at_any_moment_break_no_rule():
    for delay in (0.0, 0.0, 0.001, 0.002, 0.005):
        manager, controller, answer = served(until_stopped, check_seconds=0.02)
        with manager.reported:
            assert manager.reported.wait_for(lambda: len(manager.statuses) > 1, 10)  # noqa: B023 - called at once
        time.sleep(delay)
        threads = [threading.Thread(target=controller.control, args=(ServiceControl.STOP,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answer() is ServiceExit.ASKED
        assert manager.states()[-1] is STOPPED
