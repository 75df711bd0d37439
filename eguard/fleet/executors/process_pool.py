"""A pool of processes on this machine."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, ClassVar, Final, NamedTuple, Self

from eguard.errors import FleetStoreError
from eguard.fleet.executors import Executor, Result

#: How often the pool is made anew after a worker died, until the cycle is given up.
MAX_RESTARTS: Final = 2


class _Waiting(NamedTuple):
    function: Callable[..., Any]
    call: tuple[Any, ...]
    future: Future[Any]


class ProcessPool(Executor):
    """Processes of this machine. They are started afresh, so that they share no thread and no lock with a server.

    Parameters
    ----------
    workers : int
    """

    sees_files: ClassVar[bool] = True

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._restarts = 0
        self._pool = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[..., Result], calls: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
        """Yield what `function` returns for each tuple of arguments. What a worker that died had is done again.

        Raises
        ------
        FleetStoreError
            ``engine_unavailable``: workers died again and again.
        """
        waiting: deque[_Waiting] = deque()
        for call in calls:
            waiting.append(self._submit(function, call))
            if len(waiting) > self._workers:  # one more than are at work: they are near, and memory is shared
                yield self._take(waiting)
        while waiting:
            yield self._take(waiting)

    def _take(self, waiting: deque[_Waiting]) -> Any:
        while True:
            try:
                result = waiting[0].future.result()
            except BrokenProcessPool as error:
                self._restart(error)
                lost = list(waiting)
                waiting.clear()
                waiting.extend(self._submit(each.function, each.call) for each in lost)
            else:
                waiting.popleft()
                return result

    def _submit(self, function: Callable[..., Any], call: tuple[Any, ...]) -> _Waiting:
        try:
            future = self._pool.submit(function, *call)
        except BrokenProcessPool as error:
            # A pool that is broken takes nothing; whoever asks for the result is told, and starts another.
            future = Future()
            future.set_exception(error)
        return _Waiting(function, call, future)

    def _restart(self, error: BrokenProcessPool) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            raise FleetStoreError(
                "processes that aggregate ended again and again",
                remedy="Look for the system's reason, often too little memory, or set EGUARD_AGGREGATION_WORKERS to 1.",
                reason="engine_unavailable",
            ) from error
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(self._workers, mp_context=get_context("spawn"), initializer=_begin_work)
        for _ in range(self._workers):  # each starts a process, which loads its libraries while votes are read
            pool.submit(os.getpid)
        return pool


def _begin_work() -> None:
    """Leave interruptions to the parent, and end with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
