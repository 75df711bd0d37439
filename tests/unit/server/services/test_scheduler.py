"""Tasks run when they are due, once between all servers, and every run is written down."""

import threading
import time
from collections import Counter
from datetime import UTC
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.errors import ConfigError, FleetStoreError, ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import audit_log, maintenance_run, maintenance_task
from eguard.server.metrics import Metrics
from eguard.server.principal import Principal, Role
from eguard.server.services.scheduler import Scheduler
from eguard.server.tasks.task import Task

NOW = 1_772_000_000.0
ADMIN = Principal("ada", Role.ADMIN)
HOUR = 3600.0


class Work:
    """A task that counts its runs, and waits where it is told to."""

    def __init__(self):
        self.runs = 0
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()
        self.error = None
        self.detail = {"done": 1}

    def __call__(self, _context, progress):
        self.runs += 1
        self.began.set()
        while not self.may_end.wait(0.01):
            progress("wait", 0, 1)
        if self.error is not None:
            raise self.error
        return self.detail


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def clock():
    return SimulatedClock(NOW)


@pytest.fixture
def server(fleet, work, clock):
    """Makes servers on the one database; each stops at the end."""
    made = []

    def make(*, database=fleet, clock=clock, task=work, schedule="every 6h"):
        scheduler = Scheduler(database, [Task("work", "Works.", schedule, task)], clock, zone=UTC, poll_seconds=0.01)
        scheduler.start(SimpleNamespace(metrics=Metrics(database, clock)))
        made.append(scheduler)
        return scheduler

    yield make
    work.may_end.set()
    for scheduler in made:
        scheduler.stop()


def wait_for(condition):
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline, "this did not come"
        time.sleep(0.005)


def ended(scheduler, count):
    def is_so():
        runs = scheduler.runs("work")
        return len(runs) == count and all(run["status"] != "running" for run in runs)

    wait_for(is_so)
    return scheduler.runs("work")


def test_a_task_runs_when_it_is_due_and_not_before(server, work, clock):
    scheduler = server()
    time.sleep(0.1)
    assert work.runs == 0
    clock.advance_to(NOW + 6 * HOUR)
    (run,) = ended(scheduler, 1)
    assert (run["status"], run["started_by"], run["detail"]) == ("success", "schedule", {"done": 1})
    assert (run["started_at_unix"], run["server_id"]) == (NOW + 6 * HOUR, scheduler.server_id)
    (task,) = scheduler.tasks()
    assert (task["next_due_unix"], task["running_on"], task["last_run"]) == (NOW + 12 * HOUR, None, run)
    clock.advance_to(NOW + 12 * HOUR)
    assert len(ended(scheduler, 2)) == 2


def test_time_in_which_no_server_ran_is_made_up_for_once(server, work, clock):
    server().stop()
    clock.advance_to(NOW + 100 * HOUR)
    scheduler = server()
    (run,) = ended(scheduler, 1)
    assert run["started_by"] == "catch-up"
    time.sleep(0.1)
    assert work.runs == 1
    assert scheduler.tasks()[0]["next_due_unix"] == NOW + 106 * HOUR


def test_two_servers_on_one_database_run_a_task_once(server, fleet, clock):
    works = [Work(), Work()]
    second = Database(fleet._url)
    one, other = server(task=works[0]), server(task=works[1], database=second)
    for cycle in range(1, 9):
        clock.advance_to(NOW + cycle * 6 * HOUR)
        ended(one, cycle)
    assert works[0].runs + works[1].runs == 8
    assert Counter(run["status"] for run in one.runs("work")) == {"success": 8}
    other.stop()
    second.dispose()


def test_while_a_task_runs_nobody_else_begins_it(server, work):
    work.may_end.clear()
    one, other = server(), server()
    run_id = one.trigger(ADMIN, "work")
    work.began.wait(5.0)
    for scheduler in (one, other):
        with pytest.raises(ServerRefusalError) as caught:
            scheduler.trigger(ADMIN, "work")
        assert (caught.value.status, caught.value.reason) == (409, "task_running")
    assert other.tasks()[0]["running_on"] == one.server_id
    work.may_end.set()
    (run,) = ended(one, 1)
    assert (run["run_id"], run["started_by"], run["status"]) == (run_id, "ada", "success")
    other.trigger(ADMIN, "work")
    assert len(ended(other, 2)) == 2


