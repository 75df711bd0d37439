"""Uploads of baselines: many at a time into one transaction.

Making a commit durable costs the same for one batch as for ten, so whoever holds the writer takes along everything that
waited meanwhile (group commit). Nobody waits for company: a batch that comes alone is written alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from eguard.errors import FleetStoreError
from eguard.fleet.store import FleetStore
from eguard.wire.baseline import ReceivedBatch, UpsertResult, receive_baseline_batch

#: Batches in one transaction at most: readers and other writers want their turn.
GROUP_BATCHES: Final = 32


@dataclass(slots=True)
class _Waiting:
    batch: ReceivedBatch
    incarnation: str | None
    result: UpsertResult | None = None
    error: FleetStoreError | None = None
    is_done: bool = field(default=False)


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
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        self._queue: list[_Waiting] = []

    def take(
        self, body: bytes, incarnation: str | None = None, check: Callable[[str], object] = lambda _: None
    ) -> UpsertResult:
        """Store an upload; it is on disk when this returns.

        Parameters
        ----------
        body : bytes
            The body, decompressed.
        incarnation : str, optional
            Of the agent's state folder; the latest one known if it says nothing.
        check : callable
            Called with the agent that the body speaks for, before anything is stored.

        Raises
        ------
        WireError, PayloadTooLargeError
            The body as a whole is refused.
        FleetStoreError
            The database refused; nothing was stored.
        """
        batch = receive_baseline_batch(body, self.max_bytes)
        check(batch.agent_id)
        waiting = _Waiting(batch, incarnation)
        with self._guard:
            self._queue.append(waiting)
        with self._writing:
            if not waiting.is_done:
                self._write_group(waiting)
        if waiting.error is not None:
            raise waiting.error
        assert waiting.result is not None
        return waiting.result

    def _write_group(self, mine: _Waiting) -> None:
        with self._guard:
            self._queue.remove(mine)
            group = [mine, *self._queue[: GROUP_BATCHES - 1]]
            del self._queue[: GROUP_BATCHES - 1]
        try:
            results = self._store.upsert_group([(each.batch, each.incarnation) for each in group])
        except FleetStoreError as error:
            self._write_singly(group, error)
            return
        for each, result in zip(group, results, strict=True):
            each.result, each.is_done = result, True

    def _write_singly(self, group: list[_Waiting], error: FleetStoreError) -> None:
        """Write each batch by itself, so that one which the database will not have spoils no other."""
        for each in group:
            each.is_done = True
            if len(group) == 1:
                each.error = error
                continue
            try:
                each.result = self._store.upsert_group([(each.batch, each.incarnation)])[0]
            except FleetStoreError as own:
                each.error = own
