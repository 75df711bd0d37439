"""Which processes came, went or took another name since the last look.

Two forms of one question. On Linux a process that is known costs one system call a look; elsewhere psutil is asked for
all of them each time.
"""

from __future__ import annotations

import os
from typing import Any, Final, NamedTuple, Protocol

from eguard.sensor.procfs import process_ids

#: Processes whose name is kept open. Far from the 1,024 descriptors that a process may have open by default.
HELD_DESCRIPTORS: Final = 512
_NAME_BYTES: Final = 64


class ProcessChanges(NamedTuple):
    """Pids, ascending. One that another process took over since the last look is among both `gone` and `appeared`."""

    appeared: list[int]
    renamed: list[int]
    gone: list[int]


class RunningProcesses(Protocol):
    """What runs, compared with what did at the last look; at the first all appear."""

    def compare(self) -> ProcessChanges:
        """Look, and return what changed."""

    def close(self) -> None:
        """Give back what is held."""


class PsutilProcesses:
    """The portable form: number, time of start and name of every process are compared.

    Parameters
    ----------
    psutil : module
        The package.
    """

    def __init__(self, psutil: Any) -> None:
        self._psutil = psutil
        self._known: dict[int, tuple[float, str]] = {}

    def compare(self) -> ProcessChanges:
        """Look, and return what changed; processes that the system says nothing about are left out."""
        seen: dict[int, tuple[float, str]] = {}
        for process in self._psutil.process_iter():
            try:
                seen[process.pid] = (process.create_time(), process.name())
            except self._psutil.Error:
                continue
        before, self._known = self._known, seen
        same = {pid for pid in seen.keys() & before.keys() if seen[pid][0] == before[pid][0]}
        return ProcessChanges(
            appeared=sorted(seen.keys() - same),
            renamed=sorted(pid for pid in same if seen[pid][1] != before[pid][1]),
            gone=sorted(before.keys() - same),
        )

    def close(self) -> None:
        """Nothing is held open."""


class ProcProcesses:
    """The form for Linux: only the numbers in /proc and the names of those that are known are read.

    An open ``/proc/PID/comm`` belongs to the process and not to its number. It is read without a path to look up, and
    once the process is gone it says so, also when the number is another's by then.

    Parameters
    ----------
    held_descriptors : int
        Most processes whose name is kept open. The names of others are opened at each look, and a number that is taken
        over between two looks under the same name then goes unseen.
    """

    def __init__(self, held_descriptors: int = HELD_DESCRIPTORS) -> None:
        self._most_held = held_descriptors
        self._held: dict[int, int] = {}
        self._names: dict[int, bytes] = {}

    def compare(self) -> ProcessChanges:
        """Look, and return what changed; processes whose name cannot be read are left out."""
        changes = ProcessChanges([], [], [])
        for pid, before in sorted(self._names.items()):
            name = self._read(pid)
            if name is None:
                self._forget(pid)
                changes.gone.append(pid)
            elif name != before:
                self._names[pid] = name
                changes.renamed.append(pid)
        for pid in sorted(process_ids() - self._names.keys()):
            if len(self._held) < self._most_held and (descriptor := _open_name(pid)) is not None:
                self._held[pid] = descriptor
            name = self._read(pid)
            if name is None:
                self._forget(pid)
            else:
                self._names[pid] = name
                changes.appeared.append(pid)
        return changes

    def close(self) -> None:
        """Close what is held open, and forget all processes."""
        for pid in [*self._held]:
            self._forget(pid)
        self._names.clear()

    def _read(self, pid: int) -> bytes | None:
        descriptor = self._held.get(pid)
        try:
            if descriptor is not None:
                return os.pread(descriptor, _NAME_BYTES, 0)
            return _read_name(pid)
        except OSError:
            return None

    def _forget(self, pid: int) -> None:
        self._names.pop(pid, None)
        descriptor = self._held.pop(pid, None)
        if descriptor is not None:
            os.close(descriptor)


def _open_name(pid: int) -> int | None:
    try:
        return os.open(f"/proc/{pid}/comm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _read_name(pid: int) -> bytes | None:
    descriptor = _open_name(pid)
    if descriptor is None:
        return None
    try:
        return os.read(descriptor, _NAME_BYTES)
    finally:
        os.close(descriptor)
