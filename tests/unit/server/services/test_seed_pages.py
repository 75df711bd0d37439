"""Pages of seeds: read once a generation, and never those of another."""

import msgspec
import pytest

from eguard.fleet.store import FleetStore
from eguard.server.services.seed_pages import PageWish, SeedPages
from eguard.wire.bodies import encode_body
from eguard.wire.fleet import FleetPage, FleetRow, decode_fleet_page


def row(key, agents=5):
    return FleetRow(
        process_key=f"program-{key}:parent",
        median_distribution={"process_exec": 1.0},
        agent_count=agents,
        stddev_kl=0.1,
        tolerated_faults=2,
        source="import",
    )


@pytest.fixture
def store(tmp_path):
    with FleetStore.create(f"sqlite:///{tmp_path}/fleet.db") as store:
        yield store


@pytest.fixture
def reads(store, monkeypatch):
    """Count how often rows are read."""
    counted = []
    read = store.current_page
    monkeypatch.setattr(store, "current_page", lambda **named: counted.append(named) or read(**named))
    return counted


def page_of(pages, limit, cursor):
    (page,) = pages.pages([PageWish(limit, cursor)])
    return page


def publish(store, keys, agents=5):
    store.import_rows([row(key, agents) for key in keys], "v", lambda _: None)


def test_pages_are_those_of_the_store_byte_for_byte(store, reads):
    publish(store, range(5))
    pages = SeedPages(store)
    for _ in range(3):
        first = page_of(pages, 2, "")
        rows = store.fleet_rows(limit=2)
        expected = FleetPage(
            seeded=2, generation=1, seed_enabled=True, fleet_baselines=rows, next_cursor=rows[-1].process_key
        )
        assert first.body == encode_body(expected)
        last = decode_fleet_page(page_of(pages, 2, "program-3:parent").body)
        assert ([each.process_key for each in last.fleet_baselines], last.next_cursor) == (["program-4:parent"], None)
    assert len(reads) == 2


def test_another_generation_is_seen_at_once(store, reads):
    publish(store, range(3))
    pages = SeedPages(store)
    assert page_of(pages, 10, "").seeded == 3
    publish(store, range(3), agents=9)
    page = decode_fleet_page(page_of(pages, 10, "").body)
    assert page.generation == 2
    assert {each.agent_count for each in page.fleet_baselines} == {9}
    assert len(reads) == 2


def test_what_is_kept_is_bounded_and_the_longest_unused_goes(store, reads):
    publish(store, range(10, 30))
    size = len(page_of(SeedPages(store), 1, "").body)
    pages = SeedPages(store, max_kept_bytes=3 * size)
    del reads[:]
    cursors = [f"program-{key}:parent" for key in (10, 11, 12)]
    for cursor in cursors:
        page_of(pages, 1, cursor)
    page_of(pages, 1, cursors[0])
    assert len(reads) == 3
    page_of(pages, 1, "program-13:parent")  # the second has to go
    for cursor in (cursors[0], cursors[2]):
        page_of(pages, 1, cursor)
    assert len(reads) == 4
    page_of(pages, 1, cursors[1])
    assert len(reads) == 5


def test_no_generation_is_an_empty_page(store):
    page = msgspec.json.decode(page_of(SeedPages(store), 10, "").body)
    assert (page["generation"], page["fleet_baselines"], page["next_cursor"]) == (0, [], None)


def test_wishes_of_many_are_met_in_their_order_and_whoever_may_not_gets_the_generation_alone(store, reads):
    publish(store, range(3))
    pages = SeedPages(store)
    wishes = [PageWish(1), PageWish(5, is_enabled=False), PageWish(2, "program-0:parent"), PageWish(1)]
    answered = [decode_fleet_page(each.body) for each in pages.pages(wishes)]
    assert [[row.process_key for row in each.fleet_baselines] for each in answered] == [
        ["program-0:parent"], [], ["program-1:parent", "program-2:parent"], ["program-0:parent"]
    ]  # fmt: skip
    assert [(each.generation, each.seed_enabled) for each in answered] == [(1, True), (1, False), (1, True), (1, True)]
    assert len(reads) == 2
