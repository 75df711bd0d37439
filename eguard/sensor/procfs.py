"""Reading /proc: who a process is, while it is still there."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from eguard.sensor.names import decode_command_line, decode_name

#: Longest command line kept, in bytes.
COMMAND_LINE_BYTES: Final = 4096
_STAT_BYTES: Final = 1024
# Positions after the name's closing parenthesis, of which the first is the state: proc_pid_stat(5).
_PARENT_FIELD: Final = 1
_START_FIELD: Final = 19


class ProcessFacts(NamedTuple):
    """What /proc says of one process."""

    pid: int
    parent_pid: int
    comm: str
    uid: int
    command_line: str
    image_path: str


class ProcessStat(NamedTuple):
    """The part of ``/proc/PID/stat`` that is of use here."""

    comm: str
    state: str
    parent_pid: int
    #: When it began, in clock ticks since the system did. Numbers tell no age: they begin again at the low ones.
    start_ticks: int


def parse_stat(raw: bytes) -> ProcessStat:
    r"""Read one ``stat`` line. The name is what lies between the first and the *last* parenthesis.

    Raises
    ------
    ValueError
        The line is no such line.

    Examples
    --------
    >>> parse_stat(b"7 (a) S 1 (b) R 3 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 5120 0")
    ProcessStat(comm='a) S 1 (b', state='R', parent_pid=3, start_ticks=5120)
    """
    opened, closed = raw.find(b"("), raw.rfind(b")")
    fields = raw[closed + 1 :].split()
    if opened < 0 or closed < opened or len(fields) <= _START_FIELD:
        raise ValueError(f"no line of /proc/PID/stat: {raw[:80]!r}")
    name, state = decode_name(raw[opened + 1 : closed]), fields[0].decode()
    return ProcessStat(name, state, int(fields[_PARENT_FIELD]), int(fields[_START_FIELD]))


def read_parent(pid: int) -> int:
    """Return the number of a process's parent; 0 if it has none, or is gone."""
    stat = _read_stat(pid)
    return 0 if stat is None else stat.parent_pid


def read_start_ticks(pid: int) -> int:
    """Return when a process began, in clock ticks since the system did; 0 if it is gone."""
    stat = _read_stat(pid)
    return 0 if stat is None else stat.start_ticks


def read_process(pid: int) -> ProcessFacts | None:
    """Ask /proc for a process; None if it is gone (or was never there)."""
    folder = f"/proc/{pid}"
    try:
        stat = parse_stat(_read(f"{folder}/stat", _STAT_BYTES))
        uid = os.stat(folder).st_uid  # noqa: PTH116 - a path object costs more than the call
        command_line = decode_command_line(_read(f"{folder}/cmdline", COMMAND_LINE_BYTES))
    except (OSError, ValueError):
        return None
    return ProcessFacts(pid, stat.parent_pid, stat.comm, uid, command_line, _image_path(folder))


def has_processes() -> bool:
    """Return whether this system shows its processes in /proc as Linux does."""
    return sys.platform == "linux" and Path("/proc/self/comm").exists()


def process_ids() -> set[int]:
    """Return the numbers of the processes that /proc shows now."""
    return {int(name) for name in os.listdir("/proc") if name.isdecimal()}  # noqa: PTH208 - names are wanted, not paths


def list_processes() -> Iterator[ProcessFacts]:
    """Iterate over every process that /proc shows now."""
    for pid in sorted(process_ids()):
        if (facts := read_process(pid)) is not None:
            yield facts


@lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    """Return the account's name, or the number as text where there is none."""
    try:
        # Accounts have no such list outside of Unix.
        name: str = importlib.import_module("pwd").getpwuid(uid).pw_name
    except (ImportError, KeyError, OverflowError):
        return str(uid)
    return name


def _image_path(folder: str) -> str:
    # Kernel threads have no image, and a zombie's is gone.
    try:
        return os.fsencode(os.readlink(f"{folder}/exe")).decode("utf-8", "backslashreplace")  # noqa: PTH115
    except OSError:
        return ""


def _read_stat(pid: int) -> ProcessStat | None:
    try:
        return parse_stat(_read(f"/proc/{pid}/stat", _STAT_BYTES))
    except (OSError, ValueError):
        return None


def _read(path: str, limit: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, limit)
    finally:
        os.close(descriptor)
