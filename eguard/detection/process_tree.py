"""The process tree of one host: who started whom, kept from exec and exit events, bounded in size.

A process is known by what its source tells of it, best first:

* a GUID (Sysmon, Defender): exact;
* a pid and the time it was started: a pid that is started anew under another parent, or after an exit, is another
  process, and a late event of the earlier owner still finds that owner; a second exec of a live pid under the same
  parent is the same process with a new image;
* names alone (sources that drop the ids, such as the shipped Sysmon CSV). This is an approximation: a start makes a new
  node below the latest live process that has the parent's name, an exit ends the latest live process of its name, and
  any other event is ascribed to the latest live process of its name. Short-lived processes, which are what the
  features look at, are told apart well; long-lived ones of one name (``svchost.exe``) share a node.

Many hosts report a start twice, once for each log that is on. The second report of the same process from another log
(another event code) within two seconds is recognised and changes nothing.

Only exec and exit events change the tree. A parent that was never seen starting becomes a stub: it can have children
and ancestors' names, but no start time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eguard.detection.process_index import Identity, ProcessIndex
from eguard.detection.process_nodes import ProcessNode
from eguard.events import EventBatch, EventClass

#: Processes that start whole sessions and services: each child of theirs is the root of a tree of its own.
SESSION_LEADERS: Final = frozenset(
    {"csrss.exe", "explorer.exe", "init", "kthreadd", "launchd", "services.exe", "smss.exe", "sshd", "system"}
    | {"systemd", "userinit.exe", "wininit.exe", "winlogon.exe"}
)
#: Nodes kept for a host, live and exited together.
DEFAULT_CAPACITY: Final = 8192
#: Look-back of the number of children started, in seconds.
SPAWN_WINDOW_SECONDS: Final = 60.0
#: Two logs report one start or one exit within this time, in seconds.
DOUBLE_REPORT_SECONDS: Final = 2.0

_EXEC: Final = int(EventClass.PROCESS_EXEC)
_EXIT: Final = int(EventClass.PROCESS_EXIT)


class _Report(NamedTuple):
    """What one event says of its process and its parent."""

    time_unix: float
    event_class: int
    event_code: int
    process: Identity
    parent: Identity


class _Description(NamedTuple):
    """The row of `TreeColumns` of one event."""

    depth: int
    breadth: int
    child_entropy: float
    spawn_count: int
    process: int | str
    root: int | str
    ancestors: tuple[str, ...]


@dataclass(slots=True)
class TreeColumns:
    """What the tree says of each event asked for, as of that event (its own start or exit included).

    `process` identifies the process and `root` its tree: a node id, or a name where the process is not in the tree.
    `breadth`, `child_entropy` and `spawn_count` describe the parent. `started_roots` are the trees of all processes
    that started, asked for or not.
    """

    depth: NDArray[np.int64]
    breadth: NDArray[np.int64]
    child_entropy: NDArray[np.float64]
    spawn_count: NDArray[np.int64]
    process: list[int | str]
    root: list[int | str]
    ancestors: list[tuple[str, ...]]
    started_roots: frozenset[int] = frozenset()

    @classmethod
    def empty(cls) -> TreeColumns:
        """Return columns that describe no event."""
        none = np.zeros(0, dtype=np.int64)
        return cls(none, none, np.zeros(0), none, [], [], [])


class ProcessTree:
    """Processes of one host.

    Parameters
    ----------
    capacity : int
        Most nodes kept. Beyond it the process that exited longest ago is forgotten, and when all live, the one that
        showed no start of its own or of a child for longest.

    Examples
    --------
    >>> tree = ProcessTree()
    >>> batch = EventBatch(
    ...     time_unix=np.array([0.0, 1.0, 2.0]), event_class=np.array([0, 0, 3]), pid=np.array([10, 11, 11]),
    ...     parent_pid=np.array([1, 10, 10]), comm=["sh", "curl", "curl"], parent_comm=["sshd", "sh", "sh"])
    >>> columns = tree.observe(batch)
    >>> columns.depth.tolist(), columns.breadth.tolist(), columns.ancestors[2]
    ([1, 2, 2], [1, 1, 1], ('sh', 'sshd'))
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._index = ProcessIndex(capacity)
        self._last_exit: dict[str, tuple[float, int]] = {}

    def reset(self) -> None:
        """Forget every process, as after a restart of the machine. Node ids are not used again."""
        self._index.clear()
        self._last_exit.clear()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def live_count(self) -> int:
        """Number of processes that have not exited."""
        return len(self._index.live)

    def observe(self, batch: EventBatch, rows: Sequence[int] | NDArray[np.intp] | None = None) -> TreeColumns:
        """Take in the starts and exits of `batch` and describe the events at `rows` (default: all).

        Parameters
        ----------
        batch : EventBatch
            Events of this host in the order of delivery.
        rows : sequence of int, optional
            Ascending positions of the events to describe. Starts and exits at other positions are taken in too.

        Returns
        -------
        TreeColumns
            One entry for each of `rows`.
        """
        is_wanted = np.zeros(len(batch), dtype=np.bool_)
        is_wanted[slice(None) if rows is None else np.asarray(rows, dtype=np.intp)] = True
        is_change = (batch.event_class == _EXEC) | (batch.event_class == _EXIT)
        touched = np.flatnonzero(is_change | is_wanted)
        described: list[_Description] = []
        started: set[int] = set()
        for report, wanted in zip(_reports(batch, touched), is_wanted[touched].tolist(), strict=True):
            node: ProcessNode | None = None
            if report.event_class == _EXEC:
                node = self._start(report)
                started.add(node.root)
            elif report.event_class == _EXIT:
                node = self._exit(report)
            if wanted:
                described.append(self._describe(report, node or self._find(report)))
        columns = _columns(described)
        columns.started_roots = frozenset(started)
        return columns

    def _find(self, report: _Report) -> ProcessNode | None:
        return self._index.find(report.process, report.time_unix, report.parent.comm)

    def _describe(self, report: _Report, node: ProcessNode | None) -> _Description:
        if node is None:
            return self._describe_unknown(report)
        parent = self._index.get(node.parent_id)
        children = _children(parent, report.time_unix)
        return _Description(node.depth, *children, node.node_id, node.root, node.lineage)

    def _describe_unknown(self, report: _Report) -> _Description:
        """Describe an event of a process that was never seen starting, by its parent as far as that is known."""
        guid, pid, comm = report.process
        name = guid or (f"{comm}#{pid}" if pid else comm)
        parent = self._index.find(report.parent, report.time_unix)
        if parent is None:
            known = report.parent.comm
            return _Description(int(bool(known)), 0, 0.0, 0, name, name, (known,) if known else ())
        root = name if parent.comm.lower() in SESSION_LEADERS else parent.root
        ancestors = (parent.comm, *parent.lineage)
        return _Description(parent.depth + 1, *_children(parent, report.time_unix), name, root, ancestors)

    def _start(self, report: _Report) -> ProcessNode:
        known = self._same_start(report)
        if known is not None:
            return known
        parent = self._index.find(report.parent, report.time_unix)
        if parent is None and any(report.parent):
            parent = self._index.add(report.parent, -np.inf)  # a stub: nobody saw it start
        node = self._index.add(report.process, report.time_unix, parent, report.parent.comm)
        node.event_code = report.event_code
        if parent is not None and parent.comm.lower() not in SESSION_LEADERS:
            node.root = parent.root
        return node

    def _same_start(self, report: _Report) -> ProcessNode | None:
        """Return the live process of which this exec tells again (another log, or a new image in the same pid)."""
        identity = report.process
        if identity.is_name_only:
            return self._same_start_by_name(report)
        known = self._index.by_guid(identity.guid)
        if known is not None or not identity.pid:
            return known
        node = self._index.by_pid(identity.pid)
        if node is None or not node.is_live or (identity.guid and node.guid):
            return None
        parent = self._index.get(node.parent_id)
        is_same_parent = parent is not None and parent.pid == report.parent.pid
        if not is_same_parent and node.started_unix != -np.inf:
            return None
        node.comm = identity.comm
        self._index.identify(node, identity)
        return node

    def _same_start_by_name(self, report: _Report) -> ProcessNode | None:
        for node in self._index.by_name(report.process.comm):
            if report.time_unix - node.started_unix > DOUBLE_REPORT_SECONDS:
                break
            is_other_log = node.event_code != report.event_code
            if is_other_log and not node.is_confirmed and node.parent_comm == report.parent.comm:
                node.is_confirmed = True
                return node
        return None

    def _exit(self, report: _Report) -> ProcessNode | None:
        node = self._find(report)
        if report.process.is_name_only and self._is_same_exit(report):
            return node
        if node is not None:
            self._index.retire(node)
        return node

    def _is_same_exit(self, report: _Report) -> bool:
        """Return whether another log has just told of this exit; a third report is an exit of its own."""
        comm = report.process.comm
        last_unix, last_code = self._last_exit.pop(comm, (-np.inf, report.event_code))
        if last_code != report.event_code and report.time_unix - last_unix <= DOUBLE_REPORT_SECONDS:
            return True
        self._last_exit[comm] = (report.time_unix, report.event_code)
        if len(self._last_exit) > self._capacity:
            self._last_exit.pop(next(iter(self._last_exit)))
        return False


