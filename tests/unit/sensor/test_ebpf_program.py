import os
import socket
import sys
from pathlib import Path

import pytest

from eguard.errors import ConfigError, SensorUnavailableError
from eguard.events import EventClass
from eguard.sensor import ebpf_program, open_sensor
from eguard.sensor.ebpf import EbpfSensor
from eguard.sensor.ebpf_program import (
    OPTIONAL_TRACEPOINTS,
    LoadedProgram,
    check_requirements,
    compiler_flags,
    load_program,
    required_tracepoints,
    tcp_byte_offsets,
)


def _open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def tracing(tmp_path):
    """A tracefs with every tracepoint that the probes must have, and none of the others."""
    folder = tmp_path / "tracing"
    for name in required_tracepoints():
        (folder / "events" / name).mkdir(parents=True)
    return folder


@pytest.fixture
def bcc(tmp_path, monkeypatch):
    """A package of that name; what it does is up to the test."""
    package = tmp_path / "packages" / "bcc.py"
    package.parent.mkdir()
    package.write_text("class BPF: pass\n")
    monkeypatch.setattr(ebpf_program, "BCC_FOLDER", str(package.parent))
    return package


@pytest.mark.usefixtures("bcc")
def test_every_missing_requirement_is_named_with_its_remedy(tmp_path, tracing):
    fine = {"headers": tmp_path, "tracing_folders": (tracing,), "user": 0, "system": "linux"}
    check_requirements(**fine)
    cases = [
        ({"system": "win32"}, "Linux only", "psutil"),
        ({"user": 1000}, "root", "sudo"),
        ({"headers": tmp_path / "no"}, "headers", "linux-headers"),
        ({"tracing_folders": (tmp_path,)}, "tracefs", "mount -t tracefs"),
    ]
    for wrong, cause, remedy in cases:
        with pytest.raises(SensorUnavailableError, match=cause) as refused:
            check_requirements(**fine | wrong)
        assert remedy in refused.value.remedy


@pytest.mark.usefixtures("bcc")
def test_a_kernel_without_the_tracepoints_is_refused_by_their_names(tmp_path, tracing):
    for name in ("sock/inet_sock_set_state", "syscalls/sys_enter_socket"):
        (tracing / "events" / name).rmdir()
    with pytest.raises(
        SensorUnavailableError, match=r"tracepoints sock/inet_sock_set_state, syscalls/sys_enter_socket$"
    ) as refused:
        check_requirements(tmp_path, (tracing,), user=0, system="linux")
    assert "CONFIG_FTRACE_SYSCALLS" in refused.value.remedy


def test_optional_tracepoints_are_required_of_no_kernel():
    required = required_tracepoints()
    assert "sched/sched_process_exec" in required
    assert not set(required) & {name for names in OPTIONAL_TRACEPOINTS.values() for name in names}


def test_a_probe_is_compiled_only_where_all_of_its_tracepoints_are(tracing):
    assert not {"-DHAS_OLD_CALLS", "-DHAS_MODULES"} & set(compiler_flags((tracing,)))
    (tracing / "events/module/module_load").mkdir(parents=True)
    (tracing / "events/syscalls/sys_enter_open").mkdir()
    assert {"-DHAS_OLD_CALLS", "-DHAS_MODULES"} & set(compiler_flags((tracing,))) == {"-DHAS_MODULES"}
    assert f"-DSELF_PID={os.getpid()}" in compiler_flags((tracing,))


def test_module_loads_are_a_class_of_the_sensor_only_where_they_are_attached():
    sensor = EbpfSensor("lab")
    without = LoadedProgram({}, frozenset({"sched:sched_process_exec"}), ())
    attached = LoadedProgram({}, frozenset({"module:module_load"}), ())
    assert EventClass.MODULE_LOAD not in sensor.classes_of(without)
    assert EventClass.MODULE_LOAD in sensor.classes_of(attached)