def test_a_run_that_somebody_asked_for_is_recorded_and_moves_no_due_time(server, fleet):
    scheduler = server()
    due = scheduler.tasks()[0]["next_due_unix"]
    run_id = scheduler.trigger(ADMIN, "work")
    ended(scheduler, 1)
    assert scheduler.tasks()[0]["next_due_unix"] == due
    with fleet.read() as connection:
        (record,) = connection.execute(sa.select(audit_log)).all()
    assert (record.action, record.object_id, record.detail) == ("maintenance.run", "work", {"run_id": run_id})


def test_what_does_not_exist_is_refused(server):
    scheduler = server()
    for call in (lambda: scheduler.trigger(ADMIN, "lunch"), lambda: scheduler.runs("lunch")):
        with pytest.raises(ServerRefusalError) as caught:
            call()
        assert (caught.value.status, caught.value.reason) == (404, "unknown_task")


def test_failures_are_kept_with_their_cause_and_the_next_run_comes(server, work, clock):
    scheduler = server()
    work.error = ConfigError("the folder is gone", remedy="Make it.")
    scheduler.trigger(ADMIN, "work")
    (run,) = ended(scheduler, 1)
    assert run["status"] == "failed"
    assert run["detail"] == {"code": "config", "message": "the folder is gone", "remedy": "Make it."}
    work.error = KeyError("secret of the code")
    scheduler.trigger(ADMIN, "work")
    wait_for(lambda: len(scheduler.runs("work")) == 2 and scheduler.tasks()[0]["running_on"] is None)
    details = [one["detail"] for one in scheduler.runs("work")]
    assert {"code": "internal_error", "message": "KeyError"} in details
    work.error, work.detail = None, {"skipped": "nothing to do"}
    clock.advance_to(NOW + 6 * HOUR)
    assert ended(scheduler, 3)[0]["status"] == "skipped"


def leave_behind(fleet, lease_until, started_at=NOW - 50.0):
    """Write what a server that died leaves in the database."""
    with fleet.write() as connection:
        connection.execute(
            sa.insert(maintenance_task).values(
                task_id="work",
                schedule="every 6h",
                enabled=True,
                next_due=NOW + HOUR,
                lease_owner="dead",
                lease_until=lease_until,
            )
        )
        connection.execute(
            sa.insert(maintenance_run).values(
                run_id="r0",
                task_id="work",
                started_by="schedule",
                server_id="dead",
                status="running",
                started_at=started_at,
            )
        )


def test_the_run_of_a_server_that_died_is_lost_when_its_lease_expires(server, fleet, work, clock):
    leave_behind(fleet, lease_until=NOW + 10.0)
    scheduler = server()
    with pytest.raises(ServerRefusalError) as caught:
        scheduler.trigger(ADMIN, "work")
    assert caught.value.status == 409
    assert scheduler.runs("work")[0]["status"] == "running"
    clock.advance_to(NOW + 11.0)
    wait_for(lambda: scheduler.runs("work")[0]["status"] == "lost")
    assert scheduler.tasks()[0]["running_on"] is None
    assert work.runs == 0  # it is not due yet
    scheduler.trigger(ADMIN, "work")
    assert [run["status"] for run in ended(scheduler, 2)] == ["success", "lost"]


def test_a_lease_from_a_clock_years_ahead_holds_nothing(server, fleet):
    leave_behind(fleet, lease_until=NOW + 3.2e8)
    scheduler = server()
    wait_for(lambda: scheduler.runs("work")[0]["status"] == "lost")


class JumpingClock(SimulatedClock):
    """A clock that an operator sets."""

    def set_to(self, time_unix):
        self._now = time_unix


def test_a_clock_set_back_ten_years_does_not_silence_the_tasks(server, work):
    clock = JumpingClock(NOW)
    scheduler = server(clock=clock)
    clock.set_to(NOW - 3.2e8)
    wait_for(lambda: scheduler.tasks()[0]["next_due_unix"] == NOW - 3.2e8 + 6 * HOUR)
    assert work.runs == 0
    clock.set_to(NOW + 3.2e8)
    ended(scheduler, 1)
    time.sleep(0.1)
    assert work.runs == 1


