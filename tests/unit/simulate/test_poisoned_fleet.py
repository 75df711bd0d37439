"""The server of a simulated fleet: what goes in over the wire comes out as a generation."""

import numpy as np
import pytest

from eguard.clock import SimulatedClock
from eguard.fleet import FleetStore
from eguard.simulate.poisoned_fleet import CYCLE_SECONDS, Outcome, PoisonedFleet

COUNTS = np.array([60, 20, 0, 0, 0, 20, 0, 0])
LIE = np.eye(8)[3]


@pytest.fixture
def fleet():
    clock = SimulatedClock(1e9)
    with FleetStore.create("sqlite://", clock) as store:
        yield PoisonedFleet(store, clock, "svc:boot"), store, clock


def test_three_agents_make_a_generation_and_a_liar_does_not_decide_it(fleet):
    server, store, clock = fleet
    for agent in "abc":
        server.upload_counts(agent, COUNTS)
    report = server.aggregate()
    assert (report.generation, report.votes, clock.now()) == (1, 3, 1e9 + CYCLE_SECONDS)
    before = server.published("trimmed_median", np.empty((0, 8)))
    np.testing.assert_allclose(before.distribution, COUNTS / 100, atol=1e-7)
    assert (before.mass, before.tolerated_faults) == (pytest.approx(1.0), 1)
    server.upload_vote("liar", LIE, 10**9, seq=1)
    server.aggregate()
    after = server.published("trimmed_median", np.empty((0, 8)))
    assert before.total_variation(after) == pytest.approx(0.0, abs=1e-7)
    assert store.current_generation() == 2


def test_a_later_vote_replaces_an_earlier_one(fleet):
    server, _, _ = fleet
    for seq in (1, 2):
        for agent in "abc":
            server.upload_vote(agent, np.eye(8)[seq], 50, seq=seq)
    assert server.aggregate().votes == 3
    np.testing.assert_allclose(server.published("trimmed_median", np.empty((0, 8))).distribution, np.eye(8)[2])


def test_another_aggregator_takes_the_same_votes(fleet):
    server, _, _ = fleet
    votes = np.vstack([np.tile(COUNTS / 100, (3, 1)), LIE])
    np.testing.assert_allclose(server.published("mean", votes).distribution, votes.mean(axis=0))


def test_a_key_that_nobody_published_has_no_distance():
    nothing, something = Outcome(None, None, None), Outcome(LIE, 1.0, 1)
    assert nothing.total_variation(something) is something.total_variation(nothing) is None
    assert nothing.js_nats(something) is None
    assert something.total_variation(Outcome(np.eye(8)[0], 1.0, 1)) == 1.0
    assert something.js_nats(Outcome(np.eye(8)[0], 1.0, 1)) == pytest.approx(np.log(2))
