"""Who runs which task, and how every run went: rows that several servers on one database share.

A task is held by a lease: its owner and until when. The owner renews it while the task runs; whoever finds it expired
knows that the owner died, marks the run as ``lost`` and may run the task. Leases are compared by the servers' clocks,
which therefore have to agree to well within a lease's length.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from eguard.clock import Clock
from eguard.errors import ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import maintenance_run, maintenance_task
from eguard.fleet.upsert import upsert
from eguard.server.principal import Principal
from eguard.server.services import audit
from eguard.server.services.schedules import Schedule

#: How long a server may be silent before a task that it holds is taken from it.
LEASE_SECONDS: Final = 60.0
#: A run that begins this long after it was due makes up for time in which no server ran.
CATCH_UP_SECONDS: Final = 300.0
#: Databases keep microseconds and servers' clocks differ; a due time this far off is no jump of a clock.
_SLACK_SECONDS: Final = 60.0
#: What `started_by` says of a run that nobody asked for.
SCHEDULE: Final = "schedule"
CATCH_UP: Final = "catch-up"
RUNNING: Final = "running"
LOST: Final = "lost"
WENT_WELL: Final = ("success", "skipped")

_task = maintenance_task.c
_run = maintenance_run.c


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that this server has begun."""

    run_id: str
    task_id: str
    started_by: str


