"""Servers that are processes: a task runs once between them, and a run whose server was killed is found."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from eguard.fleet.database import Database
from eguard.fleet.tables import maintenance_run, maintenance_task

PROGRAM = Path(__file__).with_name("task_server.py")


@contextmanager
def servers(url, folder, count):
    started = [
        subprocess.Popen([sys.executable, str(PROGRAM), url, str(folder)], stdout=subprocess.DEVNULL)
        for _ in range(count)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def wait_for(condition):
    deadline = time.monotonic() + 20.0
    while not (found := condition()):
        assert time.monotonic() < deadline, "this did not come"
        time.sleep(0.02)
    return found


@pytest.fixture
def database(migrated_database_url):
    database = Database(migrated_database_url)
    yield database
    database.dispose()


def runs(database):
    with database.read() as connection:
        return connection.execute(sa.select(maintenance_run).order_by(maintenance_run.c.started_at)).all()


def test_a_run_whose_server_was_killed_is_lost_and_the_other_server_goes_on(database, migrated_database_url, tmp_path):
    def begun():
        path = tmp_path / "runs"
        return [int(line.split()[1]) for line in path.read_text().splitlines()] if path.exists() else []

    with servers(migrated_database_url, tmp_path, 2):
        (first,) = wait_for(begun)
        time.sleep(3.6)  # longer than a lease, and than the task's interval: it is renewed, and nobody else begins
        assert begun() == [first]
        assert [row.status for row in runs(database)] == ["running"]
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: len(begun()) == 2)
        second = begun()[1]
        assert second != first
        assert [row.status for row in runs(database)] == ["lost", "running"]
        (tmp_path / "go").touch()
        wait_for(lambda: runs(database)[1].status == "success")
        assert runs(database)[1].detail == {"pid": second}


def test_two_servers_that_are_always_due_never_run_a_task_twice_at_once(database, migrated_database_url, tmp_path):
    (tmp_path / "go").touch()
    with servers(migrated_database_url, tmp_path, 2):
        wait_for(lambda: runs(database))
        for _ in range(60):  # keep it due, so that both servers reach for it at every look
            with database.write() as connection:
                connection.execute(sa.update(maintenance_task).values(next_due=time.time() - 1.0))
            time.sleep(0.05)
    finished = [row for row in runs(database) if row.status == "success"]
    assert len(finished) > 10
    assert len({row.server_id for row in finished}) == 2
    assert Counter(row.status for row in runs(database)).keys() <= {"success", "running"}
    ordered = sorted(finished, key=lambda row: row.started_at)
    assert all(one.finished_at <= other.started_at for one, other in pairwise(ordered))
