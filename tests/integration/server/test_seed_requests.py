"""The short way to a page of seeds and the ordinary one give the same answers, to good and to odd questions."""

import pytest
from server_place import server_place

from eguard.server import app
from eguard.wire.fleet import FleetRow

PATH = "/endpoint/baseline/fleet"
KEYS = ("a b:c", "a%3Ab:c", "caf\u00e9:sh", "x+y:z&w=1")
QUERIES = (
    "",
    "limit=2",
    "limit=0002",
    "limit=2&cursor=",
    "limit=2&cursor=a%20b%3Ac",
    "limit=2&cursor=a b:c",
    "limit=2&cursor=a+b:c",
    "limit=1&cursor=a%253Ab%3Ac",
    "limit=4&cursor=caf%C3%A9%3Ash",
    "limit=4&cursor=%FF",
    "cursor=a%3A&limit=3",
    "limit=3&limit=1",
    "limit=3&other=1",
    "limit=0",
    "limit=1001",
    "limit=99999",
    "limit=-1",
    "limit=two",
    f"limit=2&cursor={'k' * 512}",
    f"limit=2&cursor={'k' * 513}",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with server_place(tmp_path_factory.mktemp("place")) as running:
        rows = [
            FleetRow(
                process_key=key,
                median_distribution={"process_exec": 1.0},
                agent_count=5,
                stddev_kl=0.1,
                tolerated_faults=2,
                source="import",
            )
            for key in sorted(KEYS)
        ]
        running.context.store.import_rows(rows, "v", lambda _: None)
        yield running


@pytest.fixture(scope="module")
def agent(place):
    return place.agent("a1")


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_both_ways_answer_alike(agent, monkeypatch, query):
    answers = [agent.get(f"{PATH}?{query}")]
    monkeypatch.setattr(app, "DIRECT_ROUTES", {})
    answers.append(agent.get(f"{PATH}?{query}"))
    short, ordinary = ((each.status_code, each.headers["content-type"], each.json()) for each in answers)
    assert short == ordinary
    assert (short[0] == 200) == (query not in QUERIES[13:18] + QUERIES[19:])


def test_pages_follow_each_other_to_the_end(agent):
    found, cursor = [], ""
    while cursor is not None:
        page = agent.get(PATH, params={"limit": 1, "cursor": cursor}).json()
        found += [each["process_key"] for each in page["fleet_baselines"]]
        cursor = page["next_cursor"]
    assert found == sorted(KEYS)
