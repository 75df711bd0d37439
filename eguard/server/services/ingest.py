"""Uploads of baselines: many at a time into one transaction.

Making a commit durable costs the same for one batch as for ten, so one thread writes, and takes along everything that
waited while it wrote (group commit). Nobody waits for company: a batch that comes alone is written alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from dataclasses import dataclass
from typing import Final

from eguard.errors import FleetStoreError, ServerRefusalError
from eguard.fleet.store import FleetStore
from eguard.wire.baseline import ReceivedBatch, UpsertResult

#: Batches, and rows but for the last batch's, in one transaction at most: other writers want their turn.
GROUP_BATCHES: Final = 32
GROUP_ROWS: Final = 4096
#: Batches that may wait; the next one is told to come back.
QUEUE_BATCHES: Final = 512
_STOP_SECONDS: Final = 10.0


@dataclass(slots=True, frozen=True)
class _Waiting:
    batch: ReceivedBatch
    incarnation: str | None
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[UpsertResult]


class Ingest:
    """Takes uploads in.

    Parameters
    ----------
    store : FleetStore
        Where they go.
    max_bytes : int
        Cap on a body.
    """

    def __init__(self, store: FleetStore, max_bytes: int) -> None:
        self._store = store
        self.max_bytes = max_bytes
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many batches wait for the writer."""
        return self._queue.qsize()

    async def take(self, batch: ReceivedBatch, incarnation: str | None = None) -> UpsertResult:
        """Store an upload; it is on disk when this returns.

        Parameters
        ----------
        batch : ReceivedBatch
            As `eguard.wire.baseline` read it.
        incarnation : str, optional
            Of the agent's state folder; the latest one known if it says nothing.

        Raises
        ------
        ServerRefusalError
            503 ``busy``: too much waits already.
        FleetStoreError
            The database refused; nothing was stored.
        """
        if self.waiting >= QUEUE_BATCHES:
            raise ServerRefusalError(503, "busy", "the server has too many uploads to take in; come back")
        self._start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[UpsertResult] = loop.create_future()
        self._queue.put(_Waiting(batch, incarnation, loop, future))
        return await future

    def close(self) -> None:
        """Write what waits, and end."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(_STOP_SECONDS)

    def _start(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._write_for_ever, name="ingest", daemon=True)
                    self._thread.start()

    def _write_for_ever(self) -> None:
        while (first := self._queue.get()) is not None:
            group, rows, is_last = [first], len(first.batch.baselines), False
            with contextlib.suppress(queue.Empty):
                while len(group) < GROUP_BATCHES and rows < GROUP_ROWS and not is_last:
                    following = self._queue.get_nowait()
                    if following is None:
                        is_last = True
                    else:
                        group.append(following)
                        rows += len(following.batch.baselines)
            self._write(group)
            if is_last:
                return

    def _write(self, group: list[_Waiting]) -> None:
        try:
            results = self._store.upsert_group([(each.batch, each.incarnation) for each in group])
        except FleetStoreError as error:
            self._write_singly(group, error)
        except BaseException as error:  # noqa: BLE001 - whoever waits is told, and the writer goes on
            _settle([(each, error) for each in group])
        else:
            _settle(list(zip(group, results, strict=True)))

    def _write_singly(self, group: list[_Waiting], error: FleetStoreError) -> None:
        """Write each batch by itself, so that one which the database will not have spoils no other."""
        if len(group) == 1:
            _settle([(group[0], error)])
            return
        for each in group:
            self._write([each])


def _settle(answered: list[tuple[_Waiting, UpsertResult | BaseException]]) -> None:
    """Tell everybody, with one wake-up of each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, UpsertResult | BaseException]]] = {}
    for waiting, outcome in answered:
        by_loop.setdefault(waiting.loop, []).append((waiting, outcome))
    for loop, told in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop has ended; nobody waits there any more
            loop.call_soon_threadsafe(_tell, told)


def _tell(told: list[tuple[_Waiting, UpsertResult | BaseException]]) -> None:
    for waiting, outcome in told:
        if waiting.future.done():
            continue
        if isinstance(outcome, BaseException):
            waiting.future.set_exception(outcome)
        else:
            waiting.future.set_result(outcome)