def _reports(batch: EventBatch, rows: NDArray[np.intp]) -> Iterator[_Report]:
    """Yield what the events at `rows` say, reading each column once."""
    numbers = [getattr(batch, name)[rows].tolist() for name in ("time_unix", "event_class", "event_code")]
    pids, parent_pids = batch.pid[rows].tolist(), batch.parent_pid[rows].tolist()
    chosen = rows.tolist()
    for position, index in enumerate(chosen):
        yield _Report(
            numbers[0][position],
            numbers[1][position],
            numbers[2][position],
            Identity(batch.process_guid[index], pids[position], batch.comm[index]),
            Identity(batch.parent_guid[index], parent_pids[position], batch.parent_comm[index]),
        )


def _children(parent: ProcessNode | None, now_unix: float) -> tuple[int, float, int]:
    """Return live children, entropy of the children's names and recent starts of a parent."""
    if parent is None:
        return 0, 0.0, 0
    spawned = parent.children_started_within(now_unix, SPAWN_WINDOW_SECONDS)
    return parent.live_children, parent.child_entropy(), spawned


def _columns(described: list[_Description]) -> TreeColumns:
    if not described:
        return TreeColumns.empty()
    depth, breadth, entropy, spawned, process, root, ancestors = zip(*described, strict=True)
    return TreeColumns(
        depth=np.array(depth, dtype=np.int64),
        breadth=np.array(breadth, dtype=np.int64),
        child_entropy=np.array(entropy, dtype=np.float64),
        spawn_count=np.array(spawned, dtype=np.int64),
        process=list(process),
        root=list(root),
        ancestors=list(ancestors),
    )
