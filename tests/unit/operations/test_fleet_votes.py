import pytest
import sqlalchemy as sa

from eguard.fleet import FleetStore
from eguard.fleet.tables import endpoint_agent
from eguard.operations import fleet_votes
from eguard.wire import BaselineRow

ROW = BaselineRow(
    process_key="bash:sshd",
    event_distribution={"process_exec": 1.0},
    sample_count=50,
    entropy_threshold=2.7,
    learned_at_unix=0.0,
    seq=1,
)


@pytest.fixture
def fleet(tmp_path):
    """A database in which four agents have uploaded a profile, and its URL."""
    url = f"sqlite:///{tmp_path}/fleet.sqlite"
    with FleetStore.create(url) as store:
        for agent in "abcd":
            store.upsert_baselines(agent, "i", [ROW])
        yield store, url


def test_an_agent_has_no_votes_to_count(examine):
    assert examine("fleet_votes").state == "skipped"


@pytest.mark.parametrize("url", ["sqlite:////nowhere/fleet.sqlite", "nonsense", "sqlite:///{tmp_path}/garbage"])
def test_a_database_that_cannot_be_read_is_the_other_checks_matter(examine, tmp_path, url):
    (tmp_path / "garbage").write_bytes(b"garbage" * 1000)
    found = examine("fleet_votes", database_url=url.format(tmp_path=tmp_path))
    assert (found.state, "see database" in found.cause) == ("skipped", True)


def test_without_the_library_it_is_skipped(examine, monkeypatch):
    monkeypatch.setattr(fleet_votes, "find_spec", lambda _: None)
    assert examine("fleet_votes", database_url="sqlite:////nowhere/fleet.sqlite").state == "skipped"


def test_before_the_first_aggregation_it_says_who_may_vote(examine, fleet):
    found = examine("fleet_votes", database_url=fleet[1])
    assert (found.state, "0 of 4 active agents may vote" in found.cause) == ("ok", True)


def test_votes_that_count_are_fine(examine, fleet):
    store, url = fleet
    store.aggregate()
    found = examine("fleet_votes", database_url=url)
    assert (found.state, "4 votes in generation 1" in found.cause) == ("ok", True)


def test_agents_of_one_token_are_a_warning_with_what_to_do(examine, fleet):
    store, url = fleet
    with store.database.write() as connection:
        connection.execute(sa.update(endpoint_agent).values(enrolled_with="one"))
    store.aggregate()
    found = examine("fleet_votes", database_url=url)
    assert (found.state, "3 of 4 votes did not count" in found.cause) == ("warning", True)
    assert "EGUARD_AGGREGATION_MAX_TOKEN_SHARE" in found.remedy
