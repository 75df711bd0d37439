"""The processes of a host, found by GUID, by pid and time, or by name; bounded in number."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from eguard.detection.process_nodes import ProcessNode


class Identity(NamedTuple):
    """What an event tells of a process: the best of these that is known identifies it."""

    guid: str
    pid: int
    comm: str

    @property
    def is_name_only(self) -> bool:
        """Whether neither GUID nor pid is known."""
        return not self.guid and not self.pid


class ProcessIndex:
    """Live processes, and those that exited lately.

    Parameters
    ----------
    capacity : int
        Most nodes kept, live and exited together.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._serial = 0
        self.live: OrderedDict[int, ProcessNode] = OrderedDict()
        self._exited: OrderedDict[int, ProcessNode] = OrderedDict()
        self._by_guid: dict[str, int] = {}
        self._by_pid: dict[int, int] = {}
        self._by_name: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.live) + len(self._exited)

    def clear(self) -> None:
        """Forget every process. Node ids are not used again."""
        for store in (self.live, self._exited, self._by_guid, self._by_pid, self._by_name):
            store.clear()

    def get(self, node_id: int) -> ProcessNode | None:
        """Return a node, live or exited."""
        return self.live.get(node_id) or self._exited.get(node_id)

    def add(
        self, identity: Identity, started_unix: float, parent: ProcessNode | None = None, parent_comm: str = ""
    ) -> ProcessNode:
        """Add a live process below `parent`; forget others if there are too many."""
        node = ProcessNode(self._serial, identity.comm, started_unix, parent, parent_comm)
        self._serial += 1
        if parent is not None:
            parent.adopt(node)
            if parent.is_live:
                self.live.move_to_end(parent.node_id)
        self.live[node.node_id] = node
        while len(self) > self._capacity:
            self._evict()
        if identity.is_name_only:
            self._by_name.setdefault(node.comm, []).append(node.node_id)
        else:
            self.identify(node, identity)
        return node

    def identify(self, node: ProcessNode, identity: Identity) -> None:
        """Note a GUID or pid of a process; whoever had the pid before has exited."""
        if identity.guid:
            node.guid = identity.guid
            self._by_guid[identity.guid] = node.node_id
        pid = identity.pid
        if pid and node.pid != pid:
            node.pid = pid
            before = self.get(self._by_pid.get(pid, -1))
            if before is not None:
                self.retire(before)
                before.previous_id = -1  # one earlier owner of a pid is enough, and the chain stays bounded
                node.previous_id = before.node_id
            self._by_pid[pid] = node.node_id

    def retire(self, node: ProcessNode) -> None:
        """Mark a process as exited."""
        if not node.is_live:
            return
        node.is_live = False
        del self.live[node.node_id]
        self._exited[node.node_id] = node
        same_name = self._by_name.get(node.comm, [])
        if node.node_id in same_name:
            same_name.remove(node.node_id)
            if not same_name:
                del self._by_name[node.comm]
        parent = self.get(node.parent_id)
        if parent is not None:
            parent.live_children -= 1

    def by_guid(self, guid: str) -> ProcessNode | None:
        """Return the process with this GUID."""
        return self.get(self._by_guid.get(guid, -1)) if guid else None

    def by_pid(self, pid: int, time_unix: float = np.inf) -> ProcessNode | None:
        """Return the process that had this pid at `time_unix`: its latest owner, or the one before."""
        node = self.get(self._by_pid.get(pid, -1))
        if node is not None and node.started_unix > time_unix:
            return self.get(node.previous_id)
        return node

    def by_name(self, comm: str) -> list[ProcessNode]:
        """Return the live processes of this name that are known by nothing else, latest first."""
        return [self.live[node_id] for node_id in reversed(self._by_name.get(comm, ()))]

    def find(self, identity: Identity, time_unix: float, parent_comm: str = "") -> ProcessNode | None:
        """Return the process that an event at `time_unix` tells of; by name, rather one below `parent_comm`."""
        found = self.by_guid(identity.guid)
        if found is not None:
            return found
        if identity.pid:
            return self.by_pid(identity.pid, time_unix)
        same_name = () if identity.guid else self._by_name.get(identity.comm, ())
        if not same_name:
            return None
        if parent_comm:
            for node in self.by_name(identity.comm):
                if node.parent_comm == parent_comm:
                    return node
        return self.live[same_name[-1]]

    def _evict(self) -> None:
        """Forget the process that exited longest ago, or the live one that was idle for longest."""
        node = next(iter((self._exited or self.live).values()))
        self.retire(node)
        del self._exited[node.node_id]
        if self._by_guid.get(node.guid) == node.node_id:
            del self._by_guid[node.guid]
        if self._by_pid.get(node.pid) == node.node_id:
            del self._by_pid[node.pid]
