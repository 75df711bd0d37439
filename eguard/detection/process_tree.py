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

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

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


@dataclass(slots=True)
class TreeColumns:
    """What the tree says of each event asked for, as of that event (its own start or exit included).

    `process` identifies the process and `root` its tree: a node id, or a name where the process is not in the tree.
    `breadth`, `child_entropy` and `spawn_count` describe the parent.
    """

    depth: NDArray[np.int64]
    breadth: NDArray[np.int64]
    child_entropy: NDArray[np.float64]
    spawn_count: NDArray[np.int64]
    process: list[int | str]
    root: list[int | str]
    ancestors: list[tuple[str, ...]]


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
        self._serial = 0
        self.reset()

    def reset(self) -> None:
        """Forget every process, as after a restart of the machine. Node ids are not used again."""
        self._live: OrderedDict[int, ProcessNode] = OrderedDict()
        self._exited: OrderedDict[int, ProcessNode] = OrderedDict()
        self._by_guid: dict[str, int] = {}
        self._by_pid: dict[int, int] = {}
        self._by_name: dict[str, list[int]] = {}
        self._last_exit: dict[str, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._live) + len(self._exited)

    @property
    def live_count(self) -> int:
        """Number of processes that have not exited."""
        return len(self._live)

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
        is_change = (batch.event_class == _EXEC) | (batch.event_class == _EXIT)
        wanted = np.arange(len(batch)) if rows is None else np.asarray(rows, dtype=np.intp)
        is_wanted = np.zeros(len(batch), dtype=np.bool_)
        is_wanted[wanted] = True
        described: list[tuple[int, int, float, int]] = []
        columns = TreeColumns(*(np.zeros(0, np.int64),) * 2, np.zeros(0), np.zeros(0, np.int64), [], [], [])
        for index in np.flatnonzero(is_change | is_wanted).tolist():
            node = None
            if is_change[index]:
                node = self._start(batch, index) if batch.event_class[index] == _EXEC else self._exit(batch, index)
            if is_wanted[index]:
                described.append(self._describe(batch, index, node, columns))
        if described:
            depth, breadth, entropy, spawned = zip(*described, strict=True)
            columns.depth = np.array(depth, dtype=np.int64)
            columns.breadth = np.array(breadth, dtype=np.int64)
            columns.child_entropy = np.array(entropy, dtype=np.float64)
            columns.spawn_count = np.array(spawned, dtype=np.int64)
        return columns

    def _describe(
        self, batch: EventBatch, index: int, node: ProcessNode | None, columns: TreeColumns
    ) -> tuple[int, int, float, int]:
        node = node or self._find_process(batch, index)
        comm = batch.comm[index]
        if node is not None:
            parent = self._node(node.parent_id)
            depth, ancestors = node.depth, node.lineage
            columns.process.append(node.node_id)
            columns.root.append(node.root)
        else:
            parent = self._find_parent(batch, index)
            depth = parent.depth + 1 if parent else int(bool(batch.parent_comm[index]))
            ancestors = (parent.comm, *parent.lineage) if parent else tuple(filter(None, (batch.parent_comm[index],)))
            name = batch.process_guid[index] or (f"{comm}#{batch.pid[index]}" if batch.pid[index] else comm)
            columns.process.append(name)
            is_root = parent is None or parent.comm.lower() in SESSION_LEADERS
            columns.root.append(name if parent is None or is_root else parent.root)
        columns.ancestors.append(ancestors)
        if parent is None:
            return depth, 0, 0.0, 0
        spawned = parent.children_started_within(float(batch.time_unix[index]), SPAWN_WINDOW_SECONDS)
        return depth, parent.live_children, parent.child_entropy(), spawned

    # -- changes -----------------------------------------------------------------------------------------------------

    def _start(self, batch: EventBatch, index: int) -> ProcessNode:
        known = self._same_start(batch, index)
        if known is not None:
            return known
        parent = self._find_parent(batch, index) or self._stub_parent(batch, index)
        node = self._add(batch.comm[index], float(batch.time_unix[index]), parent, batch.parent_comm[index])
        node.event_code = int(batch.event_code[index])
        self._identify(node, batch.process_guid[index], int(batch.pid[index]))
        return node

    def _same_start(self, batch: EventBatch, index: int) -> ProcessNode | None:
        """Return the live process of which this exec tells again (another log, or a new image in the same pid)."""
        guid, pid, comm = batch.process_guid[index], int(batch.pid[index]), batch.comm[index]
        time_unix, code = float(batch.time_unix[index]), int(batch.event_code[index])
        if guid and guid in self._by_guid:
            return self._node(self._by_guid[guid])
        if pid:
            node = self._node(self._by_pid.get(pid, -1))
            if node is None or not node.is_live or (guid and node.guid):
                return None
            parent = self._node(node.parent_id)
            same_parent = parent is not None and parent.pid == int(batch.parent_pid[index])
            if same_parent or node.started_unix == -np.inf:
                node.comm = comm
                if guid:
                    self._identify(node, guid, pid)
                return node
            return None
        for node_id in reversed(() if guid else self._by_name.get(comm, ())):
            node = self._live[node_id]
            if time_unix - node.started_unix > DOUBLE_REPORT_SECONDS:
                break
            if not node.is_confirmed and node.event_code != code and node.parent_comm == batch.parent_comm[index]:
                node.is_confirmed = True
                return node
        return None

    def _exit(self, batch: EventBatch, index: int) -> ProcessNode | None:
        comm, pid, guid = batch.comm[index], int(batch.pid[index]), batch.process_guid[index]
        if not pid and not guid:
            time_unix, code = float(batch.time_unix[index]), int(batch.event_code[index])
            last_unix, last_code = self._last_exit.pop(comm, (-np.inf, code))
            if last_code != code and time_unix - last_unix <= DOUBLE_REPORT_SECONDS:
                return self._find_process(batch, index)
            self._last_exit[comm] = (time_unix, code)
            if len(self._last_exit) > self._capacity:
                self._last_exit.pop(next(iter(self._last_exit)))
        node = self._find_process(batch, index)
        if node is not None:
            self._retire(node)
        return node

    def _retire(self, node: ProcessNode) -> None:
        if not node.is_live:
            return
        node.is_live = False
        del self._live[node.node_id]
        self._exited[node.node_id] = node
        self._drop_name(node)
        parent = self._node(node.parent_id)
        if parent is not None:
            parent.live_children -= 1

    # -- nodes -------------------------------------------------------------------------------------------------------

    def _node(self, node_id: int) -> ProcessNode | None:
        return self._live.get(node_id) or self._exited.get(node_id)

    def _add(self, comm: str, started_unix: float, parent: ProcessNode | None, parent_comm: str) -> ProcessNode:
        node = ProcessNode(self._serial, comm, started_unix, parent, parent_comm)
        self._serial += 1
        if parent is not None:
            if parent.comm.lower() not in SESSION_LEADERS:
                node.root = parent.root
            parent.adopt(node)
            if parent.is_live:
                self._live.move_to_end(parent.node_id)
        self._live[node.node_id] = node
        while len(self) > self._capacity:
            self._evict()
        return node

    def _identify(self, node: ProcessNode, guid: str, pid: int) -> None:
        if guid:
            node.guid = guid
            self._by_guid[guid] = node.node_id
        if pid and node.pid != pid:
            node.pid = pid
            before = self._node(self._by_pid.get(pid, -1))
            if before is not None:
                self._retire(before)
                before.previous_id = -1  # one earlier owner of a pid is enough, and the chain stays bounded
                node.previous_id = before.node_id
            self._by_pid[pid] = node.node_id
        if not pid and not guid:
            self._by_name.setdefault(node.comm, []).append(node.node_id)

    def _stub_parent(self, batch: EventBatch, index: int) -> ProcessNode | None:
        guid, pid, comm = batch.parent_guid[index], int(batch.parent_pid[index]), batch.parent_comm[index]
        if not (guid or pid or comm):
            return None
        stub = self._add(comm, -np.inf, None, "")
        self._identify(stub, guid, pid)
        return stub

    def _evict(self) -> None:
        node = next(iter((self._exited or self._live).values()))
        self._retire(node)
        del self._exited[node.node_id]
        if self._by_guid.get(node.guid) == node.node_id:
            del self._by_guid[node.guid]
        if self._by_pid.get(node.pid) == node.node_id:
            del self._by_pid[node.pid]

    def _drop_name(self, node: ProcessNode) -> None:
        same_name = self._by_name.get(node.comm)
        if same_name and node.node_id in same_name:
            same_name.remove(node.node_id)
            if not same_name:
                del self._by_name[node.comm]

    # -- look-ups ----------------------------------------------------------------------------------------------------

    def _find_process(self, batch: EventBatch, index: int) -> ProcessNode | None:
        guid, pid = batch.process_guid[index], int(batch.pid[index])
        return self._find(guid, pid, batch.comm[index], float(batch.time_unix[index]), batch.parent_comm[index])

    def _find_parent(self, batch: EventBatch, index: int) -> ProcessNode | None:
        guid, pid = batch.parent_guid[index], int(batch.parent_pid[index])
        return self._find(guid, pid, batch.parent_comm[index], float(batch.time_unix[index]), "")

    def _find(self, guid: str, pid: int, comm: str, time_unix: float, parent_comm: str) -> ProcessNode | None:
        if guid and guid in self._by_guid:
            return self._node(self._by_guid[guid])
        if pid:
            node = self._node(self._by_pid.get(pid, -1))
            if node is not None and node.started_unix > time_unix:
                node = self._node(node.previous_id)
            return node
        if guid:
            return None
        same_name = self._by_name.get(comm, ())
        if parent_comm:
            for node_id in reversed(same_name):
                if self._live[node_id].parent_comm == parent_comm:
                    return self._live[node_id]
        return self._live[same_name[-1]] if same_name else None