class MaintenanceLedger:
    """The rows of tasks and runs.

    Parameters
    ----------
    database : Database
        The fleet's database.
    server_id : str
        Name of this process among the servers on the database.
    schedules : mapping of str to Schedule
        Of the tasks by their id.
    clock : Clock
        Asked once a row is locked: before that, another server may hold it for a while.
    """

    def __init__(self, database: Database, server_id: str, schedules: Mapping[str, Schedule], clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._server_id = server_id
        self._schedules = schedules

    def register(self, texts: Mapping[str, str]) -> None:
        """Add rows for tasks that have none, and follow schedules that changed."""
        now = self._clock.now()

        def add(connection: sa.Connection) -> None:
            for task_id, text in sorted(texts.items()):
                values = {"task_id": task_id, "schedule": text, "enabled": True}
                due = self._schedules[task_id].next_after(now)
                connection.execute(upsert(maintenance_task, ["task_id"], update=[]).values(**values, next_due=due))
                has_other = sa.and_(_task.task_id == task_id, _task.schedule != text)
                connection.execute(sa.update(maintenance_task).where(has_other).values(schedule=text, next_due=due))

        self._database.retrying(add, is_idempotent=True)

    def due(self) -> list[str]:
        """Return the ids of tasks that are due, or whose holder has died; cheap, for it is asked every second."""
        now = self._clock.now()
        with self._database.read() as connection:
            rows = connection.execute(sa.select(maintenance_task).where(_task.task_id.in_(self._schedules))).all()
        return sorted(
            row.task_id
            for row in rows
            if not _is_held(row, now) and (row.lease_owner is not None or (row.enabled and self._is_due(row, now)))
        )

    def claim_due(self, task_id: str, *, may_wait: bool = False) -> Claim | None:
        """Begin a run of a task that is due, unless another server was faster.

        A task that may wait until it is wanted missed nothing when it begins late.
        """

        def claim(connection: sa.Connection) -> Claim | None:
            row = self._lock(connection, task_id)
            now = self._clock.now()
            if row is None or _is_held(row, now):
                return None
            self._mark_lost(connection, row, now)
            if not row.enabled or not self._is_due(row, now):
                return None
            following = self._schedules[task_id].next_after(now)
            if row.next_due is None or row.next_due > now:  # a clock jumped: nothing was missed
                is_it = _task.task_id == task_id
                connection.execute(sa.update(maintenance_task).where(is_it).values(next_due=following))
                return None
            is_late = now - row.next_due > CATCH_UP_SECONDS and not may_wait
            started_by = CATCH_UP if is_late else SCHEDULE
            return self._begin(connection, task_id, started_by, now, next_due=following)

        return self._database.retrying(claim)

    def claim_now(self, principal: Principal, task_id: str) -> Claim:
        """Begin a run that somebody asked for.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_task``; 409 ``task_running``.
        """

        def claim(connection: sa.Connection) -> Claim:
            row = self._lock(connection, task_id) if task_id in self._schedules else None
            now = self._clock.now()
            if row is None:
                raise ServerRefusalError(404, "unknown_task", f"there is no maintenance task {task_id[:64]}")
            if _is_held(row, now):
                raise ServerRefusalError(409, "task_running", f"{task_id} is running already")
            self._mark_lost(connection, row, now)
            begun = self._begin(connection, task_id, principal.name, now)
            audit.record(
                connection,
                principal,
                action="maintenance.run",
                object_type="maintenance_task",
                object_id=task_id,
                detail={"run_id": begun.run_id},
                now=now,
            )
            return begun

        return self._database.retrying(claim)

    def renew(self, task_ids: Collection[str]) -> set[str]:
        """Prolong this server's leases and return the tasks among `task_ids` that it still holds."""

        def prolong(connection: sa.Connection) -> set[str]:
            is_mine = sa.and_(_task.task_id.in_(sorted(task_ids)), _task.lease_owner == self._server_id)
            held = connection.execute(sa.select(_task.task_id).where(is_mine).with_for_update()).scalars().all()
            until = self._clock.now() + LEASE_SECONDS
            connection.execute(sa.update(maintenance_task).where(is_mine).values(lease_until=until))
            return set(held)

        return self._database.retrying(prolong, is_idempotent=True)

    def finish(
        self,
        claim: Claim,
        status: str,
        detail: Mapping[str, Any] | None,
        *,
        is_due_again: bool = False,
        replaces_earlier: bool = False,
    ) -> bool:
        """Write down how a run ended and give its lease back; False if it was marked as lost meanwhile.

        A run that was cut short may leave its task due again, for whichever server looks next. One that went well may
        take the place of earlier ones that did.
        """

        def end(connection: sa.Connection) -> bool:
            connection.execute(sa.select(_task.task_id).where(_task.task_id == claim.task_id).with_for_update())
            is_it = sa.and_(_run.run_id == claim.run_id, _run.status == RUNNING)
            if connection.execute(sa.select(_run.run_id).where(is_it)).first() is None:
                return False
            values = {
                "status": status,
                "finished_at": self._clock.now(),
                "detail": dict(detail) if detail is not None else None,
            }
            connection.execute(sa.update(maintenance_run).where(is_it).values(**values))
            if replaces_earlier and status in WENT_WELL:
                went_well = sa.and_(_run.task_id == claim.task_id, _run.status.in_(WENT_WELL))
                connection.execute(sa.delete(maintenance_run).where(went_well, _run.run_id != claim.run_id))
            is_mine = sa.and_(_task.task_id == claim.task_id, _task.lease_owner == self._server_id)
            given_back: dict[str, Any] = {"lease_owner": None, "lease_until": None}
            if is_due_again:
                given_back["next_due"] = self._clock.now()
            connection.execute(sa.update(maintenance_task).where(is_mine).values(**given_back))
            return True

        return self._database.retrying(end)

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Return the rows of tasks with their latest run, by id."""
        ordinal = sa.func.row_number().over(
            partition_by=_run.task_id, order_by=(_run.started_at.desc(), _run.run_id.desc())
        )
        ranked = sa.select(maintenance_run, ordinal.label("ordinal")).subquery()
        with self._database.read() as connection:
            latest = connection.execute(sa.select(ranked).where(ranked.c.ordinal == 1)).all()
            rows = connection.execute(sa.select(maintenance_task)).all()
        last = {row.task_id: _shown(row) for row in latest}
        return {
            row.task_id: {
                "schedule": row.schedule,
                "enabled": row.enabled,
                "next_due_unix": row.next_due,
                "running_on": row.lease_owner,
                "last_run": last.get(row.task_id),
            }
            for row in rows
        }

    def runs(self, task_id: str, limit: int) -> list[dict[str, Any]]:
        """Return a task's runs, latest first.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_task``.
        """
        if task_id not in self._schedules:
            raise ServerRefusalError(404, "unknown_task", f"there is no maintenance task {task_id[:64]}")
        query = sa.select(maintenance_run).where(_run.task_id == task_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_run.started_at.desc(), _run.run_id.desc()).limit(limit))
            return [_shown(row) for row in rows]

    def _is_due(self, row: sa.Row[Any], now: float) -> bool:
        """Tell whether a task is due, or due further away than its schedule ever reaches."""
        if row.next_due is None or row.next_due <= now:
            return True
        return bool(row.next_due > self._schedules[row.task_id].next_after(now) + _SLACK_SECONDS)

    def _begin(self, connection: sa.Connection, task_id: str, started_by: str, now: float, **values: float) -> Claim:
        begun = Claim(secrets.token_hex(8), task_id, started_by[:160])
        connection.execute(
            sa.update(maintenance_task)
            .where(_task.task_id == task_id)
            .values(lease_owner=self._server_id, lease_until=now + LEASE_SECONDS, **values)
        )
        connection.execute(
            sa.insert(maintenance_run).values(
                run_id=begun.run_id,
                task_id=task_id,
                started_by=begun.started_by,
                server_id=self._server_id,
                status=RUNNING,
                started_at=now,
            )
        )
        return begun

    @staticmethod
    def _lock(connection: sa.Connection, task_id: str) -> sa.Row[Any] | None:
        query = sa.select(maintenance_task).where(_task.task_id == task_id).with_for_update()
        return connection.execute(query).first()

    @staticmethod
    def _mark_lost(connection: sa.Connection, row: sa.Row[Any], now: float) -> None:
        """Mark the runs of a holder that died; nobody holds the task now."""
        is_left = sa.and_(_run.task_id == row.task_id, _run.status == RUNNING)
        connection.execute(sa.update(maintenance_run).where(is_left).values(status=LOST, finished_at=now))
        if row.lease_owner is not None:
            connection.execute(
                sa.update(maintenance_task)
                .where(_task.task_id == row.task_id)
                .values(lease_owner=None, lease_until=None)
            )


def _is_held(row: sa.Row[Any], now: float) -> bool:
    """Tell whether a lease holds; one that ends later than any renewal reaches was written by a clock that is wrong."""
    return row.lease_owner is not None and now < row.lease_until <= now + 2.0 * LEASE_SECONDS


def _shown(row: sa.Row[Any]) -> dict[str, Any]:
    return {
        "run_id": row.run_id,
        "task_id": row.task_id,
        "started_by": row.started_by,
        "server_id": row.server_id,
        "status": row.status,
        "started_at_unix": row.started_at,
        "finished_at_unix": row.finished_at,
        "detail": row.detail,
    }
