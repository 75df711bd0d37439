"""Whatever happens between cycles, aggregating what changed gives the generation that aggregating everything gives."""

import shutil
from contextlib import ExitStack, suppress

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eguard.clock import SimulatedClock
from eguard.errors import FleetStoreError
from eguard.fleet import FleetStore
from eguard.fleet.cycle_memory import read_states
from eguard.fleet.tables import endpoint_agent, fleet_health, fleet_voter
from eguard.wire import BaselineRow, ContinuousMoments, Moments, distribution_from_vector

DAY = 86_400.0
AGENTS = [f"agent-{number}" for number in range(8)]
KEYS = [f"p{number}:init" for number in range(5)]
TOKENS = [None, "first", "second"]

agent = st.sampled_from(AGENTS)
deeds = st.one_of(
    st.tuples(st.just("upload"), agent, st.sets(st.sampled_from(KEYS), min_size=1), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("upload"), agent, st.sets(st.sampled_from(KEYS), min_size=1), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("quarantine"), agent),
    st.tuples(st.just("release"), agent),
    st.tuples(st.just("remove"), agent),
    st.tuples(st.just("remove without a word"), agent),
    st.tuples(st.just("decommission"), agent),
    st.tuples(st.just("token"), agent, st.sampled_from(TOKENS)),
    st.tuples(st.just("hear"), agent),
    st.tuples(st.just("wait"), st.sampled_from([60.0, DAY / 2, 3 * DAY, 8 * DAY, 29.9 * DAY])),
    st.tuples(st.just("purge")),
    st.tuples(st.just("rollback"), st.integers(1, 6)),
    st.tuples(st.just("cycle"), st.sampled_from([{}, {"min_agents": 4}, {"min_agent_age_seconds": DAY}])),
    st.tuples(st.just("cycle"), st.just({})),
    st.tuples(st.just("cycle"), st.just({})),
)


def row(key, seed, seq):
    rng = np.random.default_rng((seed, KEYS.index(key)))
    counts = rng.multinomial(int(rng.integers(20, 400)), rng.dirichlet(np.full(8, 0.7)))
    moments = Moments(count=40, mean=float(rng.normal(3.0, 1.0)), m2=1.0)
    return BaselineRow(
        process_key=key,
        event_distribution=distribution_from_vector(counts / counts.sum()),
        sample_count=int(counts.sum()),
        entropy_threshold=3.0,
        learned_at_unix=0.0,
        continuous=ContinuousMoments(interarrival=moments) if rng.random() < 0.8 else None,
        seq=seq,
    )


class Twins:
    """Two stores to which the same is done; one of them always aggregates everything."""

    def __init__(self, urls):
        self.clock = SimulatedClock(1_772_000_000.0)
        self.stores = [FleetStore(url, self.clock) for url in urls]
        self.seq = 0
        self.recomputed = 0

    def do(self, deed, *arguments):
        if deed == "wait":
            self.clock.advance_to(self.clock.now() + arguments[0])
            return
        if deed == "upload":
            self.seq += 1
        reports = [self._do(store, deed, *arguments) for store in self.stores]
        if deed == "cycle":
            self.compare(*reports)

    def _do(self, store, deed, *arguments):
        agent_row = sa.update(endpoint_agent).where(endpoint_agent.c.agent_id == arguments[0]) if arguments else None
        if deed == "upload":
            rows = [row(key, arguments[2], self.seq) for key in sorted(arguments[1])]
            store.upsert_baselines(arguments[0], "first", rows)
        elif deed == "cycle":
            return store.aggregate(is_full=store is self.stores[1], **arguments[0])
        elif deed == "purge":
            store.purge_expired()
        elif deed == "remove":
            store.remove_agent(arguments[0])
        elif deed in {"quarantine", "release", "rollback"}:
            with suppress(FleetStoreError):  # there may be no such agent, or no such generation
                getattr(store, deed)(arguments[0])
        else:
            with store.database.write() as connection:
                connection.execute(
                    {
                        "remove without a word": sa.delete(endpoint_agent).where(
                            endpoint_agent.c.agent_id == arguments[0]
                        ),
                        "decommission": agent_row.values(status="decommissioned"),
                        "token": agent_row.values(enrolled_with=arguments[-1]),
                        "hear": agent_row.values(last_heartbeat=self.clock.now()),
                    }[deed]
                )
        return None

    def compare(self, incremental, full):
        self.recomputed += incremental.recomputed_keys
        ignored = {"duration_ms", "recomputed_keys", "full_because"}
        wanted = {name: value for name, value in full.to_dict().items() if name not in ignored}
        assert {name: value for name, value in incremental.to_dict().items() if name not in ignored} == wanted
        assert incremental.recomputed_keys <= len(KEYS)
        one, other = (store.fleet_details() for store in self.stores)
        assert one == other
        one, other = (self._all(store) for store in self.stores)
        assert one == other

    @staticmethod
    def _all(store):
        with store.database.read() as connection:
            health = connection.execute(sa.select(fleet_health).order_by(*fleet_health.primary_key)).all()
            voters = connection.execute(sa.select(fleet_voter).order_by(fleet_voter.c.agent_id)).all()
            return health, read_states(connection), voters


@pytest.fixture(scope="module")
def make_twins(migrated_sqlite, tmp_path_factory):
    folder = tmp_path_factory.mktemp("twins")

    def make():
        urls = [f"sqlite:///{shutil.copy(migrated_sqlite, folder / f'{name}.db')}" for name in ("one", "other")]
        return Twins(urls)

    return make


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(deeds, min_size=3, max_size=25))
def test_an_incremental_generation_is_the_full_one(make_twins, course):
    twins = make_twins()
    with ExitStack() as opened:
        for store in twins.stores:
            opened.enter_context(store)
        for number in range(4):
            twins.do("upload", AGENTS[number], set(KEYS), number)
        twins.do("cycle", {})
        for deed in course:
            twins.do(*deed)
        twins.do("cycle", {})


def test_the_comparison_tells_what_was_recomputed(make_twins):
    """The property would hold of a store that always aggregates everything; this one does not."""
    twins = make_twins()
    with twins.stores[0], twins.stores[1]:
        for number in range(5):
            twins.do("upload", AGENTS[number], set(KEYS), number)
        twins.do("cycle", {})
        twins.recomputed = 0
        twins.do("cycle", {})
        assert twins.recomputed == 0
        twins.do("upload", AGENTS[0], {KEYS[2]}, 99)
        twins.do("cycle", {})
        assert twins.recomputed == 1
        twins.do("quarantine", AGENTS[1])
        twins.do("cycle", {})
        assert twins.recomputed == 1 + len(KEYS)
        twins.do("wait", 6.9 * DAY)
        for number in range(5):
            twins.do("hear", AGENTS[number])
        twins.do("cycle", {})
        assert twins.recomputed == 1 + len(KEYS)


def test_votes_that_expire_are_missed_although_nobody_says_so(make_twins):
    """By chance alone this comes seldom: agents go on being heard while their rows get old."""
    twins = make_twins()
    with twins.stores[0], twins.stores[1]:
        for number in range(4):
            twins.do("upload", AGENTS[number], set(KEYS), number)
        twins.do("wait", 20 * DAY)
        twins.do("upload", AGENTS[0], {KEYS[1]}, 9)
        twins.do("wait", 9.9 * DAY)
        for number in range(4):
            twins.do("hear", AGENTS[number])
        twins.do("cycle", {})
        twins.recomputed = 0
        twins.do("wait", DAY / 2)
        twins.do("cycle", {})
        assert twins.recomputed == len(KEYS)
        assert twins.stores[0].fleet_rows() == []
