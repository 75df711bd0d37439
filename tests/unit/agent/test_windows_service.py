"""What surrounds the service on Windows, with pywin32 played by objects that remember what they were told."""

import importlib.util
import platform
import sys
import threading
import types

import pytest
import structlog

from eguard.agent import windows_service
from eguard.agent.service_control import ServiceControl
from eguard.agent.windows_service import LineStream, main, restart_actions, run_from_settings, service_class
from eguard.errors import ConfigError, MissingExtraError


class Framework:
    """Stands for win32serviceutil.ServiceFramework."""

    def __init__(self, arguments):
        self.ssh = f"handle of {arguments[0]}"


@pytest.fixture
def windows(monkeypatch):
    """A machine that takes itself for Windows with pywin32; returns what was told to it."""
    told = types.SimpleNamespace(statuses=[], info=[], errors=[], configured=[], closed=[], command=None)
    service = types.ModuleType("win32service")
    service.SERVICE_WIN32_OWN_PROCESS = 16
    service.SC_MANAGER_ALL_ACCESS = service.SERVICE_ALL_ACCESS = 1
    service.SERVICE_CONFIG_FAILURE_ACTIONS = 2
    service.SetServiceStatus = lambda handle, status: told.statuses.append((handle, status))
    service.OpenSCManager = lambda *_: "manager"
    service.OpenService = lambda manager, name, _: f"{manager}/{name}"
    service.ChangeServiceConfig2 = lambda *change: told.configured.append(change)
    service.CloseServiceHandle = told.closed.append
    manager = types.ModuleType("servicemanager")
    manager.LogInfoMsg, manager.LogErrorMsg = told.info.append, told.errors.append
    util = types.ModuleType("win32serviceutil")
    util.ServiceFramework = Framework

    def handle_command_line(cls, serviceClassString, argv, customOptionHandler):  # noqa: N803 - pywin32's names
        told.command = (cls, serviceClassString, argv)
        if "install" in argv:
            customOptionHandler([])
        return 0

    util.HandleCommandLine = handle_command_line
    for module in (service, manager, util):
        module.__spec__ = importlib.util.spec_from_loader(module.__name__, loader=None)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    yield told
    structlog.reset_defaults()


def test_elsewhere_the_service_is_refused_with_what_to_do_instead():
    with pytest.raises(ConfigError, match="cannot be had on") as refused:
        main(["install"])
    assert "eguard agent run" in refused.value.remedy
    assert not hasattr(windows_service, "EGuardAgent")


def test_windows_without_pywin32_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError) as refused:
        main(["start"])
    assert "eguard[agent,windows]" in refused.value.remedy


@pytest.mark.parametrize("words", [[], ["restart"], ["install", "now"]])
def test_other_words_are_refused(words):
    with pytest.raises(ConfigError, match="not understood") as refused:
        main(words)
    assert "install | remove | start | stop" in refused.value.remedy


def test_installing_makes_a_service_that_starts_by_itself_and_is_restarted_with_growing_delays(windows):
    assert main(["install"]) == 0
    cls, name, arguments = windows.command
    assert (cls._svc_name_, name) == ("eGuardAgent", "eguard.agent.windows_service.EGuardAgent")
    assert arguments[1:] == ["--startup", "auto", "install"]
    assert windows.configured == [("manager/eGuardAgent", 2, restart_actions()), ("manager/eGuardAgent", 4, True)]
    assert windows.closed == ["manager/eGuardAgent", "manager"]
    delays = [milliseconds for action, milliseconds in restart_actions()["Actions"] if action == 1]
    assert delays == sorted(delays) == [5_000, 30_000, 300_000]


@pytest.mark.parametrize("word", ["remove", "start", "stop"])
def test_the_other_words_are_handed_on_and_change_no_recovery(windows, word):
    assert main([word]) == 0
    assert windows.command[2][1:] == [word]
    assert windows.configured == []


def test_the_service_tells_each_state_but_the_last_which_its_host_tells(windows):
    agent = service_class(lambda stop: stop.wait(10))(["eGuardAgent"])
    thread = threading.Thread(target=agent.SvcRun)
    thread.start()
    deadline = threading.Event()
    while [status[1] for _, status in windows.statuses][-1:] != [4] and not deadline.wait(0.01):
        pass
    assert agent.ServiceCtrlHandlerEx(int(ServiceControl.STOP), 0, None) == 0
    thread.join(10)
    assert not thread.is_alive()
    assert [status[:3] for _, status in windows.statuses][:2] == [(16, 2, 0), (16, 4, 5)]
    assert {status[1] for _, status in windows.statuses[2:]} == {3}
    assert {handle for handle, _ in windows.statuses} == {"handle of eGuardAgent"}
    assert windows.errors == []
    assert any('"service stopped"' in line for line in windows.info)


def test_a_failed_agent_ends_the_service_with_an_error(windows):
    def crash(_):
        raise OSError(13, "permission denied")

    with pytest.raises(SystemExit):
        service_class(crash)(["eGuardAgent"]).SvcRun()
    assert windows.errors == ["eGuardAgent: failed"]
    assert any("permission denied" in line for line in windows.info)


def test_the_agent_of_the_service_is_the_one_of_the_command_line(monkeypatch, tmp_path):
    given = []
    monkeypatch.setenv("EGUARD_STATE_PATH", str(tmp_path))
    monkeypatch.setattr("eguard.agent.service.run_agent", lambda settings, *, stop: given.append((settings, stop)))
    stop = threading.Event()
    run_from_settings(stop)
    ((settings, handed),) = given
    assert handed is stop
    assert settings.state_path == tmp_path


def test_lines_reach_the_log_whole():
    lines = []
    stream = LineStream(lines.append)
    stream.write('{"a"')
    stream.write(': 1}\n\n{"b": 2}\n{"c"')
    assert lines == ['{"a": 1}', '{"b": 2}']
