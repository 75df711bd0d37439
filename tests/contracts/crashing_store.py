"""Run one operation on a store and kill this process at the N-th SQL statement of its write transaction.

Called by `test_fleet_crash.py` as ``python crashing_store.py FOLDER OPERATION``. For N = 1, 2, ... a child is forked
that kills itself with SIGKILL just before statement N (the COMMIT counts as one), then the store is looked at. When a
child comes through alive every point has been tried. Prints one JSON object a child.
"""

import json
import os
import shutil
import signal
import sys

import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.fleet import FleetStore
from eguard.wire import BaselineRow

MAX_STATEMENTS = 60


def row(key, seq, counts):
    names = ("process_exec", "alert")
    return BaselineRow(
        process_key=key,
        event_distribution={name: count / 100 for name, count in zip(names, counts, strict=True) if count},
        sample_count=100,
        entropy_threshold=3.0,
        learned_at_unix=0.0,
        seq=seq,
    )


def prepare(url):
    """Make a store with one generation, and other votes waiting for the next one."""
    with FleetStore.create(url, SimulatedClock(1e9)) as store:
        for seq, counts in ((1, (100, 0)), (2, (30, 70))):
            for agent in ("a", "b", "c"):
                store.upsert_baselines(agent, "first", [row(f"p{number}:init", seq, counts) for number in range(5)])
            if seq == 1:
                store.aggregate()


def operate(store, operation):
    if operation == "aggregate":
        store.aggregate()
    elif operation == "rollback":
        store.rollback(1)
    else:
        store.upsert_baselines("a", "first", [row(f"p{number}:init", 3, (50, 50)) for number in range(5)])


def kill_before_statement(store, number):
    """Count the statements of the writer's connection; the read transaction of an aggregation has its own."""
    seen = 0

    def count(*_):
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    writer, _ = store._database._engines
    sa.event.listen(writer, "before_cursor_execute", count)
    sa.event.listen(writer, "commit", count)


def look(url, child_status):
    with FleetStore(url, SimulatedClock(1e9)) as store:
        replay = store.upsert_baselines("a", "first", [row(f"p{number}:init", 2, (30, 70)) for number in range(5)])
        rows = store.fleet_rows()
        return {
            "killed": os.WIFSIGNALED(child_status),
            "generation": store.current_generation(),
            "rows": len(rows),
            "values": sorted({tuple(sorted(item.median_distribution)) for item in rows}),
            "health": len(store.health_history()),
            "stale": replay.stale,
        }


def main():
    folder, operation = sys.argv[1:]
    prepare(f"sqlite:///{folder}/prepared.db")
    for number in range(1, MAX_STATEMENTS):
        url = f"sqlite:///{shutil.copy(f'{folder}/prepared.db', f'{folder}/{number}.db')}"
        child = os.fork()
        if child == 0:
            with FleetStore(url, SimulatedClock(1e9)) as store:
                kill_before_statement(store, number)
                operate(store, operation)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        seen = look(url, status)
        sys.stdout.write(json.dumps(seen) + "\n")
        if not seen["killed"]:
            return


if __name__ == "__main__":
    main()
