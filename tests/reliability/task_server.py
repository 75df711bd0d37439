"""A server process that runs one maintenance task: ``task_server.py URL FOLDER``; a lease lasts three seconds.

Every run of the task appends a line ``began PID`` to FOLDER/runs, and waits until FOLDER/go exists.
"""

import os
import sys
import time
from datetime import UTC
from pathlib import Path
from types import SimpleNamespace

from eguard.clock import SystemClock
from eguard.fleet.database import Database
from eguard.server.services import maintenance, scheduler
from eguard.server.tasks.task import Task

LEASE_SECONDS = 3.0


def work(folder):
    def run(_context, progress):
        with (folder / "runs").open("a") as stream:
            stream.write(f"began {os.getpid()}\n")
        while not (folder / "go").exists():
            progress("wait", 0, 1)
            time.sleep(0.02)
        return {"pid": os.getpid()}

    return run


def serve(url, folder):
    """Return a running scheduler with the one task, due every 2 s."""
    maintenance.LEASE_SECONDS = LEASE_SECONDS
    scheduler._RENEW_SECONDS = LEASE_SECONDS / 4.0
    database = Database(url)
    clock = SystemClock()
    found = scheduler.Scheduler(
        database, [Task("work", "Works.", "every 2s", work(folder))], clock, zone=UTC, poll_seconds=0.05
    )
    found.start(SimpleNamespace(metrics=SimpleNamespace(count_task_run=lambda *_: None)))
    return found


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
    while True:
        time.sleep(1.0)
