"""Uploads wait for one writer, which takes along in one transaction what waited meanwhile."""

import asyncio
import threading
from contextlib import closing

import pytest

from eguard.errors import FleetStoreError, ServerRefusalError
from eguard.server.services import ingest
from eguard.server.services.ingest import GROUP_BATCHES, GROUP_ROWS, QUEUE_BATCHES, Ingest
from eguard.wire.baseline import BaselineRow, ReceivedBatch, UpsertResult

PATIENCE_SECONDS = 20.0
ROW = BaselineRow(
    process_key="bash:sshd",
    event_distribution={"alert": 1.0},
    sample_count=1,
    entropy_threshold=1.0,
    learned_at_unix=0.0,
    seq=1,
)


def batch(name, rows=1):
    return ReceivedBatch(name, "batch", [ROW] * rows, list(range(rows)), [])


class SlowStore:
    """Notes groups; holds the first one until it is told to go on, and refuses those with a batch of a bad agent."""

    def __init__(self, bad=()):
        self.groups, self.bad = [], dict(bad)
        self.is_writing, self.may_go_on = threading.Event(), threading.Event()

    def upsert_group(self, batches):
        names = [each.agent_id for each, _ in batches]
        self.groups.append(names)
        self.is_writing.set()
        assert self.may_go_on.wait(PATIENCE_SECONDS)
        for name in names:
            if name in self.bad:
                raise self.bad[name]
        return [UpsertResult(len(each.baselines), 0, 0, []) for each, _ in batches]


def take_all(store, batches):
    """Have one batch be written while the others come; return every outcome."""

    async def taking(uploads):
        first = asyncio.create_task(uploads.take(batches[0]))
        await asyncio.to_thread(store.is_writing.wait, PATIENCE_SECONDS)
        others = [asyncio.create_task(uploads.take(each)) for each in batches[1:]]
        await asyncio.sleep(0)  # each of them comes as far as the queue
        store.may_go_on.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    with closing(Ingest(store, 1_000_000)) as uploads:
        return asyncio.run(taking(uploads))


def test_a_lone_batch_is_written_alone_and_what_came_meanwhile_together():
    store = SlowStore()
    outcomes = take_all(store, [batch(f"a{number}") for number in range(4)])
    assert store.groups == [["a0"], ["a1", "a2", "a3"]]
    assert [outcome.accepted for outcome in outcomes] == [1, 1, 1, 1]


def test_a_group_has_so_many_batches_at_most():
    store = SlowStore()
    take_all(store, [batch(f"a{number}") for number in range(2 * GROUP_BATCHES + 2)])
    assert [len(group) for group in store.groups] == [1, GROUP_BATCHES, GROUP_BATCHES, 1]


def test_a_group_is_full_with_the_batch_that_reaches_the_number_of_rows():
    store = SlowStore()
    rows = GROUP_ROWS // 2
    take_all(store, [batch("a0"), batch("a1", rows), batch("a2", rows), batch("a3", 2 * rows), batch("a4")])
    assert store.groups == [["a0"], ["a1", "a2"], ["a3"], ["a4"]]


def test_a_batch_that_the_database_refuses_spoils_no_other():
    store = SlowStore({"a2": FleetStoreError("no", reason="database")})
    outcomes = take_all(store, [batch(f"a{number}") for number in range(4)])
    assert store.groups == [["a0"], ["a1", "a2", "a3"], ["a1"], ["a2"], ["a3"]]
    assert isinstance(outcomes.pop(2), FleetStoreError)
    assert [outcome.accepted for outcome in outcomes] == [1, 1, 1]


def test_whoever_waits_is_told_of_an_error_that_nobody_foresaw_and_the_writer_goes_on():
    store = SlowStore({"a0": ZeroDivisionError()})
    outcomes = take_all(store, [batch("a0"), batch("a1")])
    assert isinstance(outcomes[0], ZeroDivisionError)
    assert outcomes[1].accepted == 1


def test_beyond_so_many_waiting_batches_the_next_is_told_to_come_back(monkeypatch):
    monkeypatch.setattr(ingest, "QUEUE_BATCHES", 2)
    assert QUEUE_BATCHES > 2

    async def taking(uploads):
        first = asyncio.create_task(uploads.take(batch("a0")))
        await asyncio.to_thread(store.is_writing.wait, PATIENCE_SECONDS)
        others = [asyncio.create_task(uploads.take(batch(name))) for name in ("a1", "a2")]
        await asyncio.sleep(0)  # each of them comes as far as the queue
        with pytest.raises(ServerRefusalError) as refusal:
            await uploads.take(batch("a3"))
        assert (refusal.value.status, refusal.value.reason) == (503, "busy")
        store.may_go_on.set()
        return await asyncio.gather(first, *others)

    store = SlowStore()
    with closing(Ingest(store, 1_000_000)) as uploads:
        assert len(asyncio.run(taking(uploads))) == 3


def test_what_waits_is_written_before_the_end():
    store = SlowStore()

    async def taking(uploads):
        tasks = [asyncio.create_task(uploads.take(batch("a0")))]
        await asyncio.to_thread(store.is_writing.wait, PATIENCE_SECONDS)
        tasks += [asyncio.create_task(uploads.take(batch("a1")))]
        await asyncio.sleep(0)  # each of them comes as far as the queue
        threading.Timer(0.05, store.may_go_on.set).start()
        await asyncio.to_thread(uploads.close)
        assert store.groups == [["a0"], ["a1"]]
        return await asyncio.gather(*tasks)

    assert [result.accepted for result in asyncio.run(taking(Ingest(store, 1_000_000)))] == [1, 1]
