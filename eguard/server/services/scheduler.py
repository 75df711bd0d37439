"""The clock of maintenance: begins what is due, keeps its leases, and ends with the server.

One thread looks every second and renews leases; a task that runs has a thread of its own. Several servers on one
database run a task once between them (`eguard.server.services.maintenance`).
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, Final

import structlog

from eguard.clock import Clock, SystemClock
from eguard.errors import EguardError, FleetStoreError, ServerRefusalError
from eguard.fleet.database import Database
from eguard.server.principal import Principal
from eguard.server.services.maintenance import (
    CATCH_UP,
    LEASE_SECONDS,
    SCHEDULE,
    WENT_WELL,
    Claim,
    MaintenanceLedger,
)
from eguard.server.services.schedules import local_zone, parse_schedule
from eguard.server.tasks.task import Task

if TYPE_CHECKING:
    from eguard.server.context import ServerContext

POLL_SECONDS: Final = 1.0
#: How long the end of the server waits for a task that runs; what does not end by then is found as lost.
STOP_SECONDS: Final = 4.0
#: Leases are renewed this often, so that three renewals may fail before one is lost.
_RENEW_SECONDS: Final = LEASE_SECONDS / 4.0

_STOPPED: Final = "task_stopped"

_log = structlog.get_logger("eguard.server")


class Scheduler:
    """Runs maintenance tasks.

    Parameters
    ----------
    database : Database
        The fleet's database; its migrations are done.
    tasks : iterable of Task
        What there is to run.
    clock : Clock, optional
        Tells what is due.
    zone : tzinfo, optional
        Where lines of cron are read; this machine's by default.
    poll_seconds : float
        How often it looks.

    Raises
    ------
    ConfigError
        A task's schedule cannot be read.
    """

    def __init__(
        self,
        database: Database,
        tasks: Iterable[Task],
        clock: Clock | None = None,
        *,
        zone: tzinfo | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.server_id = f"{socket.gethostname()[:40]}-{secrets.token_hex(4)}"
        self._tasks = {task.task_id: task for task in tasks}
        self._poll_seconds = poll_seconds
        where = zone or local_zone()
        schedules = {task_id: parse_schedule(task.schedule, where) for task_id, task in self._tasks.items()}
        self._ledger = MaintenanceLedger(database, self.server_id, schedules, clock or SystemClock())
        self._context: ServerContext | None = None
        self._stopping = threading.Event()
        self._loop: threading.Thread | None = None
        self._lock = threading.Lock()
        self._running: dict[str, threading.Thread] = {}
        self._lost: set[str] = set()

    def start(self, context: ServerContext) -> None:
        """Begin to look for what is due.

        Raises
        ------
        FleetStoreError
            The database cannot be used.
        """
        self._context = context
        self._ledger.register({task_id: task.schedule for task_id, task in self._tasks.items()})
        self._stopping.clear()
        self._loop = threading.Thread(target=self._look, name="scheduler", daemon=True)
        self._loop.start()

    def stop(self) -> None:
        """End within 5 s: begin nothing more, and have what runs end at its next step."""
        self._stopping.set()
        deadline = time.monotonic() + STOP_SECONDS
        with self._lock:
            threads = [*self._running.values()]
        for thread in [self._loop, *threads]:
            if thread is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        self._context = None

    def trigger(self, principal: Principal, task_id: str) -> str:
        """Begin a task now and return the run's id.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_task``; 409 ``task_running``; 503 ``scheduler_stopped``.
        """
        if self._context is None or self._stopping.is_set():
            raise ServerRefusalError(503, "scheduler_stopped", "this server runs no tasks now")
        if task_id in self._busy():
            raise ServerRefusalError(409, "task_running", f"{task_id} is running already")
        claim = self._ledger.claim_now(principal, task_id)
        self._begin(claim)
        return claim.run_id

    def tasks(self) -> list[dict[str, Any]]:
        """Return every task with its schedule, when it is due, where it runs and how it went last."""
        rows = self._ledger.tasks()
        unknown = {"schedule": "", "enabled": False, "next_due_unix": None, "running_on": None, "last_run": None}
        return [
            {"task_id": task.task_id, "description": task.description, **rows.get(task.task_id, unknown)}
            for task in self._tasks.values()
        ]

    def runs(self, task_id: str, limit: int = 50) -> list[dict[str, Any]]:
        """Return a task's runs, latest first.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_task``.
        """
        return self._ledger.runs(task_id, limit)

    def _look(self) -> None:
        renewed_at = time.monotonic()
        while not self._stopping.is_set():
            try:
                if time.monotonic() - renewed_at >= _RENEW_SECONDS:
                    self._renew()
                    renewed_at = time.monotonic()
                self._begin_what_is_due()
            except FleetStoreError as error:  # what is due stays due
                _log.warning("maintenance tasks wait for the database", reason=error.context.get("reason"))
            self._stopping.wait(self._poll_seconds)

    def _begin_what_is_due(self) -> None:
        busy = self._busy()
        for task_id in self._ledger.due():
            if task_id not in busy and not self._stopping.is_set() and self._is_wanted(task_id):
                claim = self._ledger.claim_due(task_id, may_wait=self._tasks[task_id].is_wanted is not None)
                if claim is not None:
                    self._begin(claim)

    def _is_wanted(self, task_id: str) -> bool:
        is_wanted, context = self._tasks[task_id].is_wanted, self._context
        return is_wanted is None or (context is not None and is_wanted(context))

    def _renew(self) -> None:
        busy = self._busy()
        if busy:
            held = self._ledger.renew(busy)
            with self._lock:
                self._lost |= busy - held

    def _busy(self) -> set[str]:
        with self._lock:
            return set(self._running)

    def _begin(self, claim: Claim) -> None:
        thread = threading.Thread(target=self._run, args=(claim,), name=f"task-{claim.task_id}", daemon=True)
        with self._lock:
            self._lost.discard(claim.task_id)
            self._running[claim.task_id] = thread
        thread.start()

    def _run(self, claim: Claim) -> None:
        began = time.monotonic()
        log = _log.bind(task_id=claim.task_id, run_id=claim.run_id)
        task = self._tasks[claim.task_id]
        is_quiet = task.is_routine and claim.started_by in {SCHEDULE, CATCH_UP}
        (log.debug if is_quiet else log.info)("maintenance task began", started_by=claim.started_by)
        try:
            status, detail = self._outcome(claim.task_id)
            seconds = time.monotonic() - began
            is_cut_short = detail.get("code") == _STOPPED and claim.started_by in {SCHEDULE, CATCH_UP}
            kept = self._ledger.finish(
                claim, status, detail, is_due_again=is_cut_short, replaces_earlier=task.is_routine
            )
            if kept:
                told = log.debug if is_quiet and status in WENT_WELL else log.info
                told("maintenance task ended", status=status, seconds=round(seconds, 3))
            else:
                status = "lost"
                log.warning("maintenance task ended after its lease was lost", seconds=round(seconds, 3))
            context = self._context
            if context is not None:
                context.metrics.count_task_run(claim.task_id, status, seconds)
        except FleetStoreError as error:
            log.warning("how a maintenance task ended could not be kept", reason=error.context.get("reason"))
        finally:
            with self._lock:
                self._running.pop(claim.task_id, None)

    def _outcome(self, task_id: str) -> tuple[str, dict[str, Any]]:
        context = self._context
        if context is None:
            return "failed", {"code": "stopped", "message": "the server was stopped"}
        try:
            detail = self._tasks[task_id].function(context, self._progress(task_id))
        except EguardError as error:
            code = error.reason if isinstance(error, ServerRefusalError) else error.code
            return "failed", {"code": code, "message": error.message, "remedy": error.remedy}
        except Exception as error:  # noqa: BLE001 - a task that is broken must not take the others with it
            _log.exception("maintenance task failed", task_id=task_id)
            return "failed", {"code": "internal_error", "message": type(error).__name__}
        return ("skipped" if detail.get("skipped") else "success"), detail

    def _progress(self, task_id: str) -> Callable[[str, int, int], None]:
        """Return the callback that ends a run when the server stops or its lease was lost."""

        def step(_label: str, _done: int, _total: int) -> None:
            if self._stopping.is_set():
                raise ServerRefusalError(503, _STOPPED, "the server is stopping")
            with self._lock:
                is_lost = task_id in self._lost
            if is_lost:
                raise ServerRefusalError(409, "lease_lost", "another server may hold the task now")

        return step
