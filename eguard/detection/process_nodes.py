"""One process of a host's tree: what is kept of it, and the statistics of its children."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

#: Names of which a parent keeps a count of its own; children of any further name are counted together.
MAX_CHILD_NAMES: Final = 256
#: Child starts of which the time is kept. Feature 30 is clamped at log2(1 + n) = 8, so that more would change nothing.
MAX_CHILD_STARTS: Final = 256
#: Ancestors kept with a process, nearest first.
MAX_LINEAGE: Final = 16


class ProcessNode:
    """A process that was started, seen as a parent, or has exited lately.

    `lineage` holds the names of the ancestors at the time of the start, nearest first; `root` is the node id of the
    topmost ancestor below a session leader (`eguard.detection.process_tree.SESSION_LEADERS`).
    """

    __slots__ = (
        "_entropy",
        "child_names",
        "child_starts",
        "children_started",
        "comm",
        "depth",
        "event_code",
        "guid",
        "is_confirmed",
        "is_live",
        "lineage",
        "live_children",
        "node_id",
        "parent_comm",
        "parent_id",
        "pid",
        "previous_id",
        "root",
        "started_unix",
    )

    def __init__(
        self, node_id: int, comm: str, started_unix: float, parent: ProcessNode | None, parent_comm: str
    ) -> None:
        self.node_id = node_id
        self.comm = comm
        self.started_unix = started_unix
        self.parent_id = -1
        self.parent_comm = parent_comm
        self.depth = 0
        self.root = node_id
        self.lineage: tuple[str, ...] = (parent_comm,) if parent_comm else ()
        self.guid = ""
        self.pid = 0
        self.previous_id = -1
        self.event_code = 0
        self.is_confirmed = False
        self.is_live = True
        self.live_children = 0
        self.children_started = 0
        self.child_names: dict[str, int] = {}
        self.child_starts: deque[float] = deque(maxlen=MAX_CHILD_STARTS)
        self._entropy = 0.0
        if parent is not None:
            self.parent_id = parent.node_id
            self.depth = parent.depth + 1
            self.lineage = (parent.comm, *parent.lineage)[:MAX_LINEAGE]

    def adopt(self, child: ProcessNode) -> None:
        """Count a child that starts now."""
        self.live_children += 1
        self.children_started += 1
        name = child.comm if len(self.child_names) < MAX_CHILD_NAMES or child.comm in self.child_names else ""
        self.child_names[name] = self.child_names.get(name, 0) + 1
        self.child_starts.append(child.started_unix)
        self._entropy = -1.0

    def child_entropy(self) -> float:
        """Return the entropy of the names of all children started, over log2 of their number; 0 below two."""
        if self._entropy < 0.0:
            total = self.children_started
            self._entropy = 0.0
            if total >= 2 and len(self.child_names) >= 2:
                weighted = sum(count * math.log2(count) for count in self.child_names.values())
                self._entropy = min(1.0, 1.0 - weighted / total / math.log2(total))
        return self._entropy

    def children_started_within(self, now_unix: float, seconds: float) -> int:
        """Return how many children started in the `seconds` up to `now_unix`, at most `MAX_CHILD_STARTS`."""
        since = now_unix - seconds
        count = 0
        for started in reversed(self.child_starts):
            if started <= since:
                break
            count += 1
        return count
