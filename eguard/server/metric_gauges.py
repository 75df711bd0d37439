"""Metrics that are read from the database when somebody asks, and not more often than every few seconds."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from eguard.clock import Clock
from eguard.errors import FleetStoreError
from eguard.fleet.database import Database
from eguard.fleet.tables import (
    endpoint_agent,
    endpoint_command,
    fleet_generation,
    incident,
    maintenance_run,
    notification_delivery,
    policy,
    server_counter,
)
from eguard.server.services.commands import WAITING
from eguard.server.services.revisions import POLICY_REVISION
from eguard.server.signal_gauges import SIGNAL_GAUGES, signal_samples

CACHE_SECONDS: Final = 5.0
#: Policies that are shown, in the order of their ids. Operators name them, and every name is a time series.
MAX_POLICIES: Final = 50
_UNKNOWN: Final = "unknown"

#: Name, labels and meaning of every gauge that comes from the database.
GAUGES: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "eguard_database_up": ((), "1 if the database answered at the last look, else 0."),
    "eguard_agents": (
        ("status", "baseline_status"),
        "Agents by their standing (active, quarantined, decommissioned) and by the state of their baseline.",
    ),
    "eguard_agents_heard": ((), "Active agents that sent a heartbeat within the last 5 minutes."),
    "eguard_fleet_generation": ((), "Number of the current generation of the fleet's baseline, 0 before the first."),
    "eguard_fleet_keys": ((), "Process keys in the current generation."),
    "eguard_policy_revision": ((), "Last revision that the counter of policies, assignments and whitelist gave out."),
    "eguard_policy_upload_enabled": (
        ("policy_id",),
        "0 where the latest revision of the policy switches uploads off (the kill switch), else 1.",
    ),
    "eguard_policy_seed_enabled": (("policy_id",), "0 where the latest revision switches seeds off, else 1."),
    "eguard_policy_canary_percent": (
        ("policy_id", "path"),
        "Share of agents that the latest revision lets take part, by path (upload, seed).",
    ),
    "eguard_commands_waiting": ((), "Commands that agents have not acknowledged."),
    "eguard_incidents": (("status",), "Incidents by status."),
    "eguard_task_last_success_timestamp_seconds": (
        ("task",),
        "When the last successful run of a maintenance task ended, on any server.",
    ),
    "eguard_notifications_waiting": (("sink",), "Messages to operators that a sink has not taken yet."),
    **SIGNAL_GAUGES,
}
_HEARD_SECONDS: Final = 300.0

Samples = dict[str, dict[tuple[str, ...], float]]


class FleetGauges(Collector):
    """Gauges of the fleet, looked up at a scrape and kept for `CACHE_SECONDS`.

    Parameters
    ----------
    database : Database
        The fleet's database.
    clock : Clock
        For ages, and for the age of what is kept.
    on_error : callable
        Called with the reason when the database refused.
    """

    def __init__(self, database: Database, clock: Clock, on_error: Any) -> None:
        self._database = database
        self._clock = clock
        self._on_error = on_error
        self._lock = threading.Lock()
        self._samples: Samples = {}
        self._looked_at: float | None = None

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples, so that registering does not ask the database."""
        return [GaugeMetricFamily(name, text, labels=labels) for name, (labels, text) in GAUGES.items()]

    def collect(self) -> Iterable[Metric]:
        """Return the gauges; while the database is away only that it is."""
        samples = self._look()
        for name, (labels, text) in GAUGES.items():
            family = GaugeMetricFamily(name, text, labels=labels)
            for values, number in sorted(samples.get(name, {}).items()):
                family.add_metric(values, number)
            yield family

    def _look(self) -> Samples:
        with self._lock:  # whoever scrapes at the same time waits and takes what was found
            now = self._clock.monotonic()
            if self._looked_at is None or now - self._looked_at >= CACHE_SECONDS:
                try:
                    with self._database.read() as connection:
                        self._samples = _read(connection, self._clock.now())
                except FleetStoreError as error:
                    self._on_error(str(error.context.get("reason", _UNKNOWN)))
                    self._samples = {"eguard_database_up": {(): 0.0}}
                self._looked_at = now
            return self._samples


def _read(connection: sa.Connection, now: float) -> Samples:
    agent = endpoint_agent.c
    counted = sa.select(agent.status, agent.baseline_status, sa.func.count()).group_by(
        agent.status, agent.baseline_status
    )
    heard = _count(endpoint_agent, agent.status == "active", agent.last_heartbeat > now - _HEARD_SECONDS)
    newest = sa.select(fleet_generation.c.generation, fleet_generation.c.key_count).order_by(
        fleet_generation.c.generation.desc()
    )
    generation, keys = connection.execute(newest.limit(1)).first() or (0, 0)
    revision = sa.select(server_counter.c.value).where(server_counter.c.name == POLICY_REVISION)
    by_status = sa.select(incident.c.status, sa.func.count()).group_by(incident.c.status)
    run = maintenance_run.c
    sink = notification_delivery.c.sink
    waiting = sa.select(sink, sa.func.count()).where(notification_delivery.c.status == "waiting").group_by(sink)
    successes = sa.select(run.task_id, sa.func.max(run.finished_at)).where(run.status == "success")

    def scalar(query: sa.Select[Any]) -> dict[tuple[str, ...], float]:
        return {(): float(connection.execute(query).scalar() or 0)}

    return {
        "eguard_database_up": {(): 1.0},
        "eguard_agents": {(row[0], row[1] or _UNKNOWN): float(row[2]) for row in connection.execute(counted)},
        "eguard_agents_heard": scalar(heard),
        "eguard_fleet_generation": {(): float(generation)},
        "eguard_fleet_keys": {(): float(keys)},
        "eguard_policy_revision": scalar(revision),
        **_policies(connection),
        "eguard_commands_waiting": scalar(
            _count(endpoint_command, endpoint_command.c.status.in_(WAITING), endpoint_command.c.expires_at > now)
        ),
        "eguard_incidents": {(row[0],): float(row[1]) for row in connection.execute(by_status)},
        "eguard_task_last_success_timestamp_seconds": {
            (row[0],): float(row[1]) for row in connection.execute(successes.group_by(run.task_id)) if row[1]
        },
        "eguard_notifications_waiting": {(row[0],): float(row[1]) for row in connection.execute(waiting)},
        **signal_samples(connection),
    }


def _policies(connection: sa.Connection) -> Samples:
    """Return what the latest revision of each policy says; a field that is not given stands for what agents assume."""
    column = policy.c
    latest = sa.select(sa.func.max(column.revision)).group_by(column.policy_id)
    query = sa.select(column.policy_id, column.document).where(column.revision.in_(latest))
    documents = connection.execute(query.order_by(column.policy_id).limit(MAX_POLICIES)).all()
    uploads: dict[tuple[str, ...], float] = {}
    seeds: dict[tuple[str, ...], float] = {}
    percents: dict[tuple[str, ...], float] = {}
    for policy_id, document in documents:
        uploads[(policy_id,)] = float(document.get("baseline_upload_enabled", True))
        seeds[(policy_id,)] = float(document.get("fleet_seed_enabled", True))
        percents[policy_id, "upload"] = float(document.get("baseline_upload_canary_percent", 100.0))
        percents[policy_id, "seed"] = float(document.get("fleet_seed_canary_percent", 100.0))
    return {
        "eguard_policy_upload_enabled": uploads,
        "eguard_policy_seed_enabled": seeds,
        "eguard_policy_canary_percent": percents,
    }


def _count(table: sa.Table, *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(sa.func.count()).select_from(table).where(*conditions)
