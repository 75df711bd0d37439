"""Who may vote: age and heartbeats, and the share of a key's votes that one token has."""

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from eguard.clock import SimulatedClock
from eguard.errors import ConfigError
from eguard.fleet.kernel import AggregationRules
from eguard.fleet.store import FleetStore
from eguard.fleet.tables import endpoint_agent
from eguard.fleet.voters import NO_TOKEN, hour_of, token_code, vote_rank, voter_conditions, within_token_share

HOUR = 3600.0
DAY = 24 * HOUR
NOW = 1_772_000_000.0


def counted(tokens, share, starts=(0,), ranks=None):
    return within_token_share(np.array(starts), np.array(tokens, dtype=np.int64), share, ranks)


def most_votes_a_token(tokens, share):
    """The definition, tried out number by number."""
    free = int(np.count_nonzero(tokens < 0))
    sizes = [int(np.count_nonzero(tokens == token)) for token in np.unique(tokens[tokens >= 0])]
    fitting = [c for c in range(len(tokens) + 1) if c <= share * (free + sum(min(n, c) for n in sizes)) + 1e-9]
    return max(1, *fitting)


@pytest.mark.parametrize(
    ("sybils", "others", "share", "votes"),
    [
        (100, 60, 0.1, 6),  # 6 of 66; 7 of 67 would be more than a tenth
        (100, 63, 0.1, 7),  # exactly 7 of 70
        (100, 0, 0.1, 1),
        (2, 900, 0.1, 2),
        (100, 60, 0.5, 60),
        (100, 60, 1.0, 100),
        (10, 1, 0.1, 1),
    ],
)
def test_one_token_among_operators_agents(sybils, others, share, votes):
    mask = counted([3] * sybils + [NO_TOKEN] * others, share)
    assert mask[:sybils].sum() == votes
    assert mask[sybils:].all()


@pytest.mark.parametrize(("tokens", "votes"), [(9, 9), (10, 70), (11, 77)])
def test_tokens_that_are_enough_for_the_share_keep_all_votes(tokens, votes):
    assert counted(np.repeat(np.arange(tokens), 7), 0.1).sum() == votes


def test_what_one_token_loses_does_not_widen_the_share_of_the_next():
    # A tenth of all 1,070 votes would be 107 of each; but of the votes that count each may only have a tenth.
    mask = counted([1] * 500 + [2] * 500 + [NO_TOKEN] * 70, 0.1)
    assert [mask[:500].sum(), mask[500:1000].sum(), mask[1000:].sum()] == [8, 8, 70]


def test_the_lowest_ranks_stay_whatever_the_order_of_votes():
    ranks = np.array([5, 3, 9, 1])
    assert counted([7, 7, 7, 7], 0.1, ranks=ranks).tolist() == [False, False, False, True]
    assert counted([7, 7, 7, 7], 0.1).tolist() == [True, False, False, False]


def test_codes_and_ranks_are_the_same_everywhere():
    assert (token_code("t1"), vote_rank("a")) == (token_code("t1"), vote_rank("a"))
    assert vote_rank("web-1") != vote_rank("web-2")


@given(
    st.lists(st.lists(st.integers(-1, 12), min_size=1, max_size=40), min_size=1, max_size=5),
    st.sampled_from([0.05, 0.1, 0.2, 0.25, 1 / 3, 0.5, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_every_key_by_itself_gives_the_defined_number(keys, share, seed):
    votes = [np.array(key, dtype=np.int64) for key in keys]
    sizes = [len(key) for key in votes]
    ranks = np.random.default_rng(seed).permutation(sum(sizes))
    mask = within_token_share(np.cumsum(sizes) - sizes, np.concatenate(votes), share, ranks)
    for tokens, got, rank in zip(
        votes, *(np.split(each, np.cumsum(sizes)[:-1]) for each in (mask, ranks)), strict=True
    ):
        most = most_votes_a_token(tokens, share)
        assert got[tokens < 0].all()
        for token in set(tokens[tokens >= 0].tolist()):
            mine = np.flatnonzero(tokens == token)
            staying = mine[np.argsort(rank[mine])][:most]
            assert set(mine[got[mine]].tolist()) == set(staying.tolist())


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_is_above_zero_and_at_most_one(share):
    with pytest.raises(ConfigError, match="max_token_share"):
        AggregationRules(max_token_share=share)


class TestConditions:
    @pytest.fixture
    def store(self):
        with FleetStore.create("sqlite://", SimulatedClock(NOW)) as store:
            yield store

    def voters(self, store, rules, now=NOW, **changes):
        with store.database.write() as connection:
            row = {"agent_id": "a", "incarnation": "i", "incarnation_ordinal": 1, "group": "", "status": "active"}
            row |= {"enrolled_at": NOW - 2 * DAY, "last_heartbeat": NOW, "heard_hours": 30, "heard_hour": hour_of(NOW)}
            connection.execute(sa.insert(endpoint_agent).values(row | changes))
            query = sa.select(endpoint_agent.c.agent_id).where(*voter_conditions(rules, now))
            return list(connection.execute(query).scalars())

    @pytest.mark.parametrize(
        ("changes", "votes"),
        [
            ({}, True),
            ({"status": "quarantined"}, False),
            ({"status": "decommissioned"}, False),
            ({"last_heartbeat": NOW - 8 * DAY}, False),
            ({"last_heartbeat": None}, False),
            ({"enrolled_at": NOW - DAY + 1.0}, False),
            ({"enrolled_at": NOW - DAY}, True),
            ({"heard_hours": 23}, False),
            ({"heard_hours": 24}, True),
        ],
    )
    def test_of_an_agent(self, store, changes, votes):
        assert self.voters(store, AggregationRules(min_agent_age_seconds=DAY), **changes) == (["a"] if votes else [])

    def test_an_age_of_zero_asks_for_no_heartbeats(self, store):
        assert self.voters(store, AggregationRules(), enrolled_at=NOW, heard_hours=0) == ["a"]
