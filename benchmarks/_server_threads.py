"""How much a server's threads work: on a machine that others load as well, this is what its speed is judged by."""

from __future__ import annotations

from typing import NamedTuple

import psutil


class ThreadSeconds(NamedTuple):
    """CPU seconds of a server: of its event loop, of the thread that worked most beside it, of all."""

    event_loop: float
    busiest_other: float
    total: float


def thread_seconds(pid: int) -> dict[int, float]:
    """Return the CPU seconds of each thread of a process so far."""
    return {thread.id: thread.user_time + thread.system_time for thread in psutil.Process(pid).threads()}


def spent_since(pid: int, before: dict[int, float]) -> ThreadSeconds:
    """Return what the threads of a process worked since `before`; those that ended meanwhile are left out."""
    spent = {thread: seconds - before.get(thread, 0.0) for thread, seconds in thread_seconds(pid).items()}
    others = [seconds for thread, seconds in spent.items() if thread != pid]
    return ThreadSeconds(spent.get(pid, 0.0), max(others, default=0.0), sum(spent.values()))
