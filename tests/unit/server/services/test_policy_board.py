"""Waiting for a policy: woken by a change here at once, by one elsewhere within half a second, never for nothing."""

import asyncio
import shutil
import threading
import time

import pytest
import sqlalchemy as sa

from eguard.clock import SystemClock
from eguard.errors import FleetStoreError
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent
from eguard.policy import parse_policy_document
from eguard.server.services.policies import Target
from eguard.server.services.policy_assembly import open_policies
from eguard.server.services.policy_writes import Assigned

AGENTS = [f"agent-{index}" for index in range(50)]
KILL = parse_policy_document({"baseline_upload_enabled": False, "fleet_seed_enabled": False})


@pytest.fixture
def database(tmp_path, sqlite_template):
    database = Database(f"sqlite:///{shutil.copy(sqlite_template, tmp_path)}")
    row = {"incarnation": "i", "incarnation_ordinal": 1, "group": "web", "status": "active", "enrolled_at": 0.0}
    with database.write() as connection:
        connection.execute(sa.insert(endpoint_agent), [row | {"agent_id": name} for name in AGENTS])
    yield database
    database.dispose()


@pytest.fixture
def here(database, tmp_path):
    return open_policies(database, SystemClock(), tmp_path / "keys")


async def waiting(services, agent_id=AGENTS[0], seconds=5.0, revision=None):
    """Wait as a route does; return whether there was news, and after how many seconds."""

    async def look():
        return await asyncio.to_thread(services.policies.revision_for, agent_id)

    revision = services.policies.revision_for(agent_id) if revision is None else revision
    begun = time.monotonic()
    told = await services.board.wait(agent_id, revision, seconds, look)
    return told, time.monotonic() - begun


def run(services, scenario):
    async def main():
        watching = asyncio.create_task(services.board.run())
        try:
            return await scenario()
        finally:
            services.board.close()
            await watching

    return asyncio.run(main())


def change(services, principal, policy_id="default"):
    services.policies.create(principal, policy_id, "v1", KILL)


def test_news_that_are_there_are_told_at_once(here, ada):
    told, seconds = run(here, lambda: waiting(here, revision=-1))
    assert told
    assert seconds < 1.0


def test_without_news_the_answer_is_no_after_the_wait(here):
    told, seconds = run(here, lambda: waiting(here, seconds=0.2))
    assert not told
    assert 0.2 <= seconds < 2.0
    assert not run(here, lambda: waiting(here, seconds=0.0))[0]


def test_everybody_who_waits_is_told_of_a_change_without_a_thread_each(here, ada):
    async def scenario():
        waiters = [asyncio.create_task(waiting(here, name)) for name in AGENTS]
        await asyncio.sleep(0.5)
        assert here.board.waiting == len(AGENTS)
        threads = threading.active_count()
        begun = time.monotonic()
        await asyncio.to_thread(change, here, ada)
        told = [each for each, _ in await asyncio.gather(*waiters)]
        return told, threads, time.monotonic() - begun

    told, threads, seconds = run(here, scenario)
    assert told == [True] * len(AGENTS)
    assert threads < len(AGENTS)
    assert seconds < 1.0
    assert here.board.waiting == 0


def test_a_change_of_this_process_does_not_wait_for_the_next_look(here, ada, monkeypatch):
    monkeypatch.setattr("eguard.server.services.policy_board._LOOK_SECONDS", 60.0)

    async def scenario():
        waiter = asyncio.create_task(waiting(here, seconds=20.0))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(change, here, ada)
        return (await waiter)[0]

    assert run(here, scenario)


def test_a_change_by_another_server_is_noticed(here, database, tmp_path, ada):
    elsewhere = open_policies(database, SystemClock(), tmp_path / "keys")

    async def scenario():
        waiter = asyncio.create_task(waiting(here))
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        await asyncio.to_thread(change, elsewhere, ada)
        told, _ = await waiter
        return told, time.monotonic() - begun

    told, seconds = run(here, scenario)
    assert told
    assert seconds < 1.5  # half a second, and a busy machine


def test_a_change_that_concerns_others_tells_nobody_else(here, ada):
    here.policies.create(ada, "other", "v1", KILL)

    async def scenario():
        waiters = [asyncio.create_task(waiting(here, name, seconds=1.0)) for name in AGENTS[:2]]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(here.policies.assign, ada, Target("agent", AGENTS[0]), Assigned("other"))
        return [told for told, _ in await asyncio.gather(*waiters)]

    assert run(here, scenario) == [True, False]


def test_closing_answers_whoever_waits(here):
    async def scenario():
        waiter = asyncio.create_task(waiting(here, seconds=30.0))
        await asyncio.sleep(0.1)
        here.board.close()
        return await waiter

    told, seconds = run(here, scenario)
    assert not told
    assert seconds < 5.0


def test_somebody_who_left_is_not_counted(here):
    async def scenario():
        waiter = asyncio.create_task(waiting(here, seconds=30.0))
        await asyncio.sleep(0.1)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        return here.board.waiting

    assert run(here, scenario) == 0


def test_a_database_that_is_away_for_a_while_ends_no_watch(here, ada, monkeypatch):
    state = here.view.state
    faults = iter([True, True])

    def sometimes(*arguments):
        if next(faults, False):
            raise FleetStoreError("away", reason="database_unavailable")
        return state(*arguments)

    async def scenario():
        waiter = asyncio.create_task(waiting(here, seconds=10.0))
        await asyncio.sleep(0.1)
        monkeypatch.setattr(here.view, "state", sometimes)
        await asyncio.to_thread(change, here, ada)
        return (await waiter)[0]

    assert run(here, scenario)


def test_nobody_waits_longer_than_a_minute(here, monkeypatch):
    monkeypatch.setattr("eguard.server.services.policy_board.MAX_WAIT_SECONDS", 0.1)
    assert run(here, lambda: waiting(here, seconds=1e9))[1] < 5.0
