"""Alerts that belong together: one host, within an hour, of one process tree or one rule.

An alert joins the incident of its host that was last added to, among those that share a rule, a process or the root of
a process tree with it and lie within an hour of it. If none does, it begins one. An incident that an analyst closed
takes no more alerts. Alerts that the whitelist suppresses group among themselves, in incidents of status
``suppressed``, so that they raise nobody's severity and can still be looked at.

What an alert carries of its tree are names, not process ids of ancestors: the root is the outermost ancestor below a
session leader (``systemd``, ``sshd``, ``explorer.exe`` and so on), as its process key.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import sqlalchemy as sa

from eguard.detection.alert import Alert
from eguard.detection.process_tree import SESSION_LEADERS
from eguard.fleet.tables import incident
from eguard.server.services.alert_rows import SEVERITY_RANK, ReadAlert, title_of
from eguard.wire.process_key import UNKNOWN_COMM, decode_process_key, encode_process_key

#: How far apart alerts of one incident may lie, in seconds.
INCIDENT_GAP_SECONDS: Final = 3600.0
#: Marks (rules, roots, processes) that an incident remembers; enough for any that a person reads.
MAX_MARKS: Final = 256
#: Incidents of one host that a batch may join, the latest ones.
MAX_INCIDENTS: Final = 1000
#: Names in a process key.
_KEY_PARTS: Final = 2
OPEN: Final = "open"
INVESTIGATING: Final = "investigating"
CLOSED: Final = "closed"
SUPPRESSED: Final = "suppressed"
STATUSES: Final = (OPEN, INVESTIGATING, CLOSED, SUPPRESSED)


def tree_root(alert: Alert) -> str | None:
    """Return the process key of the root of the alert's process tree, or None where nothing is known of it.

    Examples
    --------
    >>> from msgspec.structs import replace
    >>> alert = Alert(alert_id="a", host_id="h", observed_at_unix=0.0, event_class="process_exec",
    ...     process_key="curl:sh", confidence="low", response="alert_only", reasons=(),
    ...     ancestors=("sh", "nginx", "systemd"))
    >>> tree_root(alert), tree_root(replace(alert, process_key="unknown:unknown", ancestors=()))
    ('nginx:systemd', None)
    """
    return _root(alert.process_key, alert.ancestors)


@lru_cache(maxsize=4096)
def _root(process_key: str, ancestors: tuple[str, ...]) -> str | None:
    comm, parent_comm = decode_process_key(process_key)
    lineage = [comm, *(ancestors or (parent_comm,))]
    for name, parent in pairwise(lineage):
        if parent.lower() in SESSION_LEADERS:
            return None if name == UNKNOWN_COMM else encode_process_key(name, parent)
    if len(lineage) > _KEY_PARTS:
        return encode_process_key(*lineage[-2:])
    return None if comm == UNKNOWN_COMM else process_key


def marks_of(read: ReadAlert) -> list[str]:
    """Return what an alert may share with others: its rules, its tree's root, its process."""
    alert = read.alert
    marks = [f"rule:{rule_id}" for rule_id in read.rule_ids]
    root = tree_root(alert)
    if root is not None:
        marks.append(f"root:{root}")
    if alert.pid:
        marks.append(f"process:{alert.pid}:{alert.process_key}")
    return marks


@dataclass(slots=True)
class _Incident:
    incident_id: str
    title: str
    severity: str
    status: str
    alerts: int
    first_at: float
    last_at: float
    marks: dict[str, None] = field(default_factory=dict)
    is_new: bool = False

    def is_near(self, at: float) -> bool:
        return self.first_at - INCIDENT_GAP_SECONDS <= at <= self.last_at + INCIDENT_GAP_SECONDS

    def take(self, read: ReadAlert, at: float, marks: Iterable[str]) -> list[str]:
        """Count the alert in and return those of its marks that are new."""
        severity = read.alert.confidence
        if not self.alerts or SEVERITY_RANK[severity] > SEVERITY_RANK[self.severity]:
            self.severity, self.title = severity, title_of(read.alert)
        self.alerts += 1
        self.first_at, self.last_at = min(self.first_at, at), max(self.last_at, at)
        added = [mark for mark in dict.fromkeys(marks) if mark not in self.marks][: MAX_MARKS - len(self.marks)]
        self.marks.update(dict.fromkeys(added))
        return added

    def values(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "severity": self.severity,
            "alerts": self.alerts,
            "first_at": self.first_at,
            "last_at": self.last_at,
            "grouping": {"marks": list(self.marks)},
        }


class Grouping:
    """Incidents of one agent while a batch of its alerts is taken in.

    Parameters
    ----------
    connection : Connection
        The batch's transaction. The caller has locked the agent, so that two batches do not group past each other.
    agent_id : str
        The host.
    first_at, last_at : float
        Times of the batch's earliest and latest alert.
    """

    def __init__(self, connection: sa.Connection, agent_id: str, first_at: float, last_at: float) -> None:
        self._connection = connection
        self._agent_id = agent_id
        self._by_mark: dict[str, list[_Incident]] = {}
        self._touched: dict[str, _Incident] = {}
        for known in self._load(first_at, last_at):
            self._index(known, known.marks)

    def place(self, read: ReadAlert, at: float, *, is_suppressed: bool) -> str:
        """Return the id of the incident that the alert belongs to, begun for it if need be."""
        marks = marks_of(read)
        candidates = [
            known
            for mark in marks
            for known in self._by_mark.get(mark, ())
            if (known.status == SUPPRESSED) == is_suppressed and known.is_near(at)
        ]
        if candidates:
            chosen = max(candidates, key=lambda known: (known.last_at, known.incident_id))
        else:
            status = SUPPRESSED if is_suppressed else OPEN
            chosen = _Incident(secrets.token_hex(8), "", "", status, 0, at, at, is_new=True)
        self._index(chosen, chosen.take(read, at, marks))
        self._touched[chosen.incident_id] = chosen
        return chosen.incident_id

    def save(self) -> None:
        """Write what changed."""
        fresh = [
            {"incident_id": known.incident_id, "agent_id": self._agent_id, "status": known.status, **known.values()}
            for known in self._touched.values()
            if known.is_new
        ]
        if fresh:
            self._connection.execute(sa.insert(incident), fresh)
        for known in self._touched.values():
            if not known.is_new:
                update = sa.update(incident).where(incident.c.incident_id == known.incident_id)
                self._connection.execute(update.values(**known.values()))

    def _index(self, known: _Incident, marks: Iterable[str]) -> None:
        for mark in marks:
            self._by_mark.setdefault(mark, []).append(known)

    def _load(self, first_at: float, last_at: float) -> list[_Incident]:
        columns = incident.c
        query = sa.select(incident).where(
            columns.agent_id == self._agent_id,
            columns.last_at >= max(first_at - INCIDENT_GAP_SECONDS, 0.0),
            columns.first_at <= last_at + INCIDENT_GAP_SECONDS,
            columns.status != CLOSED,
        )
        query = query.order_by(columns.last_at.desc(), columns.incident_id.desc()).limit(MAX_INCIDENTS)
        rows: Sequence[sa.Row[Any]] = self._connection.execute(query).all()
        return [
            _Incident(
                row.incident_id,
                row.title,
                row.severity,
                row.status,
                row.alerts,
                row.first_at,
                row.last_at,
                dict.fromkeys(row.grouping["marks"]),
            )
            for row in rows
        ]