def test_a_lease_is_renewed_while_the_task_runs(server, work, clock, monkeypatch):
    monkeypatch.setattr("eguard.server.services.scheduler._RENEW_SECONDS", 0.0)
    work.may_end.clear()
    one, other = server(), server()
    one.trigger(ADMIN, "work")
    work.began.wait(5.0)
    for step in range(1, 6):  # five leases' lengths, in steps that each leave the lease whole
        clock.advance_to(NOW + step * 50.0)
        time.sleep(0.15)
        assert other.tasks()[0]["running_on"] == one.server_id
    work.may_end.set()
    assert ended(one, 1)[0]["status"] == "success"


def test_a_run_whose_lease_was_taken_ends_at_its_next_step_and_stays_lost(server, fleet, work, monkeypatch):
    monkeypatch.setattr("eguard.server.services.scheduler._RENEW_SECONDS", 0.0)
    work.may_end.clear()
    scheduler = server()
    scheduler.trigger(ADMIN, "work")
    work.began.wait(5.0)
    with fleet.write() as connection:
        connection.execute(sa.update(maintenance_task).values(lease_owner="other", lease_until=NOW + 50.0))
        connection.execute(sa.update(maintenance_run).values(status="lost"))
    wait_for(lambda: not scheduler._busy())
    assert scheduler.runs("work")[0]["status"] == "lost"
    assert scheduler.tasks()[0]["running_on"] == "other"


def test_stopping_ends_a_run_at_its_next_step(server, fleet, work):
    work.may_end.clear()
    scheduler = server()
    scheduler.trigger(ADMIN, "work")
    work.began.wait(5.0)
    started = time.monotonic()
    scheduler.stop()
    assert time.monotonic() - started < 5.0
    (run,) = scheduler.runs("work")
    assert (run["status"], run["detail"]["code"]) == ("failed", "task_stopped")
    with pytest.raises(ServerRefusalError) as caught:
        scheduler.trigger(ADMIN, "work")
    assert caught.value.status == 503


def test_a_scheduled_run_that_was_cut_short_begins_again_with_the_next_server(server, work, clock):
    work.may_end.clear()
    scheduler = server()
    clock.advance_to(NOW + 6 * HOUR)
    assert work.began.wait(5.0)
    scheduler.stop()
    assert scheduler.runs("work")[0]["detail"]["code"] == "task_stopped"
    work.may_end.set()
    again = server()
    runs = ended(again, 2)
    assert sorted(run["status"] for run in runs) == ["failed", "success"]
    assert again.tasks()[0]["next_due_unix"] == NOW + 12 * HOUR


def test_a_changed_schedule_is_followed(server, clock):
    server().stop()
    scheduler = server(schedule="every 1h")
    task = scheduler.tasks()[0]
    assert (task["schedule"], task["next_due_unix"]) == ("every 1h", NOW + HOUR)


def test_a_disabled_task_is_not_run_by_the_clock(server, fleet, work, clock):
    scheduler = server()
    with fleet.write() as connection:
        connection.execute(sa.update(maintenance_task).values(enabled=False))
    clock.advance_to(NOW + 7 * HOUR)
    time.sleep(0.1)
    assert work.runs == 0
    assert scheduler.tasks()[0]["enabled"] is False


def test_a_database_that_is_away_is_waited_for(server, work, clock, monkeypatch):
    scheduler = server()
    is_away = threading.Event()
    due = scheduler._ledger.due

    def fail():
        if is_away.is_set():
            raise FleetStoreError("gone", reason="database_unavailable")
        return due()

    monkeypatch.setattr(scheduler._ledger, "due", fail)
    is_away.set()
    clock.advance_to(NOW + 6 * HOUR)
    time.sleep(0.1)
    assert work.runs == 0
    is_away.clear()
    ended(scheduler, 1)


def test_the_real_clock_and_the_machines_zone_are_the_defaults(fleet, work):
    scheduler = Scheduler(fleet, [Task("work", "Works.", "30 2 * * *", work)])
    scheduler.start(SimpleNamespace(metrics=Metrics(fleet)))
    assert scheduler.tasks()[0]["next_due_unix"] > time.time()
    scheduler.stop()
