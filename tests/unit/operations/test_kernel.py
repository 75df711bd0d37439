import platform
import sys

import pytest

from eguard.operations import kernel
from eguard.operations.kernel import look_at_bcc, required_tracepoints

MACHINE_CHECKS = ("kernel", "btf", "kernel_headers", "tracefs", "tracepoints")


@pytest.mark.parametrize("name", MACHINE_CHECKS)
def test_a_machine_that_has_everything_is_fine(examine, machine, name):
    assert examine(name, root=machine.root).state == "ok"


@pytest.mark.parametrize("name", [*MACHINE_CHECKS, "bcc"])
def test_a_system_without_linux_skips(examine, tmp_path, name):
    assert examine(name, root=tmp_path).state == "skipped"


def remove(path):
    for each in sorted(path.rglob("*"), reverse=True):
        each.unlink() if each.is_file() or each.is_symlink() else each.rmdir()
    path.rmdir()


BREAKAGES = {
    "old kernel": (
        "kernel",
        lambda m: m.write("proc/sys/kernel/osrelease", "5.4.0-150-generic"),
        "no BPF ring buffers",
    ),
    "lockdown": (
        "kernel",
        lambda m: m.write("sys/kernel/security/lockdown", "none integrity [confidentiality]"),
        "locked down",
    ),
    "no headers": ("kernel_headers", lambda m: (m.modules / "build").unlink(), "there are no kernel headers"),
    "dangling build": ("kernel_headers", lambda m: remove(m.root / "usr/src/headers"), "which does not exist"),
    "dangling source": ("kernel_headers", lambda m: remove(m.root / "usr/src/common"), "which does not exist"),
    "half the headers": (
        "kernel_headers",
        lambda m: (m.root / "usr/src/common/include/linux/kconfig.h").unlink(),
        "only a part",
    ),
    "no tracefs": ("tracefs", lambda m: remove(m.root / "sys/kernel/tracing"), "not mounted"),
    "no connect": (
        "tracepoints",
        lambda m: remove(m.root / "sys/kernel/tracing/events/syscalls/sys_enter_connect"),
        "syscalls/sys_enter_connect",
    ),
}


@pytest.mark.parametrize("case", sorted(BREAKAGES))
def test_what_ebpf_lacks_is_a_warning_and_a_failure_where_it_is_required(examine, machine, settings, case):
    name, damage, says = BREAKAGES[case]
    damage(machine)
    found = examine(name, root=machine.root)
    assert found.state == "warning"
    assert says in found.cause
    assert "lesser sensor" in found.cause
    assert found.remedy
    assert examine(name, root=machine.root, with_settings=settings(require_ebpf=True)).state == "failed"
    assert examine(name, root=machine.root, with_settings=settings(sensor="ebpf")).state == "failed"


@pytest.mark.parametrize("content", [None, b"not btf"], ids=["missing", "something else"])
def test_without_btf_only_byte_counts_are_lost(examine, machine, settings, content):
    path = machine.root / "sys/kernel/btf/vmlinux"
    path.unlink() if content is None else path.write_bytes(content)
    found = examine("btf", root=machine.root, with_settings=settings(require_ebpf=True))
    assert found.state == "warning"
    assert "no byte counts" in found.cause


def test_headers_of_another_kernel_will_do_and_are_named(examine, machine):
    machine.write("usr/src/headers/include/config/kernel.release", "6.1.192\n")
    found = examine("kernel_headers", root=machine.root)
    assert found.state == "ok"
    assert "made for 6.1.192" in found.cause


def test_tracefs_below_debugfs_is_found(examine, machine):
    (machine.root / "sys/kernel/debug").mkdir()
    (machine.root / "sys/kernel/tracing").rename(machine.root / "sys/kernel/debug/tracing")
    assert "debug/tracing" in examine("tracefs", root=machine.root).cause
    assert examine("tracepoints", root=machine.root).state == "ok"


def test_probes_for_old_calls_are_not_required():
    points = required_tracepoints()
    assert {"sched/sched_process_exec", "sock/inet_sock_set_state", "syscalls/sys_enter_openat"} <= set(points)
    assert "syscalls/sys_enter_open" not in points


def fake_bcc(folder, text):
    (folder / "bcc").mkdir()
    (folder / "bcc" / "__init__.py").write_text(text)
    return str(folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "python3-bpfcc is not installed"),
        ("class Lattice: ...", "is not the BPF compiler collection"),
        ("import ctypes; ctypes.CDLL('libbcc.so.none')", "libbcc.so.none"),
        ("print('noise')", "cannot be loaded"),
    ],
    ids=["missing", "the package of that name on PyPI", "library missing", "noise"],
)
def test_bcc_that_is_none_or_another_is_told_from_the_right_one(examine, machine, monkeypatch, tmp_path, text, says):
    folder = tmp_path / "dist-packages"
    folder.mkdir()
    if text is not None:
        fake_bcc(folder, text)
    monkeypatch.setattr(kernel, "BCC_FOLDER", str(folder))
    found = examine("bcc", root=machine.root)
    assert found.state == "warning"
    assert says in found.cause
    assert "python3-bpfcc" in found.remedy


def test_the_compiler_does_not_stay_in_this_process(tmp_path):
    found = look_at_bcc(fake_bcc(tmp_path, "__version__ = '0.29'\nclass BPF: ..."))
    assert found["is_bcc"]
    assert found["version"] == "0.29"
    assert "bcc" not in sys.modules or sys.modules["bcc"].__file__ != found["file"]


@pytest.mark.skipif(sys.platform != "linux", reason="the doctor looks at Linux here")
def test_the_release_is_the_running_kernels(examine):
    assert platform.release() in examine("kernel").cause
