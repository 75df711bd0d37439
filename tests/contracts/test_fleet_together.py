"""Several servers on one database: first contacts, incarnations and publications that meet. On both databases."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.fleet import FleetStore
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent, endpoint_baseline, endpoint_incarnation, server_counter
from eguard.wire import BaselineRow, encode_process_key

NOW = 1_772_000_000.0

#: Names that MariaDB's default collation takes for one, or that normal forms, case folding or padding would merge.
TWINS = (
    "bash",
    "Bash",
    "bash ",
    "bash\u00a0",
    "bäsh",
    "ba\u0308sh",
    "\uff42ash",
    "ba\u017fh",
    "bash🦀",
    "bash🦞",
    "bash\u200b",
)


@pytest.fixture
def servers(migrated_database_url):
    made = [FleetStore(migrated_database_url, SimulatedClock(NOW)) for _ in range(4)]
    yield made
    for store in made:
        store.close()


@pytest.fixture
def ask(migrated_database_url):
    database = Database(migrated_database_url)

    def run(query):
        with database.read() as connection:
            return [tuple(row) for row in connection.execute(query)]

    yield run
    database.dispose()


def row(key="bash:sshd", seq=1, samples=100):
    return BaselineRow(
        process_key=key,
        event_distribution={"process_exec": 1.0},
        sample_count=samples,
        entropy_threshold=3.0,
        learned_at_unix=NOW,
        seq=seq,
    )


def at_once(work, items):
    """Call `work` with every item from a thread of its own, all starting together; return the results in order."""
    start = threading.Barrier(len(items))

    def run(item):
        start.wait(10)
        return work(item)

    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(run, items))


def test_incarnations_that_are_heard_of_at_once_get_numbers_of_their_own(servers, ask):
    names = [f"incarnation-{number}" for number in range(12)]
    ordinals = at_once(lambda number: servers[number % 4].register_agent("a", names[number]), range(12))
    assert sorted(ordinals) == list(range(1, 13))
    assert sorted(ask(sa.select(endpoint_incarnation.c.incarnation, endpoint_incarnation.c.ordinal))) == sorted(
        zip(names, ordinals, strict=True)
    )
    last = names[ordinals.index(12)]
    assert ask(sa.select(endpoint_agent.c.incarnation, endpoint_agent.c.incarnation_ordinal)) == [(last, 12)]


def test_a_batch_that_reaches_all_servers_at_once_is_accepted_once(servers, ask):
    rows = [row(f"p{number}:init") for number in range(20)]
    for step in range(5):
        results = at_once(lambda server: server.upsert_baselines(f"agent-{step}", "first", rows), servers)  # noqa: B023
        assert sorted((result.accepted, result.unchanged) for result in results) == [(0, 20)] * 3 + [(20, 0)]
    assert ask(sa.select(sa.func.count()).select_from(endpoint_baseline)) == [(100,)]


def test_generations_published_at_once_follow_each_other(servers, ask):
    for agent in "abc":
        servers[0].upsert_baselines(agent, "first", [row()])
    reports = at_once(lambda server: server.aggregate(), servers)
    assert sorted(report.generation for report in reports) == [1, 2, 3, 4]
    assert servers[0].current_generation() == 4
    assert len(servers[0].health_history()) == 2 * 3
    counter = sa.select(server_counter.c.value).where(server_counter.c.name == "fleet_generation")
    assert ask(counter) == [(4,)]
    assert at_once(lambda server: server.rollback(1), servers[:2]) in ([5, 6], [6, 5])


def test_eleven_twins_are_eleven_agents_with_eleven_keys_each(servers, ask):
    keys = [encode_process_key("init", name) for name in TWINS]
    for number, agent in enumerate(TWINS):
        result = servers[0].upsert_baselines(agent, agent, [row(key, samples=100 + number) for key in keys])
        assert (result.accepted, result.rejected) == (11, [])
    columns = endpoint_baseline.c
    stored = ask(sa.select(columns.agent_id, columns.process_key, columns.sample_count))
    assert sorted(stored) == sorted((agent, key, 100 + n) for n, agent in enumerate(TWINS) for key in keys)
    assert {number for (number,) in ask(sa.select(endpoint_incarnation.c.ordinal))} == {1}
    servers[0].aggregate()
    published = servers[0].fleet_rows()
    assert [item.process_key for item in published] == sorted(keys)
    assert {item.agent_count for item in published} == {11}
    servers[0].remove_agent("bash")
    assert ask(sa.select(sa.func.count()).select_from(endpoint_baseline)) == [(110,)]
