"""Heartbeats as evidence: in how many hours an agent was heard from since it enrolled."""

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eguard.clock import SimulatedClock
from eguard.fleet.store import FleetStore
from eguard.fleet.tables import endpoint_agent, endpoint_incarnation
from eguard.fleet.voters import hour_of
from eguard.server.principal import Principal, Role
from eguard.server.services.heartbeats import Beat, Heartbeats
from eguard.wire.control import Heartbeat

HOUR = 3600.0
START = 1_772_000_000.0


@pytest.fixture
def clock():
    return SimulatedClock(START)


@pytest.fixture
def heard(fleet, clock):
    """Return a function that heartbeats after some seconds and returns what is counted for agent a1."""
    heartbeats = Heartbeats(fleet, clock)
    beat = Heartbeat(agent_id="a1", incarnation="i", agent_version="1", baseline_status="learning")

    def after(seconds):
        clock.advance_to(clock.now() + seconds)
        heartbeats.take(Principal("a1", Role.AGENT), beat)
        query = sa.select(endpoint_agent.c.heard_hours, endpoint_agent.c.heard_hour)
        with fleet.read() as connection:
            return tuple(connection.execute(query.where(endpoint_agent.c.agent_id == "a1")).one())

    return after


def test_an_hour_counts_once_however_many_heartbeats_it_has(heard):
    left = HOUR - START % HOUR
    assert [heard(0.0)[0], heard(30.0)[0], heard(left - 31.0)[0], heard(2.0)[0]] == [1, 1, 1, 2]


def test_hours_without_a_heartbeat_do_not_count(heard, clock):
    assert heard(0.0) == (1, hour_of(START))
    assert heard(50 * HOUR) == (2, hour_of(clock.now()))


def test_a_day_of_heartbeats_is_counted_in_full(heard):
    assert [heard(1800.0)[0] for _ in range(48)][-1] in {24, 25}


def test_an_hour_that_comes_again_is_not_counted_again(fleet, heard):
    """Servers that share a database need not agree to the second on when the hour ends."""
    first = heard(HOUR)
    slow = Heartbeats(fleet, SimulatedClock(START))
    beat = Heartbeat(agent_id="a1", incarnation="i", agent_version="1", baseline_status="learning")
    slow.take(Principal("a1", Role.AGENT), beat)
    assert heard(0.0) == first


def test_uploads_are_signs_of_life_and_no_heartbeats(tmp_path, clock):
    with FleetStore.create(f"sqlite:///{tmp_path}/uploads.db", clock) as store:
        for _ in range(30):
            clock.advance_to(clock.now() + HOUR)
            store.register_agent("a1", "i")
        with store.database.read() as connection:
            row = connection.execute(sa.select(endpoint_agent)).mappings().one()
    assert (row["last_heartbeat"], row["heard_hours"], row["heard_hour"]) == (clock.now(), 0, None)


def lives_after(groups, *, one_by_one):
    """Return agents and incarnations of an empty database after groups of (agent, incarnation)."""
    with FleetStore.create("sqlite://") as store:
        heartbeats = Heartbeats(store.database, SimulatedClock(START))
        for group in groups:
            beats = [
                Beat(
                    Principal(name, Role.AGENT),
                    Heartbeat(agent_id=name, incarnation=life, agent_version="1", baseline_status="active"),
                )
                for name, life in group
            ]
            for part in [[beat] for beat in beats] if one_by_one else [beats]:
                heartbeats.take_all(part)
        agent = endpoint_agent.c
        seen = sa.select(
            agent.agent_id, agent.incarnation, agent.incarnation_ordinal, agent.cloned_at, agent.enrolled_at
        )
        with store.database.read() as connection:
            return (
                sorted(tuple(row) for row in connection.execute(seen)),
                sorted(tuple(row) for row in connection.execute(sa.select(endpoint_incarnation))),
            )


@given(st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("XYZ")), min_size=1, max_size=6), max_size=4))
@example([[("a", "X"), ("a", "Y"), ("a", "X")]])
@settings(max_examples=40, deadline=None)
def test_a_group_leaves_what_its_heartbeats_leave_one_after_the_other(groups):
    assert lives_after(groups, one_by_one=False) == lives_after(groups, one_by_one=True)
