"""Having the probes compiled and attached, and what that needs of a machine."""

from __future__ import annotations

import importlib.machinery
import json
import os
import platform
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from eguard.errors import SensorUnavailableError
from eguard.sensor.btf import KERNEL_BTF, member_offsets

#: Where Debian's python3-bpfcc lies. Only this one package is taken from there, so nothing else of the system's Python
#: is used.
BCC_FOLDER: Final = "/usr/lib/python3/dist-packages"
#: Size of the ring buffer, a power of two: 16 MiB hold about 40,000 executions. Its pages are mapped twice in a row, so
#: that a record never breaks at the end, and twice the size is what the process seems to occupy.
RING_PAGES: Final = 4096
#: Longest time for the compiler.
LOAD_SECONDS: Final = 120.0
PROBES: Final = Path(__file__).with_name("probes.c")
_COMPILER: Final = Path(__file__).with_name("ebpf_compiler.py")
#: Tracepoints that not every kernel has, by the flag that compiles their probes.
OPTIONAL_TRACEPOINTS: Final[dict[str, tuple[str, ...]]] = {
    # Calls that newer architectures never had.
    "HAS_OLD_CALLS": (
        "syscalls/sys_enter_open",
        "syscalls/sys_exit_open",
        "syscalls/sys_enter_creat",
        "syscalls/sys_exit_creat",
        "syscalls/sys_enter_dup2",
    ),
    "HAS_MODULES": ("module/module_load",),
}
_MAPS: Final = ("records", "lost", "thinned")
_MOST_DESCRIPTORS: Final = 128
_TRACING_FOLDERS: Final = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_REASON_CHARACTERS: Final = 200
_TCP_MEMBERS: Final = ("bytes_sent", "bytes_retrans", "bytes_received")
_PROBE: Final = re.compile(r"^TRACEPOINT_PROBE\((\w+), (\w+)\)", re.MULTILINE)
_PREPARE: Final = (
    "sudo deploy/prepare-ebpf (installs python3-bpfcc and linux-headers-amd64, links the headers, mounts tracefs)"
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedProgram:
    """Probes at work for as long as their descriptors are open.

    Attributes
    ----------
    maps : dict of str to int
        Descriptors of the maps by name: ``records``, ``lost``, ``thinned``.
    tracepoints : frozenset of str
        What the probes are attached to, as ``group:name``.
    """

    maps: dict[str, int]
    tracepoints: frozenset[str]
    descriptors: tuple[int, ...]

    def close(self) -> None:
        """Detach the probes."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def load_program() -> LoadedProgram:
    """Have the probes compiled and attached, and return what holds them.

    Raises
    ------
    SensorUnavailableError
        Something is missing, or this kernel refuses; the error says what and what to do.
    """
    check_requirements()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        answer = _compile(compiler_flags(), theirs)
        if "refused" in answer:
            raise SensorUnavailableError(answer["refused"], remedy=_PREPARE)
        _, received, _, _ = socket.recv_fds(ours, 1, _MOST_DESCRIPTORS)
    for descriptor in received:
        # Not every Python passes on the flag that would say so.
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the function's own signature
    program = LoadedProgram(
        dict(zip(_MAPS, received, strict=False)), frozenset(answer["attached"]), descriptors=tuple(received)
    )
    _log.info("attached ebpf probes", objects=answer["functions"], attached=len(received) - len(_MAPS))
    return program


def _compile(flags: list[str], channel: socket.socket) -> dict[str, Any]:
    """Run the compiling process and return its answer; the descriptors wait in the socket."""
    request = {
        "folder": BCC_FOLDER,
        "source": str(PROBES),
        "flags": flags,
        "maps": _MAPS,
        "socket": channel.fileno(),
    }
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter and a file beside this one
            [sys.executable, "-I", "-S", str(_COMPILER)],
            input=json.dumps(request).encode(),
            capture_output=True,
            pass_fds=(channel.fileno(),),
            timeout=LOAD_SECONDS,
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SensorUnavailableError(f"the compiler cannot be run: {error}", remedy=_PREPARE) from error
    except ValueError as error:
        raise SensorUnavailableError(
            f"the kernel or the compiler refused the probes: {_first_complaint(done.stderr)}",
            remedy="Install the headers of the running kernel, or choose --sensor proc_connector.",
        ) from error
    return answer


def _first_complaint(output: bytes) -> str:
    lines = [line.strip() for line in output.decode("utf-8", "backslashreplace").splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line), lines[-1] if lines else "no reason given")[
        :_REASON_CHARACTERS
    ]


def check_requirements(
    headers: Path | None = None,
    tracing_folders: tuple[Path, ...] = _TRACING_FOLDERS,
    user: int | None = None,
    system: str = sys.platform,
) -> None:
    """Check what can be checked before the compiler is asked.

    Raises
    ------
    SensorUnavailableError
        This is no Linux, or the privileges, bcc, the kernel's headers, tracefs or tracepoints are missing.
    """
    if system != "linux":
        raise SensorUnavailableError("eBPF exists on Linux only", remedy="Choose --sensor psutil.")
    headers = headers or Path("/lib/modules", platform.release(), "build")
    if (os.geteuid() if user is None else user) != 0:
        raise SensorUnavailableError("eBPF needs root", remedy="Run it with sudo, or choose --sensor psutil.")
    if importlib.machinery.PathFinder.find_spec("bcc", [BCC_FOLDER]) is None:
        raise SensorUnavailableError("the package python3-bpfcc is not installed", remedy=_PREPARE)
    if not headers.is_dir():
        raise SensorUnavailableError(f"there are no kernel headers at {headers}", remedy=_PREPARE)
    events = _events_folder(tracing_folders)
    if events is None:
        raise SensorUnavailableError(
            "tracefs is not mounted", remedy="sudo mount -t tracefs tracefs /sys/kernel/tracing"
        )
    missing = [name for name in required_tracepoints() if not (events / name).is_dir()]
    if missing:
        raise SensorUnavailableError(
            f"this kernel lacks the tracepoints {', '.join(missing)}",
            remedy="Run a kernel with CONFIG_FTRACE_SYSCALLS and of version 4.16 or later, "
            "or choose --sensor proc_connector.",
        )


def required_tracepoints() -> list[str]:
    """Return the tracepoints without which the probes cannot work, as ``group/name``."""
    named = {f"{group}/{name}" for group, name in _PROBE.findall(PROBES.read_text("utf-8"))}
    return sorted(named.difference(*OPTIONAL_TRACEPOINTS.values()))


def compiler_flags(tracing_folders: tuple[Path, ...] = _TRACING_FOLDERS) -> list[str]:
    """Return what the probes are told of this process and this kernel."""
    flags = [f"-DSELF_PID={os.getpid()}", f"-DRING_PAGES={RING_PAGES}"]
    events = _events_folder(tracing_folders)
    for flag, names in OPTIONAL_TRACEPOINTS.items():
        if events is not None and all((events / name).is_dir() for name in names):
            flags.append(f"-D{flag}")
    offsets = tcp_byte_offsets()
    if len(offsets) == len(_TCP_MEMBERS):
        flags += [f"-DTCP_{name.upper()}={offset}" for name, offset in sorted(offsets.items())]
    else:
        _log.warning("no byte counts of connections", reason=f"{KERNEL_BTF} does not describe them")
    return flags


def tcp_byte_offsets(path: Path = KERNEL_BTF) -> dict[str, int]:
    """Return where this kernel keeps the byte counts of a TCP socket; empty if it does not say."""
    try:
        return member_offsets(path.read_bytes(), "tcp_sock", _TCP_MEMBERS)
    except (OSError, ValueError):
        return {}


def _events_folder(tracing_folders: tuple[Path, ...]) -> Path | None:
    return next((folder / "events" for folder in tracing_folders if (folder / "events" / "sched").is_dir()), None)
