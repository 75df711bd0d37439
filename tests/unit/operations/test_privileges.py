import os

import pytest

from eguard.events import EventClass
from eguard.operations import Examination, run_checks
from eguard.operations.privileges import CAPABILITIES
from eguard.sensor import Availability

ALL = sum(1 << bit for bit in CAPABILITIES.values())


def status(user, capabilities):
    return f"Name:\tx\nUid:\t1000\t{user}\t1000\t1000\nCapPrm:\t0\nCapEff:\t{capabilities:016x}\n"


@pytest.mark.parametrize(
    ("user", "without", "state", "says"),
    [
        (0, (), "ok", "every capability"),
        (0, ("BPF", "PERFMON"), "ok", "every capability"),
        (0, ("BPF", "SYS_ADMIN"), "warning", "eBPF (needs BPF and PERFMON)"),
        (0, ("NET_ADMIN",), "warning", "process connector and isolation"),
        (0, ("NET_RAW",), "warning", "DNS tap"),
        (0, ("SYS_PTRACE",), "warning", "other users' processes"),
        (1000, (), "warning", "runs as user 1000 with BPF"),
        (1000, tuple(CAPABILITIES), "warning", "runs as user 1000; eBPF"),
    ],
    ids=["all", "old kernel", "no bpf", "no net admin", "no net raw", "no ptrace", "user with", "user without"],
)
def test_each_missing_capability_says_what_is_lost(examine, machine, user, without, state, says):
    capabilities = ALL & ~sum(1 << CAPABILITIES[name] for name in without)
    machine.write("proc/self/status", status(user, capabilities))
    found = examine("privileges", root=machine.root)
    assert (str(found.state), says in found.cause) == (state, True), found
    if state == "warning" and user == 0:
        assert all(f"--cap-add {name}" in found.remedy for name in without if name != "SYS_ADMIN")


def test_this_process_is_read_from_proc(examine):
    found = examine("privileges")
    assert found.state in {"ok", "warning"}
    assert (f"user {os.geteuid()}" in found.cause) == (os.geteuid() != 0)


def surveyed(settings, *available, **options):
    examination = Examination(settings, **options)
    examination.sensors = list(available)
    return {check.name: check for check in run_checks(examination, ("ebpf", "sensor"))}


EBPF = Availability("ebpf", works=True, classes=frozenset({EventClass.PROCESS_EXEC, EventClass.FILE_OPEN}))
NO_EBPF = Availability("ebpf", works=False, reason="tracefs is not mounted", remedy="sudo mount ...")
PSUTIL = Availability("psutil", works=True, classes=frozenset({EventClass.PROCESS_EXEC}))
NO_PSUTIL = Availability("psutil", works=False, reason="no package", remedy="pip install psutil")


@pytest.mark.parametrize(
    ("changes", "available", "states"),
    [
        ({}, (EBPF, PSUTIL), ("ok", "ok")),
        ({}, (NO_EBPF, PSUTIL), ("warning", "ok")),
        ({"require_ebpf": True}, (NO_EBPF, PSUTIL), ("failed", "failed")),
        ({"sensor": "ebpf"}, (NO_EBPF, PSUTIL), ("failed", "failed")),
        ({"sensor": "psutil"}, (EBPF, PSUTIL), ("ok", "warning")),
        ({"sensor": "psutil"}, (EBPF, NO_PSUTIL), ("ok", "failed")),
        ({}, (NO_EBPF, NO_PSUTIL), ("warning", "failed")),
    ],
    ids=["all work", "falls back", "required", "asked for", "lesser by choice", "choice does not work", "none works"],
)
def test_sensor_follows_from_settings_and_machine(settings, changes, available, states):
    found = surveyed(settings(**changes), *available)
    assert (found["ebpf"].state, found["sensor"].state) == states
    if states[0] != "ok":
        assert "eBPF is not available: tracefs is not mounted" in found["ebpf"].cause
        assert found["ebpf"].remedy == "sudo mount ..."


def test_sensors_are_not_opened_when_asked_not_to(settings):
    found = run_checks(Examination(settings(), skip_sensors=True), ("ebpf", "sensor"))
    assert [check.state for check in found] == ["skipped", "skipped"]
