"""Who is who: the processes of this machine by pid, kept from forks, executions and exits, bounded in size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from eguard.sensor.procfs import ProcessFacts, read_process

#: Live processes kept. The default of ``kernel.pid_max`` on small machines.
DEFAULT_CAPACITY: Final = 32_768
#: Processes remembered after their exit, for events that arrive late.
EXITED_CAPACITY: Final = 4096


@dataclass(slots=True)
class KnownProcess:
    """One process as last heard of. `parent_comm` is its parent's name at the time it was started."""

    pid: int
    parent_pid: int = 0
    comm: str = ""
    parent_comm: str = ""
    uid: int = -1
    command_line: str = ""
    image_path: str = ""


class ProcessTable:
    """Processes by pid.

    Parameters
    ----------
    capacity : int
        Most live processes; the one heard of least recently leaves first.

    Examples
    --------
    >>> table = ProcessTable()
    >>> table.started(KnownProcess(pid=10, comm="bash"))
    >>> child = table.forked(11, parent_pid=10)
    >>> child.comm, child.parent_comm
    ('bash', 'bash')
    >>> table.exited(11).pid, table.get(11).pid  # late events still find it
    (11, 11)
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._live: OrderedDict[int, KnownProcess] = OrderedDict()
        self._exited: OrderedDict[int, KnownProcess] = OrderedDict()

    def __len__(self) -> int:
        return len(self._live)

    def scan(self, facts: Iterable[ProcessFacts]) -> None:
        """Take in the processes that run already."""
        listed = {each.pid: each for each in facts}
        for pid in sorted(listed):
            parent = listed.get(listed[pid].parent_pid)
            self.started(_known(listed[pid], "" if parent is None else parent.comm))

    def started(self, process: KnownProcess) -> None:
        """Take in a process, or the new image of one that is known."""
        self._live[process.pid] = process
        self._live.move_to_end(process.pid)
        self._exited.pop(process.pid, None)
        if len(self._live) > self._capacity:
            self._live.popitem(last=False)

    def forked(self, pid: int, parent_pid: int) -> KnownProcess:
        """Take in a child that is still a copy of its parent."""
        parent = self.find(parent_pid)
        child = KnownProcess(
            pid, parent_pid, parent.comm, parent.comm, parent.uid, parent.command_line, parent.image_path
        )
        self.started(child)
        return child

    def exited(self, pid: int) -> KnownProcess:
        """Move a process to those that are gone, and return it."""
        process = self._live.pop(pid, None) or self._exited.get(pid) or KnownProcess(pid)
        self._exited[pid] = process
        self._exited.move_to_end(pid)
        if len(self._exited) > EXITED_CAPACITY:
            self._exited.popitem(last=False)
        return process

    def get(self, pid: int) -> KnownProcess | None:
        """Return a process, live or lately gone; None if it was never heard of."""
        return self._live.get(pid) or self._exited.get(pid)

    def find(self, pid: int) -> KnownProcess:
        """Return a process, asking /proc if it was never heard of. One without a name is nobody's any more."""
        process = self.get(pid)
        if process is None:
            facts = read_process(pid) if pid > 0 else None
            if facts is None:
                return KnownProcess(pid)
            parent = self.get(facts.parent_pid)
            process = _known(facts, parent.comm if parent else "")
            self.started(process)
        return process


def _known(facts: ProcessFacts, parent_comm: str) -> KnownProcess:
    return KnownProcess(
        facts.pid, facts.parent_pid, facts.comm, parent_comm, facts.uid, facts.command_line, facts.image_path
    )
