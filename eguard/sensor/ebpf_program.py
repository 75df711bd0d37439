"""Compiling and attaching the probes, and what that needs of a machine."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import platform
import sys
import warnings
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import structlog

from eguard.errors import SensorUnavailableError
from eguard.sensor.btf import KERNEL_BTF, member_offsets

#: Where Debian's python3-bpfcc lies. Only this one package is taken from there, so nothing else of the system's Python
#: enters the environment.
BCC_FOLDER: Final = "/usr/lib/python3/dist-packages"
#: Size of the ring buffer, a power of two: 32 MiB hold about 90,000 executions.
RING_PAGES: Final = 8192
_TRACING_FOLDERS: Final = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_REASON_CHARACTERS: Final = 200
_TCP_MEMBERS: Final = ("bytes_sent", "bytes_retrans", "bytes_received")
_PREPARE: Final = (
    "sudo deploy/prepare-ebpf (installs python3-bpfcc and linux-headers-amd64, links the headers, mounts tracefs)"
)

_log = structlog.get_logger(__name__)


def load_program() -> Any:
    """Compile the probes, attach them and return bcc's object.

    Raises
    ------
    SensorUnavailableError
        Something is missing, or this kernel refuses; the error says what and what to do.
    """
    bcc = load_bcc()
    check_requirements()
    text = files("eguard.sensor").joinpath("probes.c").read_bytes()
    try:
        program = bcc.BPF(text=text, cflags=compiler_flags())
    # bcc raises nothing more specific.
    except Exception as error:
        raise SensorUnavailableError(
            f"the kernel or the compiler refused the probes: {str(error)[:_REASON_CHARACTERS]}",
            remedy="Install the headers of the running kernel, or choose --sensor proc_connector.",
        ) from error
    _log.info("attached ebpf probes", objects=len(program.funcs), attached=program.num_open_tracepoints())
    return program


def load_bcc() -> Any:
    """Import bcc from the system's packages, whatever environment this runs in.

    Raises
    ------
    SensorUnavailableError
        It is not installed, or what is installed under that name is something else.
    """
    bcc = sys.modules.get("bcc")
    if bcc is None:
        spec = importlib.machinery.PathFinder.find_spec("bcc", [BCC_FOLDER])
        if spec is None or spec.loader is None:
            raise SensorUnavailableError("the package python3-bpfcc is not installed", remedy=_PREPARE)
        bcc = importlib.util.module_from_spec(spec)
        sys.modules["bcc"] = bcc
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                spec.loader.exec_module(bcc)
        except (ImportError, OSError) as error:
            del sys.modules["bcc"]
            raise SensorUnavailableError(f"bcc cannot be loaded: {error}", remedy=_PREPARE) from error
    if not hasattr(bcc, "BPF"):
        # PyPI has a package of that name which has nothing to do with the kernel.
        raise SensorUnavailableError("the package named bcc is not the BPF compiler collection", remedy=_PREPARE)
    return bcc


def check_requirements(
    headers: Path | None = None, tracing_folders: tuple[Path, ...] = _TRACING_FOLDERS, user: int | None = None
) -> None:
    """Check what can be checked before the compiler is asked.

    Raises
    ------
    SensorUnavailableError
        The privileges, the kernel's headers or tracefs are missing.
    """
    headers = headers or Path("/lib/modules", platform.release(), "build")
    if (os.geteuid() if user is None else user) != 0:
        raise SensorUnavailableError("eBPF needs root", remedy="Run it with sudo, or choose --sensor psutil.")
    if not headers.is_dir():
        raise SensorUnavailableError(
            f"there are no kernel headers at {headers}",
            remedy=_PREPARE,
        )
    if not any((folder / "events" / "sched").is_dir() for folder in tracing_folders):
        raise SensorUnavailableError(
            "tracefs is not mounted", remedy="sudo mount -t tracefs tracefs /sys/kernel/tracing"
        )


def compiler_flags() -> list[str]:
    """Return what the probes are told of this process and this kernel."""
    flags = [f"-DSELF_PID={os.getpid()}", f"-DRING_PAGES={RING_PAGES}"]
    if any((folder / "events/syscalls/sys_enter_open").is_dir() for folder in _TRACING_FOLDERS):
        flags.append("-DHAS_OPEN")
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
