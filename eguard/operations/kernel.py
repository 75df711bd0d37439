"""Checks of what eBPF needs of the kernel and around it. Without it the agent runs, and sees less."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from eguard.operations.check import Finding, ok, skipped, warning
from eguard.operations.examination import Examination
from eguard.sensor.ebpf_program import BCC_FOLDER, required_tracepoints

#: Ring buffers came with this release.
_FIRST_KERNEL: Final = (5, 8)
_TRACING_FOLDERS: Final = ("sys/kernel/tracing", "sys/kernel/debug/tracing")
_LESSER: Final = "or choose a lesser sensor: EGUARD_SENSOR=proc_connector."
_NO_LINUX: Final = "this is no Linux, or /proc is not mounted"
_LOAD_SECONDS: Final = 60.0
_LOAD_BCC: Final = """
import importlib.machinery, importlib.util, json, sys
spec = importlib.machinery.PathFinder.find_spec("bcc", [sys.argv[1]])
bcc = sys.modules["bcc"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bcc)
answer = {"file": bcc.__file__, "version": getattr(bcc, "__version__", "unknown"), "is_bcc": hasattr(bcc, "BPF")}
print(json.dumps(answer))
"""


def check_kernel(examination: Examination) -> Finding:
    """Check that the kernel is new enough, and not locked down against tracing."""
    release = examination.kernel_release
    if not release:
        return skipped(_NO_LINUX)
    numbers = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if numbers < _FIRST_KERNEL:
        return examination.lacks_ebpf(
            f"Linux {release} has no BPF ring buffers", f"Boot Linux 5.8 or later (6.1 is Debian 12's), {_LESSER}"
        )
    if "[confidentiality]" in examination.read_text("sys/kernel/security/lockdown"):
        return examination.lacks_ebpf(
            f"Linux {release} is locked down (confidentiality), which forbids programs that read the kernel",
            f"Boot with lockdown=integrity or without lockdown, {_LESSER}",
        )
    return ok(f"Linux {release}")


def check_btf(examination: Examination) -> Finding:
    """Check that the kernel describes its own types; connections are counted in bytes with their help."""
    if not examination.kernel_release:
        return skipped(_NO_LINUX)
    path = examination.root / "sys/kernel/btf/vmlinux"
    try:
        with path.open("rb") as stream:
            magic = stream.read(2)
    except OSError as error:
        return warning(
            f"{path} cannot be read ({error.strerror}): eBPF works, but connections have no byte counts",
            "Boot a kernel built with CONFIG_DEBUG_INFO_BTF=y; Debian's and Ubuntu's are.",
        )
    if magic not in {b"\x9f\xeb", b"\xeb\x9f"}:
        return warning(f"{path} is no BTF: connections have no byte counts", "Boot the distribution's own kernel.")
    return ok(f"{path}, {path.stat().st_size:,} bytes")


def check_kernel_headers(examination: Examination) -> Finding:
    """Check that the compiler finds kernel headers where it looks: through the links `build` and `source`."""
    release = examination.kernel_release
    if not release:
        return skipped(_NO_LINUX)
    folder = examination.root / "lib/modules" / release
    build, source = folder / "build", folder / "source"
    remedy = (
        f"sudo deploy/prepare-ebpf; or by hand: sudo apt-get install linux-headers-amd64; sudo mkdir -p {folder}; then "
        f"link {build} to /usr/src/linux-headers-VERSION-amd64 and {source} to /usr/src/linux-headers-VERSION-common"
    )
    for link in (build, source):
        if link.is_symlink() and not link.exists():
            return examination.lacks_ebpf(f"{link} points to {link.readlink()}, which does not exist", remedy)
    if not build.is_dir():
        return examination.lacks_ebpf(f"there are no kernel headers: {build} does not exist", remedy)
    if not any((each / "include/linux/kconfig.h").is_file() for each in (build, source)):
        return examination.lacks_ebpf(
            f"{build} holds only a part of the headers: include/linux/kconfig.h is neither there nor below {source}",
            remedy,
        )
    made_for = _read(build / "include/config/kernel.release")
    if made_for and made_for != release:
        return ok(f"{build.resolve()}, made for {made_for}; that will do, since the probes are tracepoints")
    return ok(f"{build.resolve()}")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def check_tracefs(examination: Examination) -> Finding:
    """Check that the kernel's tracing files are mounted."""
    if not examination.kernel_release:
        return skipped(_NO_LINUX)
    mounted = [
        words[1]
        for line in examination.read_text("proc/self/mounts").splitlines()
        if len(words := line.split()) > 2 and words[2] in {"tracefs", "debugfs"}
    ]
    for name in _TRACING_FOLDERS:
        folder = examination.root / name
        try:
            if (folder / "events" / "sched").is_dir():
                return ok(f"mounted at {folder}")
        except PermissionError:
            if f"/{name}" in mounted:
                return ok(f"mounted at {folder}; only root can look into it")
    return examination.lacks_ebpf("tracefs is not mounted", "sudo mount -t tracefs tracefs /sys/kernel/tracing")


def check_bcc(examination: Examination) -> Finding:
    """Check that the system's bcc can be loaded from where the sensor takes it."""
    if not examination.kernel_release:
        return skipped(_NO_LINUX)
    remedy = "sudo apt-get install python3-bpfcc (never `pip install bcc`: that package is something else)"
    if not (Path(BCC_FOLDER) / "bcc" / "__init__.py").is_file():
        return examination.lacks_ebpf(f"the package python3-bpfcc is not installed: no {BCC_FOLDER}/bcc", remedy)
    try:
        found = look_at_bcc(BCC_FOLDER)
    except (subprocess.SubprocessError, ValueError) as error:
        said = getattr(error, "stderr", b"") or b""
        last = said.decode("utf-8", "replace").strip().rpartition("\n")[2] or str(error)
        return examination.lacks_ebpf(f"bcc cannot be loaded: {last}", remedy)
    if not found["is_bcc"]:
        return examination.lacks_ebpf(f"{found['file']} is not the BPF compiler collection", remedy)
    return ok(f"{found['file']}, version {found['version']}")


def look_at_bcc(folder: str) -> dict[str, Any]:
    """Load bcc from one folder, in a process of its own that takes the compiler with it when it ends.

    Raises
    ------
    subprocess.SubprocessError, ValueError
        It cannot be loaded.
    """
    done = subprocess.run(  # noqa: S603 - this interpreter and text of this module
        [sys.executable, "-I", "-S", "-W", "ignore", "-c", _LOAD_BCC, folder],
        capture_output=True,
        timeout=_LOAD_SECONDS,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check_tracepoints(examination: Examination) -> Finding:
    """Check that the kernel has every tracepoint that the probes attach to."""
    if not examination.kernel_release:
        return skipped(_NO_LINUX)
    wanted = required_tracepoints()
    for name in _TRACING_FOLDERS:
        events = examination.root / name / "events"
        try:
            if not (events / "sched").is_dir():
                continue
            missing = sorted(point for point in wanted if not (events / point / "format").is_file())
        except PermissionError:
            return skipped("only root can look into tracefs; run it with sudo")
        if missing:
            return examination.lacks_ebpf(
                f"this kernel lacks the tracepoints {', '.join(missing)}",
                f"Boot a kernel built with CONFIG_FTRACE_SYSCALLS=y (the distribution's are), {_LESSER}",
            )
        return ok(f"all {len(wanted)} are there")
    return skipped("tracefs is not mounted")