def test_without_the_package_the_remedy_installs_it(monkeypatch, tmp_path, tracing):
    monkeypatch.setattr(ebpf_program, "BCC_FOLDER", str(tmp_path / "nothing"))
    with pytest.raises(SensorUnavailableError, match="python3-bpfcc") as refused:
        check_requirements(tmp_path, (tracing,), user=0, system="linux")
    assert "python3-bpfcc" in refused.value.remedy


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "not the BPF compiler collection"),
        ("import a_module_that_is_not_there\n", "bcc cannot be loaded: No module named 'a_module_that_is_not_there'"),
        ("raise SystemExit(1)\n", "no reason given"),
        (
            "import sys\nclass BPF:\n    def __init__(self, **_): sys.exit('warning\\nx.c:1:2: error: unknown type')\n",
            r"refused the probes: x.c:1:2: error: unknown type$",
        ),
        (
            "class BPF:\n    def __init__(self, **_): raise Exception('Failed to attach')\n",
            r"refused the probes: Exception: Failed to attach$",
        ),
    ],
    ids=["another-package", "broken-package", "silent-end", "compiler", "kernel"],
)
def test_what_goes_wrong_in_the_compiling_process_is_told_and_leaves_nothing_behind(monkeypatch, bcc, text, cause):
    monkeypatch.setattr(ebpf_program, "check_requirements", lambda: None)
    bcc.write_text(text)
    before = _open_descriptors()
    with pytest.raises(SensorUnavailableError, match=cause) as refused:
        load_program()
    assert refused.value.remedy
    assert _open_descriptors() == before
    assert "bcc" not in sys.modules


def test_a_compiler_that_never_ends_is_given_up(monkeypatch, bcc):
    monkeypatch.setattr(ebpf_program, "check_requirements", lambda: None)
    monkeypatch.setattr(ebpf_program, "LOAD_SECONDS", 0.5)
    bcc.write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(SensorUnavailableError, match="timed out"):
        load_program()


def test_descriptors_come_over_in_their_order_and_are_closed_with_the_program(monkeypatch, bcc):
    """The compiling process with a bcc that only opens pipes: the first of three is the ring buffer."""
    monkeypatch.setattr(ebpf_program, "check_requirements", lambda: None)
    bcc.write_text(
        "import os\n"
        "class Map:\n"
        "    def __init__(self, name): self.map_fd, other = os.pipe(); os.write(other, name)\n"
        "class BPF:\n"
        "    funcs = {b'one': 1, b'two': 2}\n"
        "    def __init__(self, text, cflags):\n"
        "        assert b'sched_process_exec' in text and '-DRING_PAGES=4096' in cflags\n"
        "        self.tracepoint_fds = {b'sched:a': os.open('/dev/null', 0), b'sched:b': os.open('/dev/null', 0)}\n"
        "    def __getitem__(self, name): return Map(name)\n"
    )
    before = _open_descriptors()
    program = load_program()
    assert {name: os.read(descriptor, 100) for name, descriptor in program.maps.items()} == {
        "records": b"records",
        "lost": b"lost",
        "thinned": b"thinned",
    }
    assert program.tracepoints == {"sched:a", "sched:b"}
    assert not any(os.get_inheritable(each) for each in program.descriptors)
    program.close()
    assert _open_descriptors() == before


def test_a_kernel_that_does_not_describe_itself_costs_the_byte_counts_alone(tmp_path):
    assert tcp_byte_offsets(tmp_path / "none") == {}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="the first thing missing is root")
def test_a_requirement_is_not_met_by_a_lesser_sensor(monkeypatch, tmp_path):
    monkeypatch.setattr(ebpf_program, "BCC_FOLDER", str(tmp_path))
    with pytest.raises(SensorUnavailableError, match="python3-bpfcc"):
        open_sensor("auto", require_ebpf=True)
    with pytest.raises(ConfigError, match="psutil was asked for"):
        open_sensor("psutil", require_ebpf=True)


def test_a_sensor_that_was_never_opened_may_be_closed_and_not_polled():
    sensor = EbpfSensor("lab")
    sensor.close()
    with pytest.raises(SensorUnavailableError, match="not attached"):
        sensor.poll(0.0)
    assert socket.gethostname() == EbpfSensor().host_id
